"""The live channel: a WebSocket on which phones hear of new revisions and hand in events. Losing it loses nothing.

A connection that idles costs one waiting task. What it is to be told is at most one revision for each channel: a newer
one takes the place of an older one that was not sent yet, so a phone that does not read makes nothing grow. Messages of
phones are taken one at a time; the next is not even read from the socket before the one is answered.

Close codes are those of RFC 6455: 1008 after too many messages in a row that were refused, 1009 for one that is too
long, 1011 when no pong came, 1012 when the server ends; whoever is closed comes back after a pause with jitter.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from distribution.catalog import NAME
from distribution.device_plane.problems import Problem, bad_field, unavailable
from distribution.device_plane.query import read_unit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from distribution.device_plane.state import AppState

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    TakeBatch = Callable[[str, str, bytes, str], Awaitable[dict[str, Any]]]

RETRY_AFTER_SECONDS = 60
MOST_REFUSALS = 10
POLICY_VIOLATION = 1008
_BURST = 200  # connections told before polls get their turn

logger = logging.getLogger("aerogram.device_plane")


@dataclass(frozen=True)
class LiveLimits:
    """Connections in one worker, and from one address: many phones share one behind a carrier.

    `origins`: web pages that may connect; apps send no Origin. `proxies`: whose X-Forwarded-For is believed.
    """

    most: int = 10_000
    most_per_address: int = 512
    origins: frozenset[str] = frozenset()
    proxies: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(eq=False, slots=True)
class Listener:
    """One accepted connection. `due` are revisions by channel that it has not been sent."""

    send: Send
    channel: str | None
    due: dict[str, int] = field(default_factory=dict)
    telling: bool = False


class Live:
    """All live connections of one worker. `take_batch(application, unit, data, encoding)` gives an answer's members."""

    def __init__(self, limits: LiveLimits, take_batch: TakeBatch) -> None:
        self.limits = limits
        self.take_batch = take_batch
        self.listeners: dict[str, set[Listener]] = {}
        self.addresses: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        return self.addresses.total()

    async def serve(self, scope: Mapping[str, Any], receive: Receive, send: Send, state: AppState) -> None:
        """Raises Problem before the connection is accepted: 400, 403, 429 or 503."""
        headers = dict(scope["headers"])
        raw_unit = headers.get(b"aerogram-unit")
        unit = read_unit(raw_unit) if raw_unit else None
        channel = _read_channel(scope["query_string"], state)
        self._require_origin(headers)
        address = self._address(scope, headers)
        self._require_room(address)
        self.addresses[address] += 1
        listener = Listener(send, channel)
        listeners = self.listeners.setdefault(state.application, set())
        try:
            await receive()  # websocket.connect
            await send({"type": "websocket.accept"})
            listeners.add(listener)
            self._tell(listener, {name: state.revision for name in state.channels if channel in (None, name)})
            await self._listen(receive, send, state.application, unit)
        finally:
            listeners.discard(listener)
            self.addresses[address] -= 1
            if not self.addresses[address]:
                del self.addresses[address]

    async def announce(self, before: Mapping[str, AppState], now: Mapping[str, AppState]) -> None:
        """Tell the listeners of each channel whose catalog is another one than before."""
        for application, state in now.items():
            old = before.get(application)
            changed = dict.fromkeys(_changed_channels(old, state), state.revision)
            listeners = list(self.listeners.get(application, ())) if changed else []
            for index, listener in enumerate(listeners):
                self._tell(listener, {n: r for n, r in changed.items() if listener.channel in (None, n)})
                if index % _BURST == _BURST - 1:
                    await asyncio.sleep(0)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self, receive: Receive, send: Send, application: str, unit: str | None) -> None:
        refusals = 0
        while (message := await receive())["type"] == "websocket.receive":
            try:
                answer = await self._take(message, application, unit)
                refusals = 0
            except Problem as problem:
                answer = {**json.loads(problem.body()), **_retry_after(problem), "type": "error"}
                refusals += problem.status < 500  # noqa: PLR2004  # theirs, not ours
            await _send_json(send, answer)
            if refusals > MOST_REFUSALS:
                await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "too many refused messages"})
                return

    async def _take(self, message: Mapping[str, Any], application: str, unit: str | None) -> dict[str, Any]:
        if unit is None:
            raise bad_field("Aerogram-Unit", "the header, when the connection was opened, before any events", "none")
        text = message.get("text")
        data = text.encode() if text is not None else message["bytes"]
        return {"type": "ack", **await self.take_batch(application, unit, data, "" if text is not None else "gzip")}

    def _tell(self, listener: Listener, revisions: Mapping[str, int]) -> None:
        listener.due.update(revisions)
        if listener.due and not listener.telling:
            listener.telling = True
            task = asyncio.get_running_loop().create_task(_send_due(listener))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _require_origin(self, headers: Mapping[bytes, bytes]) -> None:
        """Browsers send one, and whoever visits a page has not chosen to speak to us; apps send none."""
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and origin not in self.limits.origins:
            detail = f"Origin: expected none or one that the server allows, got {origin[:80]!r}"
            raise Problem(403, "origin_not_allowed", detail, field="Origin")

    def _require_room(self, address: str) -> None:
        if self.addresses[address] >= self.limits.most_per_address:
            detail = f"live: expected at most {self.limits.most_per_address} connections from one address, got more"
            raise Problem(429, "too_many_connections", detail, headers={"retry-after": str(RETRY_AFTER_SECONDS)})
        if self.count >= self.limits.most:
            detail = f"live: expected at most {self.limits.most} connections, got more"
            raise unavailable("live_full", detail, retry_after_seconds=RETRY_AFTER_SECONDS)

    def _address(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> str:
        """The peer's, or what a proxy we believe says of its own peer: the last entry, which it wrote itself."""
        peer = str((scope.get("client") or ("",))[0])
        forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip()
        return forwarded if forwarded and _is_within(peer, self.limits.proxies) else peer


def _read_channel(query: bytes, state: AppState) -> str | None:
    named = parse_qs(query.decode("latin-1")[:1_024]).get("channel", [])
    if not named:
        return None
    if len(named) > 1 or not NAME.fullmatch(named[0]) or named[0] not in state.channels:
        raise bad_field("channel", f"one of {', '.join(sorted(state.channels))}", ", ".join(named))
    return named[0]


def _changed_channels(before: AppState | None, now: AppState) -> Iterable[str]:
    for name, state in now.channels.items():
        old = before.channels.get(name) if before is not None else None
        if old is None or old.catalog_sha256 != state.catalog_sha256:
            yield name


async def _send_due(listener: Listener) -> None:
    try:
        while listener.due:
            channel, revision = listener.due.popitem()
            await _send_json(listener.send, {"type": "revision", "channel": channel, "revision": revision})
    except Exception as error:  # noqa: BLE001  # a phone that went away; servers differ in how they say so
        logger.debug("a hint was not sent: %s", error)
    finally:
        listener.telling = False


async def _send_json(send: Send, document: Mapping[str, Any]) -> None:
    await send({"type": "websocket.send", "text": json.dumps(document, separators=(",", ":"))})


def _retry_after(problem: Problem) -> dict[str, int]:
    seconds = problem.headers.get("retry-after")
    return {} if seconds is None else {"retry_after_seconds": int(seconds)}


def _is_within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in network for network in networks)
