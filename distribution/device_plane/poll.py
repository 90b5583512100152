"""A poll's answer: decisions of the moment, manifests as they were signed at publish time, bodies kept ready.

Two bounded caches make a warm poll cheap. What a query string means (profile, models, device class) depends on the
channel's state only; what an answer looks like depends on the decisions only. A unit is in neither key.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Generic, NamedTuple, TypeVar

from distribution.decision import Decision, decide
from distribution.device_plane.query import PollQuery, parse_query
from distribution.device_plane.state import AppState, ChannelState
from registry.device_classes import Match, match

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


class Prepared(NamedTuple):
    """A query string understood against one state of a channel."""

    query: PollQuery
    matched: Match


class Answer(NamedTuple):
    """A rendered body with its headers for a 200 and a 304."""

    etag: bytes
    body: bytes
    headers_200: Headers
    headers_304: Headers


class Poll:
    """Answers polls from the state in memory: no storage, no signature, no database."""

    def __init__(self, *, most_queries: int = 8_192, most_answers: int = 8_192, most_bytes: int = 32 * 2**20) -> None:
        self._prepared: BoundedCache[Prepared] = BoundedCache(most_queries, most_bytes)
        self._answers: BoundedCache[Answer] = BoundedCache(most_answers, most_bytes)

    def answer(
        self, app: AppState, channel: ChannelState, query_string: bytes, model: str | None, unit: str | None
    ) -> Answer:
        """Raises Problem (400) on a bad query."""
        query, matched = self._prepare(channel, query_string, model)
        catalog, current, profile = channel.catalog, query.current, query.profile
        decisions = [decide(profile, unit, name, catalog, current.get(name), matched=matched) for name in query.models]
        # Field 1 (the manifest) follows from the others within one state.
        outcomes = tuple([(d[0], *d[2:8]) for d in decisions])
        key = (channel.serial, app.revision, unit is None, query.models, outcomes)
        found = self._answers.get(key)
        if found is None:
            found = render(app, channel, query.models, decisions, PUBLIC if unit is None else PRIVATE)
            self._answers.put(key, found, 2_000 + len(found.body))
        return found

    def _prepare(self, channel: ChannelState, query_string: bytes, model: str | None) -> Prepared:
        key = (channel.serial, query_string, model)
        found = self._prepared.get(key)
        if found is None:
            query = parse_query(query_string, model)
            found = Prepared(query, match(query.profile, channel.catalog.device_classes))
            self._prepared.put(key, found, 2_000 + 2 * len(query_string))
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
    return Answer(etag, body, headers_200, headers_304)


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
