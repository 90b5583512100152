"""The live channel: hears of revisions and polls then. Optional (extra `live`): regular polls miss nothing either.

A hint is not signed and changes nothing: what is installed is decided by the poll it leads to and by the trust tree.
Whoever forges hints makes a phone poll once each, at most every `spread_seconds` on average.
"""

import json
from collections.abc import Callable, Mapping
from random import random
from threading import Event
from typing import Any, Protocol

from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

SPREAD_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 300.0
LOOK_SECONDS = 1.0
MOST_MESSAGE_BYTES = 64 << 10
PING_SECONDS = 60.0
# Trying again changes none of these: no such application, a page that may not, a server without live channels.
FOR_GOOD = (400, 403, 404, 426)


class Stop(Protocol):
    """What `threading.Event` is: `wait` returns whether it was set meanwhile."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


class LiveChannel:
    """One application's channel on one server. `poll` is called from the thread that follows."""

    def __init__(
        self,
        server: str,
        application: str,
        channel: str,
        headers: Mapping[str, str],
        poll: Callable[[], object],
        *,
        spread_seconds: float = SPREAD_SECONDS,
        chance: Callable[[], float] = random,
    ) -> None:
        """`server`: http(s)://…; `chance` gives numbers of 0 to 1."""
        scheme, _, rest = server.rstrip("/").partition("://")
        self.url = f"{'wss' if scheme == 'https' else 'ws'}://{rest}/v1/apps/{application}/live?channel={channel}"
        self.revision = 0
        self._channel, self._headers, self._poll = channel, dict(headers), poll
        self._spread_seconds, self._chance = spread_seconds, chance

    def follow(self, stop: Stop | None = None) -> None:
        """Until `stop` is set, or the server refuses for good. Network trouble is not raised."""
        stop, failures = stop or Event(), 0
        while not stop.is_set():
            heard = self.revision
            try:
                with self._connect() as socket:
                    self._listen(socket, stop)
            except InvalidStatus as refusal:
                if refusal.response.status_code in FOR_GOOD:
                    return
            except (OSError, TimeoutError, WebSocketException, InvalidHandshake):
                pass
            failures = 0 if self.revision != heard else failures + 1
            pause = min(LONGEST_PAUSE_SECONDS, 2.0**failures)
            if stop.is_set() or stop.wait(pause * (0.5 + self._chance() / 2)):
                return

    def _connect(self) -> ClientConnection:
        return connect(
            self.url,
            additional_headers=self._headers,
            compression=None,
            max_size=MOST_MESSAGE_BYTES,
            ping_interval=PING_SECONDS,
        )

    def _listen(self, socket: ClientConnection, stop: Stop) -> None:
        while not stop.is_set():
            try:
                message = socket.recv(timeout=LOOK_SECONDS)
            except TimeoutError:
                continue
            revision = self._revision_in(message)
            if revision > self.revision:
                self.revision = revision
                # All phones hear of it at once; they must not all come at once.
                if stop.wait(self._spread_seconds * self._chance()):
                    return
                self._poll()

    def _revision_in(self, message: str | bytes) -> int:
        """0 if it is no hint for this channel."""
        try:
            document: Any = json.loads(message)
            mine = document["type"] == "revision" and document["channel"] == self._channel
            return int(document["revision"]) if mine else 0
        except (ValueError, TypeError, KeyError):
            return 0
