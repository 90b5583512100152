"""The device plane as a bare ASGI application: routing by hand, because a poll is most of its work."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from distribution.catalog import HEX_DIGEST
from distribution.device_plane import ofrep
from distribution.device_plane.asgi import (
    JSON,
    Receive,
    Scope,
    Send,
    accepts_gzip,
    read_body,
    refuse_websocket,
    send_answer,
    send_json,
    send_problem,
)
from distribution.device_plane.events import (
    MOST_COMPRESSED_BYTES,
    EventSink,
    SinkUnavailableError,
    read_batch,
)
from distribution.device_plane.fast_lane import FastLane
from distribution.device_plane.files import Download, Files, files_unavailable
from distribution.device_plane.firebase import Facade
from distribution.device_plane.live import Live, LiveLimits
from distribution.device_plane.poll import Headers, Poll, same_etag
from distribution.device_plane.problems import Problem, not_found, unavailable
from distribution.device_plane.query import read_unit
from distribution.device_plane.state import Applications, AppState, ChannelState
from distribution.device_plane.tree import TreeReader, safe_path

OCTETS = b"application/octet-stream"
RETRY_AFTER_SECONDS = 30
MOST_LIST = 1 << 20  # bytes of a list of patches
_READS = ("GET", "HEAD")
_UPGRADE = {"upgrade": "websocket", "connection": "upgrade"}

logger = logging.getLogger("aerogram.device_plane")


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_app(
    tree: TreeReader,
    events: EventSink,
    *,
    clock: Callable[[], datetime] = utc_now,
    refresh_seconds: float = 0.3,
    reader_threads: int = 8,
    facade: Facade | None = None,
    revisions: "RevisionFeed | None" = None,
    live: LiveLimits | None = None,
) -> "DevicePlane":
    """`refresh_seconds` is the pause between looks at the tree; a publish is visible after at most that and a load.

    With `revisions` it is looked at as soon as one is announced. Without a `facade` nothing answers below `/v1beta2`.
    """
    return DevicePlane(
        tree,
        events,
        clock=clock,
        refresh_seconds=refresh_seconds,
        reader_threads=reader_threads,
        facade=facade,
        revisions=revisions,
        live=live,
    )


class RevisionFeed(Protocol):
    """Announcements of revisions, which may be late, doubled or missing."""

    async def listen(self, hint: Callable[[str | None], None]) -> None:
        """For ever: call `hint` with an application's name, or with None when any may have changed."""

    async def close(self) -> None: ...


