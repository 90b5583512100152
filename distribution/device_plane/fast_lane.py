"""Polls answered between two reads of a socket: no task, no ASGI messages, the bytes that the application would send.

Only what is plainly a good poll is taken; whatever else a request may be (a body, an upgrade, a bad field, an unknown
channel, a connection to be closed) is left to the application: there is one place where such things are decided.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from distribution.device_plane.poll import Prepared, same_etag
from distribution.device_plane.problems import Problem
from distribution.device_plane.query import UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distribution.device_plane.poll import Poll
    from distribution.device_plane.state import Applications, AppState, ChannelState

MOST_TARGETS = 4_096
LONGEST_TARGET = 1_024
_UNIT = re.compile(UNIT.pattern.encode())
# A request that carries one of these is more than a poll, or says more about its connection than a poll does.
_NOT_PLAIN = frozenset(
    (b"content-length", b"expect", b"transfer-encoding", b"upgrade", b"http2-settings", b"te", b"trailer")
)
_OK = b"HTTP/1.1 200 OK\r\n"
_NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\n"


class Target(NamedTuple):
    """A request target, understood."""

    app: AppState
    channel: ChannelState
    prepared: Prepared


class FastLane:
    """Bound to one application object. Of one thread only: that of the event loop."""

    def __init__(self, applications: Applications, poll: Poll) -> None:
        self.applications = applications
        self.poll = poll
        self._targets: dict[bytes, Target] = {}
        self._known: tuple[object, int] = (None, 0)

    def answer(
        self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], default_headers: bytes
    ) -> bytes | None:
        """The whole response to a request without a body over HTTP/1.1; None to leave it to the application.

        Names of `headers` are in lower case; `default_headers` are lines that go before the answer's own.
        """
        fields = dict(headers)
        if not _NOT_PLAIN.isdisjoint(fields) or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return None
        unit = fields.get(b"aerogram-unit")
        if unit and _UNIT.fullmatch(unit) is None:
            return None
        found = self._target(target)
        if found is None:
            return None
        answer = self.poll.answer_prepared(*found, unit.decode("ascii") if unit else None)
        if_none_match = fields.get(b"if-none-match")
        if if_none_match is not None and same_etag(if_none_match, answer.etag):
            return b"".join((_NOT_MODIFIED, default_headers, answer.wire_304))
        body = b"" if method == b"HEAD" else answer.body
        return b"".join((_OK, default_headers, answer.wire_200, body))

    def _target(self, target: bytes) -> Target | None:
        known = (self.applications.by_name, self.poll.generation)
        if known[0] is not self._known[0] or known[1] != self._known[1]:
            self._targets.clear()
            self._known = known
        found = self._targets.get(target)
        if found is None:
            found = self._understand(target, known[0])
            if found is not None and len(target) <= LONGEST_TARGET:
                if len(self._targets) >= MOST_TARGETS:
                    self._targets.clear()
                self._targets[target] = found
        return found

    def _understand(self, target: bytes, applications: Mapping[str, AppState]) -> Target | None:
        path, _, query = target.partition(b"?")
        # Anything that a parser of addresses might see otherwise (escapes, fragments, a host) goes the long way.
        if b"%" in path or b"#" in target or not target.isascii():
            return None
        match path.decode("ascii").split("/"):
            case ["", "v1", "apps", app, "channels", channel, "manifests"]:
                model = None
            case ["", "v1", "apps", app, "channels", channel, "manifests", model]:
                pass
            case _:
                return None
        app_state = applications.get(app)
        channel_state = app_state.channels.get(channel) if app_state is not None else None
        if app_state is None or channel_state is None:
            return None
        try:
            return Target(app_state, channel_state, self.poll.prepare(channel_state, query, model))
        except Problem:
            return None
