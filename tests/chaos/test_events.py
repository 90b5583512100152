"""Events under a load of phones, while the event stream and the ingester are killed again and again.

Every id that was answered with 202 is in PostgreSQL once: none lost, none counted twice.
"""

import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import httpx
import pytest

from tests.chaos.stack import HTTP_SECONDS, PATIENCE_SECONDS, Stack, until

pytestmark = [pytest.mark.chaos, pytest.mark.database]
PHONES = 4
EVENTS_PER_BATCH = 10
MOST_BATCHES_PER_PHONE = 20_000  # only so that it ends
PAUSE_SECONDS = 0.03
TWICE = 0.2  # share of accepted batches that are sent again, as after an answer that was lost on the way
STREAM, GROUP, DEAD_LETTERS = "aerogram:events", "ingest", "aerogram:events:dead"
SEED = 20261122


@dataclass
class Phone:
    """Posts batches until told to stop; keeps one until it was taken, as the protocol asks."""

    app_url: str
    seed: int
    stop: threading.Event
    accepted: set[str] = field(default_factory=set)
    refusals: int = 0
    repeats: int = 0

    def run(self) -> None:
        chance = random.Random(self.seed)
        with httpx.Client(timeout=HTTP_SECONDS) as http:
            for _ in range(MOST_BATCHES_PER_PHONE):
                if self.stop.wait(PAUSE_SECONDS):
                    return
                batch = batch_of(chance)
                self._deliver(http, batch)
                if chance.random() < TWICE:
                    self.repeats += 1
                    self._deliver(http, batch)

    def _deliver(self, http: httpx.Client, batch: dict[str, Any]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_taken(http, self.app_url, f"phone-{self.seed}", batch):
            self.refusals += 1
            assert time.monotonic() < deadline, f"a batch was refused for {PATIENCE_SECONDS:g} s"
            time.sleep(PAUSE_SECONDS)
        self.accepted |= {event["id"] for event in batch["events"]}


def is_taken(http: httpx.Client, app_url: str, unit: str, batch: dict[str, Any]) -> bool:
    """Not while the stream is away or its disk is slow; then the same batch is to be sent again."""
    answer = http.post(f"{app_url}/events", json=batch, headers={"Aerogram-Unit": unit})
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        assert answer.json()["code"] == "events_unavailable"
        return False
    assert (answer.status_code, answer.json()) == (202, {"accepted": EVENTS_PER_BATCH, "rejected": []})
    return True


def batch_of(chance: random.Random, **members: Any) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {"at": now, "stage": "inference", "outcome": "ok", "model": "tiny", "version": 1, "ms": 1} | members
    ids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(EVENTS_PER_BATCH)]
    return {"sent_at": now, "profile": {"os": "android"}, "events": [{"id": each, **event} for each in ids]}


class Load:
    """Phones that report at the same time, as a context: at its end each has delivered what it had."""

    def __init__(self, stack: Stack) -> None:
        self.stop = threading.Event()
        self.phones = [Phone(stack.app_url, SEED + number, self.stop) for number in range(PHONES)]
        self.threads = ThreadPoolExecutor(PHONES)
        self.runs: list[Future[None]] = []

    def __enter__(self) -> Self:
        self.runs = [self.threads.submit(phone.run) for phone in self.phones]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.threads.shutdown()

    @property
    def accepted(self) -> set[str]:
        return set().union(*(phone.accepted for phone in self.phones))

    @property
    def refusals(self) -> int:
        return sum(phone.refusals for phone in self.phones)

    def wait_for_more(self, events: int) -> None:
        wanted = sum(len(phone.accepted) for phone in self.phones) + events
        self._until(lambda: sum(len(phone.accepted) for phone in self.phones) >= wanted, f"{events} more events taken")

    def wait_for_refusals(self) -> None:
        wanted = self.refusals + PHONES
        self._until(lambda: self.refusals >= wanted, "phones to be refused")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        until(lambda: condition() or any(run.done() for run in self.runs), what)
        assert condition(), [run.exception() for run in self.runs if run.done()]