class DevicePlane:
    """The ASGI application: routes by hand, watches for revisions, and hands each request to what answers it."""

    def __init__(
        self,
        tree: TreeReader,
        events: EventSink,
        *,
        clock: Callable[[], datetime],
        refresh_seconds: float,
        reader_threads: int,
        facade: Facade | None = None,
        revisions: RevisionFeed | None = None,
        live: LiveLimits | None = None,
    ) -> None:
        self.applications = Applications(tree)
        self.facade = facade
        self.events = events
        self.clock = clock
        self.refresh_seconds = refresh_seconds
        self.executor = ThreadPoolExecutor(reader_threads, thread_name_prefix="tree")
        # The watcher has its own thread: slow downloads must not keep a new revision waiting.
        self.loader = ThreadPoolExecutor(1, thread_name_prefix="revision")
        self.files = Files(tree, self.executor)
        self.poll = Poll()
        self.fast_lane = FastLane(self.applications, self.poll)
        self.revisions = revisions
        self.live = Live(live or LiveLimits(), self._take_batch)
        self._hints: set[str | None] = set()
        self._hinted = asyncio.Event()
        self._looked_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._route(scope, receive, send)
            except Problem as problem:
                await send_problem(scope, send, problem)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._websocket(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"].split("/"):
            case ["", "v1", "apps", app, "channels", channel, "manifests"]:
                await self._poll(scope, send, app, channel, None)
            case ["", "v1", "apps", app, "channels", channel, "manifests", model]:
                await self._poll(scope, send, app, channel, model)
            case ["", "v1", "apps", app, "channels", channel, "catalog"]:
                await self._catalog(scope, send, app, channel)
            case ["", "v1", "apps", app, "blobs", "sha256", digest]:
                await self._blob(scope, receive, send, self._app(app), digest)
            case ["", "v1", "apps", app, "patches", digest]:
                await self._patches(scope, send, self._app(app), digest)
            case ["", "v1", "apps", app, "trust", name]:
                await self._trust(scope, receive, send, self._app(app), name)
            case ["", "v1", "apps", app, "targets", *segments]:
                await self._listed(scope, receive, send, _target_download(self._app(app), "/".join(segments)))
            case ["", "v1", "apps", app, "events"]:
                await self._events(scope, receive, send, self._app(app))
            case ["", "healthz"]:
                await self._health(scope, send)
            case _:
                await self._elsewhere(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            match scope["path"].split("/"):
                case ["", "v1", "apps", app, "live"]:
                    await self.live.serve(scope, receive, send, self._app(app))
                case _:
                    raise not_found("unknown_path", f"nothing is served at {scope['path'][:200]}")
        except Problem as problem:
            await refuse_websocket(send, problem)

    async def _elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["path"].split("/"):
            case ["", "v1", "apps", app, "manifests", *segments]:
                return await self._listed(scope, receive, send, _manifest_download(self._app(app), "/".join(segments)))
            case ["", "v1", "apps", app, "live"]:
                _allow(scope, "GET")
                self._app(app)
                raise Problem(426, "upgrade_required", "Upgrade: expected websocket", headers=_UPGRADE)
            case ["", "v1", "apps", app, "channels", channel, "ofrep", "v1", "evaluate", "flags"]:
                return await self._flags(scope, receive, send, app, channel, None)
            case ["", "v1", "apps", app, "channels", channel, "ofrep", "v1", "evaluate", "flags", key]:
                return await self._flags(scope, receive, send, app, channel, key)
        if self.facade is None or not scope["path"].startswith("/v1beta2/"):
            raise not_found("unknown_path", f"nothing is served at {scope['path'][:200]}")
        now, apps = self.clock(), self.applications.by_name
        await self.facade.answer(scope, receive, send, applications=apps, files=self.files, now=now)
        return None

    async def _flags(self, scope: Scope, receive: Receive, send: Send, app: str, channel: str, key: str | None) -> None:
        _allow(scope, "POST")
        _, state = self._channel(app, channel)
        await ofrep.answer(scope, receive, send, state, key)

    async def _poll(self, scope: Scope, send: Send, app: str, channel: str, model: str | None) -> None:
        method = scope["method"]
        if method not in _READS:
            raise _method_not_allowed(method, _READS)
        app_state, channel_state = self._channel(app, channel)
        headers = dict(scope["headers"])
        raw_unit = headers.get(b"aerogram-unit")
        unit = read_unit(raw_unit) if raw_unit else None
        answer = self.poll.answer(app_state, channel_state, scope["query_string"], model, unit)
        if_none_match = headers.get(b"if-none-match")
        if if_none_match is not None and same_etag(if_none_match, answer.etag):
            await send_answer(send, 304, answer.headers_304, b"")
        else:
            await send_answer(send, 200, answer.headers_200, b"" if method == "HEAD" else answer.body)

    async def _catalog(self, scope: Scope, send: Send, app: str, channel: str) -> None:
        _allow(scope, *_READS)
        app_state, state = self._channel(app, channel)
        headers = dict(scope["headers"])
        packed = accepts_gzip(headers.get(b"accept-encoding", b""))
        tag = state.catalog_sha256 + ("-gzip" if packed else "")
        common: Headers = [
            (b"etag", f'"{tag}"'.encode()),
            (b"aerogram-revision", b"%d" % app_state.revision),
            (b"cache-control", b"public, max-age=60"),
            (b"vary", b"Accept-Encoding"),
        ]
        if same_etag(headers.get(b"if-none-match", b""), common[0][1]):
            await send_answer(send, 304, common, b"")
            return
        body = state.catalog_gzip if packed else state.catalog_bytes
        encoding: Headers = [(b"content-encoding", b"gzip")] if packed else []
        fields = [(b"content-type", JSON), (b"content-length", b"%d" % len(body)), *encoding, *common]
        await send_answer(send, 200, fields, b"" if scope["method"] == "HEAD" else body)

    async def _blob(self, scope: Scope, receive: Receive, send: Send, app: AppState, digest: str) -> None:
        _allow(scope, *_READS)
        _require_digest(digest)
        await self.files.send(scope, receive, send, _blob_download(app, digest, OCTETS))

    async def _patches(self, scope: Scope, send: Send, app: AppState, digest: str) -> None:
        """Which patches lead to a file. 404 is normal: the file is fetched whole then."""
        _allow(scope, *_READS)
        _require_digest(digest)
        loop = asyncio.get_running_loop()
        try:
            path = f"patches/{digest}.json"
            body = await loop.run_in_executor(self.executor, self.files.tree.read, app.application, path, MOST_LIST)
        except FileNotFoundError:
            raise not_found("unknown_file", f"{app.application} has no patches for {digest}") from None
        except OSError as error:
            raise files_unavailable(f"{app.application}/patches/{digest}", error) from error
        fields = [
            (b"content-type", JSON),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"public, max-age=60"),
        ]
        await send_answer(send, 200, fields, b"" if scope["method"] == "HEAD" else body)

    async def _trust(self, scope: Scope, receive: Receive, send: Send, app: AppState, name: str) -> None:
        """timestamp.json comes from memory: it must not be ahead of what polls answer, nor half-written."""
        _allow(scope, *_READS)
        if name == "timestamp.json":
            body = app.timestamp_bytes
            length = b"%d" % len(body)
            fields = [(b"content-type", JSON), (b"content-length", length), (b"cache-control", b"public, max-age=10")]
            await send_answer(send, 200, fields, b"" if scope["method"] == "HEAD" else body)
            return
        if not (name.endswith(".json") and name[0].isdigit() and safe_path(name)):
            raise not_found("unknown_file", f"{app.application} has no trust file {name[:80]}")
        await self.files.send(scope, receive, send, Download(app.application, f"trust/{name}", JSON, None))

    async def _listed(self, scope: Scope, receive: Receive, send: Send, download: Download) -> None:
        """A target that a role lists, or a manifest that a catalog lists: its name says nothing of who asks."""
        _allow(scope, *_READS)
        await self.files.send(scope, receive, send, download)

    async def _events(self, scope: Scope, receive: Receive, send: Send, app: AppState) -> None:
        _allow(scope, "POST")
        headers = dict(scope["headers"])
        unit = read_unit(headers.get(b"aerogram-unit", b""))
        content_type = headers.get(b"content-type", JSON).partition(b";")[0].strip().lower()
        if content_type != JSON:
            detail = f"Content-Type: expected application/json, got {content_type.decode('latin-1')[:80]}"
            raise Problem(415, "unsupported_media_type", detail, field="Content-Type")
        data = await read_body(headers, receive, MOST_COMPRESSED_BYTES)
        encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        await send_json(send, 202, await self._take_batch(app.application, unit, data, encoding))

    async def _take_batch(self, application: str, unit: str, data: bytes, encoding: str) -> dict[str, Any]:
        batch = await asyncio.get_running_loop().run_in_executor(self.executor, read_batch, data, encoding)
        if batch.accepted:
            await self._append(application, unit, batch.document)
        return {"accepted": batch.accepted, "rejected": [asdict(rejected) for rejected in batch.rejected]}

    async def _append(self, application: str, unit: str, document: Mapping[str, Any]) -> None:
        fields = {
            "application": application,
            "received_at": self.clock().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "unit": unit,
            "batch": json.dumps(document, separators=(",", ":")),
        }
        try:
            await self.events.append(fields)
        except SinkUnavailableError as error:
            logger.warning("application %s: a batch of events was refused: %s", application, error)
            detail = "the event stream does not take events now; keep them and try again"
            raise unavailable("events_unavailable", detail, retry_after_seconds=RETRY_AFTER_SECONDS) from error

    async def _health(self, scope: Scope, send: Send) -> None:
        """200 as long as something is served: an expired timestamp is for the publisher to mend, not for a restart."""
        _allow(scope, *_READS)
        now, errors = self.clock(), self.applications.errors
        apps = {
            name: {
                "revision": state.revision,
                "timestamp_expires_in_seconds": int((state.timestamp_expires - now).total_seconds()),
                "error": errors.get(name),
            }
            for name, state in self.applications.by_name.items()
        }
        expired = any(app["timestamp_expires_in_seconds"] <= 0 for app in apps.values())  # type: ignore[operator]
        document = {"status": "degraded" if expired or errors else "ok", "applications": apps, "errors": errors}
        await send_json(send, 200, document)

    def _app(self, name: str) -> AppState:
        state = self.applications.by_name.get(name)
        if state is None:
            raise not_found("unknown_application", f"application: nothing is published for {name[:80]!r}", field="app")
        return state

    def _channel(self, app: str, channel: str) -> tuple[AppState, ChannelState]:
        app_state = self._app(app)
        state = app_state.channels.get(channel)
        if state is None:
            known = ", ".join(sorted(app_state.channels)) or "none"
            detail = f"channel: expected one of {known}, got {channel[:80]!r}"
            raise not_found("unknown_channel", detail, field="channel")
        return app_state, state

    async def refresh(self, names: Collection[str] | None = None) -> None:
        """Look at the tree once, off the event loop: at all applications, or at those named."""
        before = self.applications.by_name
        look = self.applications.refresh if names is None else partial(self.applications.refresh_named, names)
        await asyncio.get_running_loop().run_in_executor(self.loader, look)
        await self.live.announce(before, self.applications.by_name)

    def hint(self, application: str | None) -> None:
        """Somebody says that an application changed (None: that any may have). Seen to by `watch`."""
        self._hints.add(application)
        self._hinted.set()

    async def watch(self) -> None:
        """Look at the tree for ever: at everything when its time has come, in between at what was hinted at."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(max(loop.time(), self._looked_at + self.refresh_seconds)):
                    await self._hinted.wait()
            hints, self._hints = self._hints, set()
            self._hinted.clear()
            everything = not hints or None in hints or loop.time() >= self._looked_at + self.refresh_seconds
            if everything:
                self._looked_at = loop.time()
            try:
                await (self.refresh() if everything else self.refresh([name for name in hints if name is not None]))
            except Exception:
                # A watcher that died would serve an old revision for ever, and nobody would notice.
                logger.exception("looking at the tree failed; trying again")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        tasks: list[asyncio.Task[None]] = []
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.refresh()
                tasks.append(asyncio.create_task(self.watch()))
                if self.revisions is not None:
                    tasks.append(asyncio.create_task(self.revisions.listen(self.hint)))
                await send({"type": "lifespan.startup.complete"})
            else:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def close(self) -> None:
        await self.live.close()
        if self.revisions is not None:
            await self.revisions.close()
        await self.events.close()
        self.executor.shutdown(wait=False)
        self.loader.shutdown(wait=False)


def _blob_download(app: AppState, digest: str, content_type: bytes) -> Download:
    return Download(app.application, f"blobs/sha256/{digest[:2]}/{digest}", content_type, f'"{digest}"'.encode())


def _target_download(app: AppState, path: str) -> Download:
    """Model files lie in the blob store; whatever else the roles list (catalogs) lies under targets/."""
    digest, _, base = path.rpartition("/")[2].partition(".")
    if not (HEX_DIGEST.fullmatch(digest) and base and safe_path(path)):
        raise not_found("unknown_file", f"{app.application} has no target {path[:200]}")
    if path.startswith("models/"):
        return _blob_download(app, digest, OCTETS)
    return Download(app.application, f"targets/{path}", JSON, f'"{digest}"'.encode())


def _manifest_download(app: AppState, path: str) -> Download:
    if not (path.endswith(".json") and safe_path(path)):
        raise not_found("unknown_file", f"{app.application} has no manifest {path[:200]}")
    return Download(app.application, f"manifests/{path}", JSON, None)


def _require_digest(digest: str) -> None:
    if not HEX_DIGEST.fullmatch(digest):
        detail = f"digest: expected 64 lower-case hex digits, got {digest[:80]!r}"
        raise Problem(400, "invalid_field", detail, field="digest")


def _allow(scope: Scope, *methods: str) -> None:
    if scope["method"] not in methods:
        raise _method_not_allowed(scope["method"], methods)


def _method_not_allowed(method: str, allowed: tuple[str, ...]) -> Problem:
    listed = ", ".join(allowed)
    return Problem(
        405, "method_not_allowed", f"method: expected {listed}, got {method[:20]}", headers={"allow": listed}
    )
