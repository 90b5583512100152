"""Event stream → PostgreSQL, at least once made exactly once.

A batch is acknowledged only after its rows are committed, and rows are keyed by the id that the device made. Killed in
between, the same batch is read again and changes nothing. The device plane answered 202 only once the stream had it
on disk, so an event that was accepted is in the stream or in the table.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.db import DataError, IntegrityError, transaction
from django.utils import timezone
from redis import Redis, ResponseError

from experiments import partitions
from experiments.ingest.placing import Device, Placing
from experiments.ingest.rows import Lines, lines_of, read_batch
from experiments.ingest.store import adopt_earlier_events, store
from experiments.tasks import look_at_experiment
from registry.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)
STREAM = "aerogram:events"
DEAD_LETTERS = "aerogram:events:dead"
GROUP = "ingest"
CONSUMER = "ingester"
BATCHES_AT_ONCE = 100
WAIT_MILLISECONDS = 1000
Entry = tuple[bytes, Mapping[bytes, bytes]]


class Ingester:
    """The one consumer of the stream's group. A restart under the same name gets back what was not acknowledged."""

    def __init__(self, stream: "Redis", clock: Callable[[], datetime] = timezone.now) -> None:
        self.stream, self.clock = stream, clock
        self.placing = Placing(clock)

    def prepare(self) -> None:
        """Make the group, from the stream's beginning, and the partitions, unless they are there."""
        partitions.make_ahead(self.clock())
        try:
            self.stream.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def recover(self) -> int:
        """Store what an earlier run read but did not acknowledge. Returns the number of batches."""
        delivered = self._last_delivered()
        count = 0
        while entries := self._read("0", block=None):
            count += self._store(entries)
        # All up to there is stored now. A run that ended between acknowledging and deleting left entries that no
        # consumer would ever be given again, and the stream would only grow.
        self.stream.xtrim(STREAM, minid=_following(delivered), approximate=False)
        return count

    def step(self) -> int:
        """Store the next batches, waiting up to a second for them. Returns the number of batches."""
        entries = self._read(">", block=WAIT_MILLISECONDS)
        return self._store(entries) if entries else 0

    def _last_delivered(self) -> str:
        groups: Any = self.stream.xinfo_groups(STREAM)
        ids: dict[bytes, bytes] = {group["name"]: group["last-delivered-id"] for group in groups}
        return ids[GROUP.encode()].decode()

    def _read(self, after: str, block: int | None) -> list[Entry]:
        answer: Any = self.stream.xreadgroup(GROUP, CONSUMER, {STREAM: after}, count=BATCHES_AT_ONCE, block=block)
        return [entry for _, entries in answer for entry in entries] if answer else []

    def _store(self, entries: list[Entry]) -> int:
        self.placing.refresh()
        batches = [(entry, self._lines_or_dead_letter(entry)) for entry in entries]
        try:
            self._insert([lines for _, lines in batches])
        except (DataError, IntegrityError):  # one of them does not fit its column: find it, keep the others
            for entry, lines in batches:
                self._insert_or_dead_letter(entry, lines)
        keys = [key for key, _ in entries]
        # Only now: a crash before this line makes the batch come again, and the event ids make that harmless.
        with self.stream.pipeline(transaction=True) as both:
            both.xack(STREAM, GROUP, *keys)
            both.xdel(STREAM, *keys)
            both.execute()
        return len(entries)

    def _insert(self, batches: list[Lines]) -> None:
        with transaction.atomic():
            store(batches, with_exposures=any(lines.experiments for lines in batches))
            # Files that are not genuine cannot wait for the next minute.
            for experiment in frozenset().union(*(lines.alarmed for lines in batches)):
                enqueue_on_commit(look_at_experiment, experiment)

    def _insert_or_dead_letter(self, entry: Entry, lines: Lines) -> None:
        try:
            self._insert([lines])
        except (DataError, IntegrityError) as error:
            self._put_aside(entry, error)

    def _lines_or_dead_letter(self, entry: Entry) -> Lines:
        try:
            fields = _texts(entry)
            batch, received_at = read_batch(fields)
            device = Device(fields.get("unit", ""), batch.get("profile") or {}, batch.get("channel") or "")
            placer = self.placing.placer(fields["application"], device)
            return lines_of(batch, received_at, fields, placer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._put_aside(entry, error)
            return Lines([], [], frozenset(), frozenset())

    def _put_aside(self, entry: Entry, error: Exception) -> None:
        key, fields = entry
        logger.error("batch cannot be stored, put aside: entry=%s error=%r", key, error)
        self.stream.xadd(DEAD_LETTERS, {**fields, b"why": repr(error).encode()})  # type: ignore[dict-item]


def _following(entry_id: str) -> str:
    milliseconds, number = entry_id.split("-")
    return f"{milliseconds}-{int(number) + 1}"


def _texts(entry: Entry) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in entry[1].items()}


def run(connect: Callable[[], "Redis"], is_stopped: Callable[[], bool]) -> None:
    """Ingest until stopped. The caller handles a stream or database that is away by calling again."""
    ingester = Ingester(connect())
    ingester.prepare()
    adopted = adopt_earlier_events()
    if adopted:
        logger.info("events of the table before partitions moved: rows=%d", adopted)
    ingester.recover()
    while not is_stopped():
        ingester.step()
