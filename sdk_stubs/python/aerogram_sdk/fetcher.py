"""HTTP towards the device plane: polls, trust metadata, files with resume, event batches."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

from aerogram_sdk.errors import (
    DownloadTooLong,
    DownloadTruncated,
    DownloadUnavailable,
    PollFailed,
    PollMalformed,
    Unavailable,
)

MOST_POLL_BYTES = 4 << 20
MOST_LIST_BYTES = 1 << 20
MOST_RETRY_AFTER_SECONDS = 86_400
MOST_ATTEMPTS_PER_FILE = 8
MOST_SECONDS_PER_DOCUMENT = 120
LEAST_BYTES_PER_SECOND = 256
# Any coding would make lengths, ranges and digests speak of other bytes than the ones listed.
IDENTITY = {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """Body of a 200, or of the remembered 200 that a 304 confirmed."""

    body: Mapping[str, Any]
    etag: str


class DevicePlane:
    """The URLs of one application on one server.

    Redirects are followed for files only: the installation id in the headers of the rest is for this server alone.
    """

    def __init__(self, http: httpx.Client, server: str, application: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._base = f"{server.rstrip('/')}/v1/apps/{quote(application, safe='')}"
        self._headers = dict(headers)

    @property
    def trust_url(self) -> str:
        return f"{self._base}/trust/"

    @property
    def targets_url(self) -> str:
        return f"{self._base}/targets/"

    def file_url(self, path: str) -> str:
        """Of a file of the signed tree, by its path below the application."""
        return f"{self._base}/{path}"

    def poll_url(self, channel: str, query: Mapping[str, str]) -> str:
        """Members sorted, so that equal devices share one cache entry."""
        return str(
            httpx.URL(f"{self._base}/channels/{quote(channel, safe='')}/manifests", params=sorted(query.items()))
        )

    def poll(self, url: str, *, remembered: PollAnswer | None, fresh: bool = False) -> PollAnswer:
        """Raises PollFailed or PollMalformed. `fresh` asks every cache on the way to stand aside."""
        headers = self._headers | IDENTITY | ({"Cache-Control": "no-cache"} if fresh else {})
        if remembered and not fresh:
            headers["If-None-Match"] = remembered.etag
        try:
            with self._http.stream("GET", url, headers=headers, follow_redirects=False) as response:
                if response.status_code == httpx.codes.NOT_MODIFIED and remembered:
                    return remembered
                body = _bounded_body(response, MOST_POLL_BYTES)
        except httpx.HTTPError as error:
            raise PollFailed(f"poll: expected an answer from {url}, got {error!r}") from error
        if response.status_code != httpx.codes.OK:
            raise PollFailed(
                f"poll: expected 200 or 304, got {response.status_code} {body[:200].decode(errors='replace')}",
                status=response.status_code,
                retry_after_seconds=retry_after_seconds(response),
            )
        return PollAnswer(_poll_body(body), response.headers.get("ETag", ""))

    def download(self, digest: str, length: int, part: Path) -> None:
        """Bring `part` to exactly `length` bytes, continuing what is there; its hash is the caller's to check.

        Each attempt continues where the last one broke, as long as it brought something. The server may send us to an
        address that ends soon; each attempt asks the server itself, so once refused there, a new address is asked for.
        Raises DownloadUnavailable, DownloadTruncated (what arrived is kept) or DownloadTooLong (it is not).
        """
        url = f"{self._base}/blobs/sha256/{digest}"
        may_ask_again = True
        for _ in range(MOST_ATTEMPTS_PER_FILE):
            before = _size(part)
            try:
                return PartialDownload(self._http, url, length, part).proceed()
            except _AddressRefused:
                if not may_ask_again:
                    raise
                may_ask_again = False
            except DownloadTruncated:
                if _size(part) <= before:
                    raise
                may_ask_again = True
        return PartialDownload(self._http, url, length, part).proceed()

    def patch_list(self, digest: str) -> bytes | None:
        """Which patches lead to a file; None if there are none. Raises DownloadUnavailable."""
        url = f"{self._base}/patches/{digest}"
        try:
            with self._http.stream("GET", url, headers=IDENTITY, follow_redirects=False) as response:
                if response.status_code == httpx.codes.NOT_FOUND:
                    return None
                body = _bounded_body(response, MOST_LIST_BYTES)
        except httpx.HTTPError as error:
            raise DownloadUnavailable(f"patches: expected an answer from {url}, got {error!r}") from error
        if response.status_code != httpx.codes.OK:
            raise DownloadUnavailable(f"patches: expected 200 or 404 from {url}, got {response.status_code}")
        return body

    def post_events(self, body: bytes) -> int:
        """POST one gzipped batch; the status. Raises Unavailable if no answer came."""
        headers = self._headers | {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            return self._http.post(
                f"{self._base}/events", content=body, headers=headers, follow_redirects=False
            ).status_code
        except httpx.HTTPError as error:
            raise Unavailable(f"events: expected an answer, got {error!r}") from error


class _AddressRefused(DownloadUnavailable):
    """The address that the server sent us to does not hold any more, or never did."""


class PartialDownload:
    """One file on its way: `part` holds the first bytes, `part` + `.etag` the entity they belong to."""

    def __init__(self, http: httpx.Client, url: str, length: int, part: Path) -> None:
        self._http, self._url, self._length, self._part = http, url, length, part
        self._etag_file = part.with_name(part.name + ".etag")
        self._answered = False

    def proceed(self) -> None:
        """One request for what is missing."""
        start = self._usable_start()
        if start == self._length:
            self._part.touch()  # an empty file needs no request, but it must be there
            return
        try:
            with self._http.stream(
                "GET", self._url, headers=self._range_headers(start), follow_redirects=True
            ) as response:
                self._receive(response, start)
        except (httpx.TransportError, httpx.StreamError) as error:
            self._refuse_short(error)
        except httpx.HTTPError as error:
            raise DownloadUnavailable(f"download: expected an answer from {self._url}, got {error!r}") from error
        self._refuse_short(None)

    def discard(self) -> None:
        self._part.unlink(missing_ok=True)
        self._etag_file.unlink(missing_ok=True)

    def _usable_start(self) -> int:
        """Bytes that may be kept: none without a tag to compare, none if there are more than the file has."""
        size = _size(self._part)
        if size > self._length or (0 < size < self._length and not self._etag_file.exists()):
            self.discard()
            return 0
        return size

    def _range_headers(self, start: int) -> dict[str, str]:
        if not start:
            return IDENTITY
        return IDENTITY | {"Range": f"bytes={start}-", "If-Range": self._etag_file.read_text()}

    def _receive(self, response: httpx.Response, start: int) -> None:
        self._answered = True
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.discard()
            raise DownloadUnavailable(f"download: expected bytes from {start} of {self._length}, got 416")
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            refused = response.history and response.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.FORBIDDEN)
            raise (_AddressRefused if refused else DownloadUnavailable)(
                f"download: expected 200 or 206 from {self._url}, got {response.status_code}",
                retry_after_seconds=retry_after_seconds(response),
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadUnavailable(f"download: expected no coding, got {response.headers['Content-Encoding']}")
        # Some object storages send the range with 200; Content-Range tells what they sent.
        partial = response.status_code == httpx.codes.PARTIAL_CONTENT
        resumed = partial or (start > 0 and "Content-Range" in response.headers)
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise DownloadUnavailable(f"download: expected bytes {start}-, got {response.headers.get('Content-Range')}")
        self._refuse_long(start if resumed else 0, response.headers.get("Content-Length", "0"))
        with self._part.open("ab" if resumed else "wb") as part:
            self._remember_tag(response)
            self._append(part, response)

    def _append(self, part: BinaryIO, response: httpx.Response) -> None:
        """Never writes a byte past the listed length."""
        # No chunk size for iter_raw: it would hold back, and lose when the connection breaks, what has arrived.
        begun_at, begun = monotonic(), part.tell()
        size = begun
        for chunk in response.iter_raw():
            size += len(chunk)
            self._refuse_long(size, "0")
            part.write(chunk)
            _refuse_trickle(size - begun, monotonic() - begun_at, self._url)

    def _remember_tag(self, response: httpx.Response) -> None:
        tag = response.headers.get("ETag", "")
        if tag and not tag.startswith("W/"):
            self._etag_file.write_text(tag)
        else:
            self._etag_file.unlink(missing_ok=True)

    def _refuse_long(self, start: int, more: str) -> None:
        announced = start + int(more) if more.isdigit() else start
        if announced > self._length:
            self.discard()
            raise DownloadTooLong(f"download: expected {self._length} bytes from {self._url}, got {announced} or more")

    def _refuse_short(self, error: Exception | None) -> None:
        size = _size(self._part)
        if size == self._length:
            return
        if error and not self._answered:
            raise DownloadUnavailable(f"download: expected an answer from {self._url}, got {error!r}") from error
        raise DownloadTruncated(
            f"download: expected {self._length} bytes, got {size} so far from {self._url}"
        ) from error


class TufFetcher(FetcherInterface):
    """Lets the TUF client share the connection pool."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def _fetch(self, url: str) -> Iterator[bytes]:
        with (
            _as_download_error(url),
            self._http.stream("GET", url, headers=IDENTITY, follow_redirects=True) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise DownloadHTTPError(f"expected 200 from {url}, got {response.status_code}", response.status_code)
            yield from _in_time(response.iter_raw(), url)


def retry_after_seconds(response: httpx.Response) -> int | None:
    """Seconds form only, capped at a day."""
    text = response.headers.get("Retry-After", "")
    return min(int(text), MOST_RETRY_AFTER_SECONDS) if text.isdigit() else None


def _in_time(chunks: Iterator[bytes], url: str) -> Iterator[bytes]:
    """A server that sends a byte now and then must not hold the device for ever. Raises httpx.ReadTimeout."""
    end = monotonic() + MOST_SECONDS_PER_DOCUMENT
    for chunk in chunks:
        if monotonic() > end:
            raise httpx.ReadTimeout(f"expected all of {url} within {MOST_SECONDS_PER_DOCUMENT} s")
        yield chunk


def _refuse_trickle(size: int, seconds: float, url: str) -> None:
    """What arrived is kept. Raises httpx.ReadTimeout."""
    if seconds > MOST_SECONDS_PER_DOCUMENT and size < seconds * LEAST_BYTES_PER_SECOND:
        raise httpx.ReadTimeout(f"expected {LEAST_BYTES_PER_SECOND} bytes/s from {url}, got {size} in {seconds:.0f} s")


@contextmanager
def _as_download_error(url: str) -> Iterator[None]:
    # The base class wraps only what is raised before the first byte.
    try:
        yield
    except httpx.HTTPError as error:
        raise DownloadError(f"expected an answer from {url}, got {error!r}") from error


def _bounded_body(response: httpx.Response, most_bytes: int) -> bytes:
    body = b""
    for chunk in _in_time(response.iter_raw(), str(response.url)):
        body += chunk
        if len(body) > most_bytes:
            raise PollMalformed(f"poll: expected at most {most_bytes} bytes, got more")
    return body


def _poll_body(data: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PollMalformed(f"poll: expected JSON in UTF-8, got {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("models"), dict):
        raise PollMalformed("poll: expected an object with `models`, got something else")
    return document


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
