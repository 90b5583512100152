"""HTTP/1.1 of the device plane: uvicorn's protocol on llhttp, with a fast lane for polls, limits and deadlines.

Both lanes stand behind the same parser, in its strict mode, so they cannot disagree about where a request ends. A
connection is always in one of four phases, each of which may last only so long:

| phase   | the connection waits for                    | ends with            | after          |
|---------|---------------------------------------------|----------------------|----------------|
| idle    | the next request (or the first)             | closed               | `idle_seconds` |
| head    | the rest of a request line and its headers  | 408, closed          | `head_seconds` |
| body    | the rest of a body                          | 408, closed          | `body_seconds` |
| stalled | a client that does not read what it is sent | reset                | `stall_seconds` |

More bytes do not prolong a phase: a client that sends one byte a second is closed like one that sends none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from distribution.device_plane.problems import Problem

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

LONGEST_URL = 10_240  # a query may have 8 192 bytes, and a longer one is told so by the application
MOST_HEAD_BYTES = 32_768
SWEEP_SECONDS = 1.0


class Deadlines(NamedTuple):
    """Seconds that each phase of a connection may last. Idle is longer than nginx' own 60 s for an upstream."""

    idle_seconds: float = 75.0
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    stall_seconds: float = 60.0


class TooLarge(Exception):  # the situation; answered as the problem it carries
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class DeviceProtocol(HttpToolsProtocol):
    """One connection. The application must be a `DevicePlane` (or have its `fast_lane`)."""

    deadlines: ClassVar[Deadlines] = Deadlines()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.fast_lane = config.loaded_app.fast_lane
        self.sweeper = Sweeper.of(server_state, self.loop)
        self.phase = "idle"
        self.phase_began = self.loop.time()
        self.refused = False
        self.stalled_since: float | None = None
        self._line_bytes = 0
        self._read_bytes = 0
        self._begun = 0
        self._due: Problem | None = None
        self._taken = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.sweeper.watch()

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        self._unset_keepalive_if_required()
        phase, begun = self.phase, self._begun + (self.phase != "head")
        try:
            self.parser.feed_data(data)
            if self.phase == "head" and phase != "body" and self._begun <= begun:
                # All of it belongs to this one head, of which perhaps no line is whole yet.
                self._read_bytes += len(data)
                _require_bounded(self._read_bytes)
        except TooLarge as error:
            self.refuse(error.problem)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError as error:
            cause = error.__context__
            problem = cause.problem if isinstance(cause, TooLarge) else _malformed()
            self.refuse(problem)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._line_bytes = self._read_bytes = 0
        self._begun += 1
        self.phase, self.phase_began = "head", self.loop.time()

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > LONGEST_URL:
            detail = f"request target: expected at most {LONGEST_URL} bytes, got more"
            raise TooLarge(Problem(414, "uri_too_long", detail))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))
        self._line_bytes += len(name) + len(value) + 4
        _require_bounded(self._line_bytes)

    def on_headers_complete(self) -> None:
        if self._answer_at_once():
            self._taken = True
            return
        self.phase, self.phase_began = "body", self.loop.time()
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in headers
        )
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.phase, self.phase_began = "idle", self.loop.time()
        if self._taken:
            self._taken = False
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.phase == "idle":
            self.phase_began = self.loop.time()
        super().on_response_complete()
        if self._due is not None and not self._busy() and not self.transport.is_closing():
            self._write_and_close(self._due)

    def pause_writing(self) -> None:
        self.stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.stalled_since = None
        super().resume_writing()

    def refuse(self, problem: Problem) -> None:
        """Answer what no application saw, after the answers that are due, and close.

        Bytes of its own in the midst of another answer would be taken for a part of it.
        """
        self.refused = True
        if self.phase != "body" and self._busy():
            self._due = problem
            return
        if self.phase == "body" and (self.pipeline or self.cycle.response_started):
            self.transport.close()
            return
        if self._busy():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._write_and_close(problem)

    def _write_and_close(self, problem: Problem) -> None:
        body = problem.body()
        fields = [
            *self.server_state.default_headers,
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + body)
        self.transport.close()

    def sweep(self, now: float) -> None:
        """End the phase the connection is in, if its time is over. `now` on the loop's clock."""
        limits, waited = self.deadlines, now - self.phase_began
        if self.stalled_since is not None and now - self.stalled_since > limits.stall_seconds:
            self.transport.abort()
        elif self.phase == "head" and waited > limits.head_seconds:
            self.refuse(_timeout("headers", limits.head_seconds))
        elif self.phase == "body" and waited > limits.body_seconds:
            self.refuse(_timeout("body", limits.body_seconds))
        elif self.phase == "idle" and waited > limits.idle_seconds and not self._busy():
            self.transport.close()

    def _answer_at_once(self) -> bool:
        """Write the answer of a poll. Never while another is under way, or while the client does not read."""
        parser = self.parser
        method = parser.get_method()
        if method not in (b"GET", b"HEAD") or self._busy() or self.flow.write_paused:
            return False
        if parser.get_http_version() != "1.1" or not parser.should_keep_alive() or self.transport.is_closing():
            return False
        response = self.fast_lane.answer(method, self.url, self.headers, self.sweeper.default_lines())
        if response is None:
            return False
        self.server_state.total_requests += 1
        self.transport.write(response)
        return True

    def _busy(self) -> bool:
        return (self.cycle is not None and not self.cycle.response_complete) or bool(self.pipeline)

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self.handle_websocket_upgrade()
            return
        # The application answers as if nothing had been asked; what follows may be of another protocol.
        self.refused = True
        if self._busy():
            self.cycle.keep_alive = False


class Sweeper:
    """Looks at all connections of a server once a second: one timer, however many connections there are."""

    def __init__(self, server_state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        self.server_state = server_state
        self.loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._default_headers: list[tuple[bytes, bytes]] | None = None
        self._default_lines = b""

    @classmethod
    def of(cls, server_state: ServerState, loop: asyncio.AbstractEventLoop) -> Sweeper:
        found = vars(server_state).get("sweeper")
        if not isinstance(found, cls):
            found = vars(server_state)["sweeper"] = cls(server_state, loop)
        return found

    def watch(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(SWEEP_SECONDS, self._tick)

    def sweep(self, now: float) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, DeviceProtocol):
                connection.sweep(now)

    def default_lines(self) -> bytes:
        """What uvicorn puts before the application's headers (Date), which it renews every second."""
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            self._default_headers = headers
            self._default_lines = b"".join(b"%s: %s\r\n" % field for field in headers)
        return self._default_lines

    def _tick(self) -> None:
        self._timer = None
        self.sweep(self.loop.time())
        if self.server_state.connections:
            self.watch()


def _require_bounded(head_bytes: int) -> None:
    if head_bytes > MOST_HEAD_BYTES:
        detail = f"headers: expected at most {MOST_HEAD_BYTES} bytes, got more"
        raise TooLarge(Problem(431, "headers_too_large", detail))


def _malformed() -> Problem:
    return Problem(400, "malformed_request", "request: expected HTTP/1.1, got something else")


def _timeout(part: str, seconds: float) -> Problem:
    detail = f"request: expected its {part} within {seconds:g} seconds, got a part of it"
    return Problem(408, "request_timeout", detail)