class Stream:
    """The event stream, seen past Aerogram. Connects anew each time: the server is killed now and then."""

    def __init__(self, stack: Stack) -> None:
        self.connect = stack.event_stream

    def waiting(self) -> int:
        """Batches that are not in PostgreSQL yet."""
        with self.connect() as client:
            return int(client.xlen(STREAM))

    def left(self) -> tuple[int, int]:
        """(entries in the stream, those that were read but not acknowledged)"""
        with self.connect() as client:
            return int(client.xlen(STREAM)), int(client.xpending(STREAM, GROUP)["pending"])

    def wait_until_drained(self) -> None:
        """An entry that was acknowledged but not deleted would never go, and is found here."""
        try:
            until(lambda: self.left() == (0, 0), "the ingester to empty the stream")
        except AssertionError as error:
            raise AssertionError(f"{error}; left: %d entries, %d pending" % self.left()) from None

    def append(self, batch: dict[str, Any]) -> None:
        """Past the device plane and its checks."""
        fields = {"application": "demo", "received_at": f"{batch['sent_at']}", "unit": "x", "batch": json.dumps(batch)}
        with self.connect() as client:
            client.xadd(STREAM, fields)

    def dead_letters(self) -> int:
        with self.connect() as client:
            return int(client.xlen(DEAD_LETTERS))


def stored(stack: Stack) -> int:
    return int(stack.rows("SELECT count(*) FROM experiments_event")[0][0])


def stored_of(stack: Stack, units: str) -> list[str]:
    """Ids of the events of units whose names are LIKE that; other tests' phones report to the same system."""
    return [each for (each,) in stack.rows("SELECT event_id::text FROM experiments_event WHERE unit LIKE %s", units)]


def require_exactly_once(stack: Stack, accepted: set[str]) -> None:
    Stream(stack).wait_until_drained()
    ids = stored_of(stack, "phone-%")
    assert len(ids) == len(set(ids))
    assert accepted - set(ids) == set()
    assert set(ids) - accepted == set()


def kill_stream(stack: Stack, load: Load) -> None:
    stack.kill("events")
    load.wait_for_refusals()
    stack.start("events")


def kill_ingester(stack: Stack, load: Load) -> None:
    """Killed while it stores, and once more while it catches up: between its commit and its acknowledgement, too."""
    for _ in range(2):
        before = stored(stack)
        until(lambda before=before: stored(stack) > before, "the ingester to store something", every_seconds=0.01)
        stack.kill("ingester")
        load.wait_for_more(20 * EVENTS_PER_BATCH)
        assert Stream(stack).waiting() > 0
        stack.start("ingester")


def kill_both(stack: Stack, load: Load) -> None:
    stack.kill("ingester", "events")
    load.wait_for_refusals()
    stack.start("events", "ingester")


def kill_database(stack: Stack, load: Load) -> None:
    """The ingester waits for it and goes on by itself; phones do not notice."""
    stack.kill("postgres")
    load.wait_for_more(20 * EVENTS_PER_BATCH)
    stack.start("postgres")


def test_every_accepted_event_is_stored_once(stack, figures):
    began = time.monotonic()
    with Load(stack) as load:
        for disturb in (kill_stream, kill_ingester, kill_both, kill_database, kill_stream, kill_ingester):
            load.wait_for_more(10 * EVENTS_PER_BATCH)
            disturb(stack, load)
        load.wait_for_more(10 * EVENTS_PER_BATCH)
    for run in load.runs:
        run.result()
    require_exactly_once(stack, load.accepted)
    assert Stream(stack).dead_letters() == 0
    repeats = sum(phone.repeats for phone in load.phones)
    figures(
        f"{len(load.accepted)} events in {time.monotonic() - began:.0f} s, {load.refusals} refusals, "
        f"{repeats} batches sent twice, 3 kills of the stream, 5 of the ingester, 1 of PostgreSQL: each stored once"
    )


def test_a_batch_that_can_never_be_stored_stops_none_behind_it(stack):
    """A device plane of another version may have let it in; it waits among the dead letters for somebody to look."""
    chance = random.Random(SEED - 1)
    stream = Stream(stack)
    dead = stream.dead_letters()
    stream.append(batch_of(chance, stage="fallback", error="x" * 5000))
    good = batch_of(chance, stage="rollback", error="x" * 200, version=2**31 - 1, ms=2**53 - 1, bytes=2**53 - 1)
    until(lambda: is_taken(stack.http, stack.app_url, "x" * 128, good), "the good batch to be taken")
    stream.wait_until_drained()
    assert stream.dead_letters() == dead + 1
    assert sorted(stored_of(stack, "x%")) == sorted(event["id"] for event in good["events"])
