"""What happened on this device, kept until the server has it: a bounded queue in SQLite, sent in gzipped batches."""

import gzip
import json
import sqlite3
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from aerogram_sdk.errors import AerogramError, Unavailable
from aerogram_sdk.fetcher import DevicePlane
from aerogram_sdk.manifest import Manifest

MOST_QUEUED = 2_000
MOST_PER_BATCH = 500
MOST_BATCH_BYTES = 512 << 10
OLDEST = timedelta(days=30)
ACCEPTED = 202

# Upper bounds of the latency bins, in microseconds: three bins per doubling from 64 µs to some 107 s, one more above.
LATENCY_BOUNDS_US = tuple(round(64 * 2 ** (step / 3)) for step in range(63))


@dataclass(frozen=True, slots=True)
class Subject:
    """The model version an event speaks of; version None: none, or the embedded one."""

    model: str
    version: int | None = None
    variant: str | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        return cls(manifest.model, manifest.model_version or None, manifest.variant or None)


class EventQueue:
    """Shared by all processes of a store. `clock` is the device's own: the server corrects its skew by `sent_at`.

    `channel` is the one that the device follows now; each event is sent under the one it happened on.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime], channel: str | None = None) -> None:
        self._path, self._clock, self._channel = path, clock, channel
        with suppress(sqlite3.OperationalError):
            self._prepare()

    def record(self, stage: str, outcome: str, subject: Subject, **members: Any) -> None:
        """Append one event; `members` that are None are left out. The oldest go first when the queue is full."""
        event: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "at": _stamp(self._clock()),
            "stage": stage,
            "outcome": outcome,
        }
        event |= {"model": subject.model, "version": subject.version, "variant": subject.variant, **members}
        event["channel"] = self._channel
        body = json.dumps({name: value for name, value in event.items() if value is not None})
        # An event that cannot be noted, on a full disk say, must not stop what it would have told of.
        with suppress(sqlite3.Error), self._database() as database:
            database.execute("INSERT INTO events (id, at, body) VALUES (?, ?, ?)", (event["id"], event["at"], body))
            database.execute("DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (MOST_QUEUED,))

    @contextmanager
    def passing(self, stage: str, subject: Subject, **members: Any) -> Iterator[dict[str, Any]]:
        """Record the stage as passed, with its time, unless something is raised. The block may add members."""
        started = perf_counter()
        yield members
        self.record(stage, "ok", subject, ms=_milliseconds(started), **members)

    def record_failure(self, error: AerogramError, subject: Subject) -> None:
        self.record(error.stage, "failed", subject, error=error.code)

    def pending(self) -> list[dict[str, Any]]:
        """Oldest first; none if the queue cannot be read."""
        return [event for _, event in self._queued()]

    def flush(self, plane: DevicePlane, profile: Mapping[str, Any]) -> int:
        """Send what is queued; how many the server has taken. Stops at the first batch that it does not take."""
        self._drop_too_old()
        sent = 0
        while queued := self._queued()[:MOST_PER_BATCH]:
            channel, oldest = next(groupby(queued, key=itemgetter(0)))
            batch = fitting([event for _, event in oldest])
            document = {"sent_at": _stamp(self._clock()), "profile": dict(profile), "events": batch}
            document |= {"channel": channel} if channel else {}
            if not _accepted(plane, gzip.compress(json.dumps(document).encode(), mtime=0)):
                break
            self._remove([event["id"] for event in batch])
            sent += len(batch)
        return sent

    def _queued(self) -> list[tuple[str | None, dict[str, Any]]]:
        """Each event with its channel, which stands once for a batch and not in the event."""
        with suppress(sqlite3.Error), self._database() as database:
            found = database.execute("SELECT body FROM events ORDER BY number")
            events = [json.loads(body) for (body,) in found]
            return [(event.pop("channel", None), event) for event in events]
        return []

    def _drop_too_old(self) -> None:
        with suppress(sqlite3.Error), self._database() as database:
            database.execute("DELETE FROM events WHERE at < ?", (_stamp(self._clock() - OLDEST),))

    def _remove(self, ids: list[str]) -> None:
        with self._database() as database:
            database.executemany("DELETE FROM events WHERE id = ?", [(identifier,) for identifier in ids])

    def _prepare(self) -> None:
        """Make the table; a file that is no database any more is started afresh."""
        try:
            self._make_table()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._path.unlink()
            self._make_table()

    def _make_table(self) -> None:
        with closing(self._connect()) as database:
            database.execute("PRAGMA journal_mode = WAL")
        with self._database() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, id TEXT, at TEXT, body TEXT)"
            )

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as database, database:
            yield database

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=30)
        # A power cut may take the last events, never the queue; in return no stage waits for the disk.
        database.execute("PRAGMA synchronous = NORMAL")
        return database


class LatencyHistogram:
    """How many inferences fell into each bin. Bins are the same everywhere, so that histograms add up."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BOUNDS_US) + 1)

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS_US, seconds * 1e6)] += 1


def fitting(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The longest prefix whose JSON stays under the size limit, but at least one event."""
    size = 4096  # the envelope with a profile
    for count, event in enumerate(events):
        size += len(json.dumps(event)) + 2
        if count and size > MOST_BATCH_BYTES:
            return events[:count]
    return events


def _accepted(plane: DevicePlane, body: bytes) -> bool:
    try:
        return plane.post_events(body) == ACCEPTED
    except Unavailable:
        return False


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _milliseconds(started: float) -> int:
    return round((perf_counter() - started) * 1000)
