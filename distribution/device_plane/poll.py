"""A poll's answer: decisions of the moment, manifests as they were signed at publish time, bodies kept ready.

Bounded caches make a warm poll cheap. What a query string means (profile, models, device class) depends on the
channel's state only, and so do the plans that decide for it; what an answer looks like depends on the decisions only.
A unit is in no key.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Generic, NamedTuple, TypeVar

from distribution.decision import Decision
from distribution.device_plane.plans import Outcome, Plan
from distribution.device_plane.query import PollQuery, parse_query
from distribution.device_plane.state import AppState, ChannelState
from registry.device_classes import Match

Headers = list[tuple[bytes, bytes]]
Value = TypeVar("Value")

PUBLIC = b"public, max-age=60, no-transform"
PRIVATE = b"private, max-age=60, no-transform"


class BoundedCache(Generic[Value]):
    """Least recently used entries leave first, once there are too many or they weigh too much (in bytes)."""

    def __init__(self, most_entries: int, most_bytes: int) -> None:
        self.most_entries = most_entries
        self.most_bytes = most_bytes
        self.bytes = 0
        self._entries: OrderedDict[object, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: object) -> Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: object, value: Value, size_bytes: int) -> None:
        if size_bytes > self.most_bytes:
            return
        replaced = self._entries.pop(key, None)
        self.bytes += size_bytes - (replaced[1] if replaced else 0)
        self._entries[key] = (value, size_bytes)
        while len(self._entries) > self.most_entries or self.bytes > self.most_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.bytes -= freed

    def clear(self) -> None:
        self._entries.clear()
        self.bytes = 0


class Prepared(NamedTuple):
    """A query string understood against one state of a channel; `plans` go with `query.models`."""

    query: PollQuery
    plans: tuple[Plan, ...]


class Answer(NamedTuple):
    """A rendered body with its headers for a 200 and a 304; `wire_200` and `wire_304` are the headers as sent."""

    etag: bytes
    body: bytes
    headers_200: Headers
    headers_304: Headers
    wire_200: bytes
    wire_304: bytes


class Poll:
    """Answers polls from the state in memory: no storage, no signature, no database.

    `generation` rises whenever what was prepared is forgotten: whoever kept a `Prepared` must ask for it again.
    """

    def __init__(
        self,
        *,
        most_queries: int = 8_192,
        most_answers: int = 8_192,
        most_bytes: int = 32 * 2**20,
        most_nodes: int = 65_536,
    ) -> None:
        self._prepared: BoundedCache[Prepared] = BoundedCache(most_queries, most_bytes)
        self._plans: BoundedCache[Plan] = BoundedCache(most_queries, most_bytes)
        self._answers: BoundedCache[Answer] = BoundedCache(most_answers, most_bytes)
        self.most_nodes = most_nodes
        self.generation = 0
        self._nodes = 0

    def answer(
        self, app: AppState, channel: ChannelState, query_string: bytes, model: str | None, unit: str | None
    ) -> Answer:
        """Raises Problem (400) on a bad query."""
        return self.answer_prepared(app, channel, self.prepare(channel, query_string, model), unit)

    def answer_prepared(self, app: AppState, channel: ChannelState, prepared: Prepared, unit: str | None) -> Answer:
        """`prepared` as `prepare` gave it for this channel."""
        if len(prepared.plans) == 1:
            return self._answer_one(app, channel, prepared, unit)
        outcomes = [self._outcome(plan, unit) for plan in prepared.plans]
        return self._rendered(app, channel, prepared.query.models, outcomes, unit)

    def prepare(self, channel: ChannelState, query_string: bytes, model: str | None) -> Prepared:
        """Raises Problem (400) on a bad query."""
        key = (channel.serial, query_string, model)
        found = self._prepared.get(key)
        if found is None:
            query = parse_query(query_string, model)
            # Nobody reads here why the other classes did not fit.
            matched = Match(channel.catalog.class_index.find(query.profile), ())
            found = Prepared(query, tuple([self._plan(channel, query, name, matched) for name in query.models]))
            # A plan of its own for every model is the worst a query can cost.
            self._prepared.put(key, found, 2_000 + 2 * len(query_string) + 1_000 * len(query.models))
        return found

    def _answer_one(self, app: AppState, channel: ChannelState, prepared: Prepared, unit: str | None) -> Answer:
        outcome = self._outcome(prepared.plans[0], unit)
        found = outcome.answer
        if found is None or outcome.revision != app.revision:
            found = outcome.answer = self._rendered(app, channel, prepared.query.models, [outcome], unit)
            outcome.revision = app.revision
        return found

    def _outcome(self, plan: Plan, unit: str | None) -> Outcome:
        before = plan.nodes
        outcome = plan.outcome(unit)
        if plan.nodes != before:
            self._count(plan.nodes - before)
        return outcome

    def _count(self, learned: int) -> None:
        """Plans are shared and grow, so they are forgotten all at once: learning them anew takes moments."""
        self._nodes += learned
        if self._nodes > self.most_nodes:
            self._prepared.clear()
            self._plans.clear()
            self._nodes = 0
            self.generation += 1

    def _plan(self, channel: ChannelState, query: PollQuery, name: str, matched: Match) -> Plan:
        """Shared by all profiles that `decide()` cannot tell apart: see `incompatibility` for what it reads of one."""
        profile, current = query.profile, query.current.get(name)
        device_class = matched.device_class.name if matched.device_class else None
        key = (channel.serial, name, device_class, profile.runtime, profile.runtime_version, current)
        found = self._plans.get(key)
        if found is None:
            found = Plan(profile, name, channel.catalog, current, matched)
            self._plans.put(key, found, 1_000)
        return found

    def _rendered(
        self,
        app: AppState,
        channel: ChannelState,
        models: tuple[str, ...],
        outcomes: list[Outcome],
        unit: str | None,
    ) -> Answer:
        key = (channel.serial, app.revision, unit is None, models, tuple([outcome.parts for outcome in outcomes]))
        found = self._answers.get(key)
        if found is None:
            decisions = [outcome.decision for outcome in outcomes]
            found = render(app, channel, models, decisions, PUBLIC if unit is None else PRIVATE)
            self._answers.put(key, found, 2_000 + len(found.body))
        return found


def render(
    app: AppState, channel: ChannelState, models: tuple[str, ...], decisions: list[Decision], cache_control: bytes
) -> Answer:
    body = b'{"poll_after_seconds":%d,"models":{%s}}' % (
        channel.catalog.poll_after_seconds,
        b",".join(_model_member(name, d, channel.manifests) for name, d in zip(models, decisions, strict=True)),
    )
    etag = b'"%s"' % sha256(body).hexdigest().encode()
    headers_304 = [
        (b"etag", etag),
        (b"aerogram-revision", b"%d" % app.revision),
        (b"cache-control", cache_control),
        (b"vary", b"Aerogram-Unit"),
    ]
    headers_200 = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers_304]
    return Answer(etag, body, headers_200, headers_304, _wire(headers_200), _wire(headers_304))


def _wire(headers: Headers) -> bytes:
    return b"".join(b"%s: %s\r\n" % field for field in headers) + b"\r\n"


def _model_member(name: str, decision: Decision, manifests: Mapping[str, bytes]) -> bytes:
    reference = decision.manifest
    return b'"%s":{"decision":%s,"manifest":%s}' % (
        name.encode(),
        json.dumps(decision.to_json(), separators=(",", ":")).encode(),
        b"null" if reference is None else manifests[reference.path],
    )


def same_etag(if_none_match: bytes, etag: bytes) -> bool:
    """RFC 9110 section 13.1.2: any of the listed tags, compared weakly, or `*`."""
    if if_none_match == etag:
        return True
    if etag not in if_none_match and if_none_match.strip() != b"*":
        return False
    tags = [tag.strip() for tag in if_none_match.split(b",")]
    return b"*" in tags or any(tag.removeprefix(b"W/") == etag for tag in tags)
