"""Files of the tree over HTTP: HEAD, one range, 304, 416; streamed piece by piece, read in threads."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any, NamedTuple, TypeVar

from distribution.device_plane.poll import same_etag
from distribution.device_plane.problems import Problem, not_found, unavailable
from distribution.device_plane.ranges import ByteRange, Unsatisfiable, parse_range
from distribution.device_plane.tree import OpenFile, TreeReader

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_T = TypeVar("_T")
RETRY_AFTER_SECONDS = 30
IMMUTABLE = b"public, max-age=31536000, immutable, no-transform"

logger = logging.getLogger("aerogram.device_plane")


class Download(NamedTuple):
    """Which file of the tree, and how it is presented. `etag` None: no conditional requests and no ranges."""

    application: str
    path: str
    content_type: bytes
    etag: bytes | None


class Files:
    """Answers with files of the tree, or with the address in a bucket where the client finds them itself."""

    def __init__(self, tree: TreeReader, executor: Executor) -> None:
        self.tree = tree
        self.executor = executor

    async def send(self, scope: Mapping[str, Any], receive: Receive, send: Send, download: Download) -> None:
        """Raises Problem: 404 if there is no such file, 416 if the range lies behind its end."""
        headers = dict(scope["headers"])
        if download.etag is not None and same_etag(headers.get(b"if-none-match", b""), download.etag):
            fields = [(b"etag", download.etag), (b"cache-control", IMMUTABLE)]
            await _send_bodiless(send, 304, fields)
            return
        if scope["method"] == "GET" and (url := await self._read(self.tree.url, download)) is not None:
            # The client sends Range and If-Range along; the address ends, so the answer must not be kept.
            fields = [(b"location", url.encode()), (b"cache-control", b"no-store"), (b"content-length", b"0")]
            await _send_bodiless(send, 302, fields)
            return
        file: OpenFile = await self._read(self.tree.open, download)
        try:
            await self._send_open(scope, receive, send, download, file)
        finally:
            file.close()

    async def _read(self, read: Callable[[str, str], _T], download: Download) -> _T:
        loop = asyncio.get_running_loop()
        name = download.path.rpartition("/")[2]
        try:
            return await loop.run_in_executor(self.executor, read, download.application, download.path)
        except FileNotFoundError:
            raise not_found("unknown_file", f"{download.application} has no file {name}") from None
        except OSError as error:
            raise files_unavailable(f"{download.application}/{name}", error) from error

    async def _send_open(  # ASGI's three, and what to send
        self, scope: Mapping[str, Any], receive: Receive, send: Send, download: Download, file: OpenFile
    ) -> None:
        wanted = _wanted_range(scope["method"], dict(scope["headers"]), file.size, download.etag)
        span = wanted or ByteRange(0, file.size)
        fields = _fields(download, file.size, span, partial=wanted is not None)
        if scope["method"] == "HEAD" or span.start == span.end:
            await _send_bodiless(send, 200, fields)
            return
        await send({"type": "http.response.start", "status": 206 if wanted else 200, "headers": fields})
        if wanted is None and file.path is not None and "http.response.pathsend" in (scope.get("extensions") or {}):
            await send({"type": "http.response.pathsend", "path": file.path})
            return
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await self._stream(send, file, span, gone)
        finally:
            gone.cancel()

    async def _stream(self, send: Send, file: OpenFile, span: ByteRange, gone: "asyncio.Future[None]") -> None:
        """Stops when the phone has gone: servers may swallow what is sent then, and the rest would be read in vain."""
        loop = asyncio.get_running_loop()
        chunks = file.chunks(span.start, span.end)
        while (chunk := await loop.run_in_executor(self.executor, _next, chunks)) is not None:
            if gone.done():
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def files_unavailable(name: str, error: OSError) -> Problem:
    """For a store that does not answer: trying later is right."""
    logger.warning("%s cannot be read: %s", name, error)
    detail = "the store does not answer now; try again later"
    return unavailable("files_unavailable", detail, retry_after_seconds=RETRY_AFTER_SECONDS)


def _wanted_range(method: str, headers: Mapping[bytes, bytes], size: int, etag: bytes | None) -> ByteRange | None:
    """A range counts for GET only, and with If-Range only while the file is still the one the client began with."""
    header = headers.get(b"range")
    if header is None or method != "GET" or etag is None or headers.get(b"if-range", etag) != etag:
        return None
    try:
        return parse_range(header, size)
    except Unsatisfiable:
        raise Problem(
            416,
            "range_not_satisfiable",
            f"Range: expected a start below {size} bytes, got {header.decode('latin-1')[:80]}",
            field="Range",
            headers={"content-range": f"bytes */{size}"},
        ) from None


def _fields(download: Download, size: int, span: ByteRange, *, partial: bool) -> list[tuple[bytes, bytes]]:
    fields = [
        (b"content-type", download.content_type),
        (b"content-length", b"%d" % (span.end - span.start)),
        (b"cache-control", IMMUTABLE),
    ]
    if download.etag is not None:
        fields += [(b"etag", download.etag), (b"accept-ranges", b"bytes")]
    if partial:
        fields.append((b"content-range", b"bytes %d-%d/%d" % (span.start, span.end - 1, size)))
    return fields


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _next(chunks: Iterator[bytes]) -> bytes | None:
    with contextlib.suppress(StopIteration):
        return next(chunks)
    return None


async def _send_bodiless(send: Send, status: int, fields: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
