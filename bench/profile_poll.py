"""`python -m bench.profile_poll`: where the time of a poll goes, inside one process and without a server.

Every stage is timed on its own, with the arguments it has in a poll of `bench.published`; the least of many repeats is
taken, since neighbours only ever add. What the stages leave over of the whole call is named "the rest".
"""

from __future__ import annotations

import json
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import thread_time_ns
from typing import TYPE_CHECKING, Any

import click

from bench.published import APPLICATION, CHANNEL, MODEL, POLL_PATH, phones, publish
from distribution.decision import Decision, decide
from distribution.device_plane.app import create_app
from distribution.device_plane.poll import PRIVATE, render, same_etag
from distribution.device_plane.query import PollQuery, parse_query, read_unit
from distribution.device_plane.tree import LocalTree
from experiments.bucketing import bucket
from registry.device_classes import Match, match
from tests.simulators import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable

    from distribution.device_plane.app import DevicePlane
    from distribution.device_plane.state import AppState, ChannelState

_RESULTS = Path(__file__).with_name("results.json")
_LOOPS = 100
_REPEATS = 300


@dataclass(frozen=True)
class Polled:
    """One request of the synthetic driver, with what each stage is given."""

    scope: dict[str, Any]
    query: bytes
    unit: str
    parsed: PollQuery
    matched: Match
    decision: Decision

    @property
    def target(self) -> bytes:
        return POLL_PATH.encode() + b"?" + self.query


class Driver:
    """The application, driven as a server does but without an event loop: a poll never waits."""

    def __init__(self, folder: Path) -> None:
        publish(folder)
        self.app: DevicePlane = create_app(LocalTree(folder), MemorySink())
        self.app.applications.refresh()
        self.state: AppState = self.app.applications.by_name[APPLICATION]
        self.channel: ChannelState = self.state.channels[CHANNEL]
        self.sent: list[dict[str, Any]] = []
        self.requests = [self._request(phone.query.encode()) for phone in phones()]

    def _request(self, query: bytes) -> Polled:
        unit = str(uuid.uuid4())
        headers = [(b"host", b"127.0.0.1"), (b"user-agent", b"aerogram-bench"), (b"aerogram-unit", unit.encode())]
        scope = {"type": "http", "method": "GET", "path": POLL_PATH, "query_string": query, "headers": headers}
        parsed = parse_query(query, MODEL)
        matched = match(parsed.profile, self.channel.catalog.device_classes)
        return Polled(scope, query, unit, parsed, matched, self.decide(parsed, matched, unit))

    def decide(self, query: PollQuery, matched: Match, unit: str) -> Decision:
        return decide(query.profile, unit, MODEL, self.channel.catalog, query.current.get(MODEL), matched=matched)

    def call(self, polled: Polled) -> None:
        """One whole poll. The coroutine ends at its first step, because nothing in it waits."""
        try:
            self.app(polled.scope, self._receive, self._send).send(None)
        except StopIteration:
            return
        raise AssertionError("expected a poll that waits for nothing")

    async def _receive(self) -> dict[str, Any]:
        raise AssertionError("a poll reads no body")

    async def _send(self, message: dict[str, Any]) -> None:
        pass


def microseconds(stage: Callable[[Polled], object], requests: list[Polled]) -> float:
    """CPU time per call, least of many repeats, without the loop's own cost."""
    taken = Random(1).sample(requests, _LOOPS)  # noqa: S311  # the same mixture for every stage
    return (_least(stage, taken) - _least(lambda _: None, taken)) / _LOOPS / 1_000


def _least(stage: Callable[[Polled], object], taken: list[Polled]) -> int:
    spent = []
    for _ in range(_REPEATS):
        began = thread_time_ns()
        for polled in taken:
            stage(polled)
        spent.append(thread_time_ns() - began)
    return min(spent)


def stages(driver: Driver) -> dict[str, float]:
    """Microseconds of a warm poll: its query was seen before, its answer is ready; the unit is new."""
    requests, plane, channel, state = driver.requests, driver.app, driver.channel, driver.state
    for polled in requests:
        driver.call(polled)
        plane.fast_lane.answer(b"GET", polled.target, polled.scope["headers"], b"")
    etag = b'"' + b"0" * 64 + b'"'
    poll, lane = plane.poll, plane.fast_lane
    plans = {each.query: poll.prepare(channel, each.query, MODEL).plans[0] for each in requests}
    timed = {
        "unit (read and check)": lambda each: read_unit(each.unit.encode()),
        "target understood (cache hit)": lambda each: lane._target(each.target),  # noqa: SLF001
        "plan (two hashes, a branch each)": lambda each: plans[each.query].outcome(each.unit),
        "tags (304 only)": lambda _: same_etag(etag, etag),
        "fast lane, whole": lambda each: lane.answer(b"GET", each.target, each.scope["headers"], b""),
        "without plan: decide": lambda each: driver.decide(each.parsed, each.matched, each.unit),
        "without fast lane: Poll.answer": lambda e: poll.answer(state, channel, e.query, MODEL, e.unit),
        "without fast lane: application": driver.call,
    }
    return {name: microseconds(stage, requests) for name, stage in timed.items()}


def inside_decide(driver: Driver) -> dict[str, float]:
    return {"bucket, one of two": microseconds(lambda each: bucket(each.unit, "digits:layer-1"), driver.requests)}


def cold(driver: Driver) -> dict[str, float]:
    """What a query that was not seen before costs on top, and an answer that was not rendered before."""
    classes, channel, state = driver.channel.catalog.device_classes, driver.channel, driver.state

    def rendered(each: Polled) -> object:
        return render(state, channel, (MODEL,), [each.decision], PRIVATE)

    return {
        "parse the query": microseconds(lambda each: parse_query(each.query, MODEL), driver.requests),
        "match 10 classes": microseconds(lambda e: match(e.parsed.profile, classes), driver.requests),
        "render": microseconds(rendered, driver.requests),
    }


def server_share() -> dict[str, float]:
    """CPU of whole requests, as the last `python -m bench` found it; empty before the first."""
    if not _RESULTS.exists():
        return {}
    document = json.loads(_RESULTS.read_text())
    return {
        f"{measurement['id']} {series['name']}": series["medians"]["server_cpu_us"]
        for measurement in document["measurements"]
        for series in measurement["series"]
        if series["load"] == "flat out"
    }


@click.command()
def main() -> None:
    """Print a table in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(Path(folder))
        parts = {
            "A warm poll": stages(driver),
            "Inside decide": inside_decide(driver),
            "Cold": cold(driver),
            "Server CPU per request": server_share(),
        }
    for title, figures in parts.items():
        click.echo(f"\n{title}")
        for name, spent in figures.items():
            click.echo(f"  {name:36} {spent:7.2f} µs")


if __name__ == "__main__":
    main()
