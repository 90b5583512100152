"""Event stream → PostgreSQL, at least once made exactly once.

A batch is acknowledged only after its rows are committed, and rows are keyed by the id that the device made. Killed in
between, the same batch is read again and changes nothing. The device plane answered 202 only once the stream had it
on disk, so an event that was accepted is in the stream or in the table.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import DataError, IntegrityError, transaction
from django.utils import timezone
from redis import Redis, ResponseError
from redis.exceptions import OutOfMemoryError

from experiments import partitions
from experiments.event_stream import DEAD_LETTERS, STREAM
from experiments.ingest.placing import Device, Placing
from experiments.ingest.rows import Lines, lines_of, read_batch
from experiments.ingest.store import adopt_earlier_events, store
from experiments.tasks import look_at_experiment
from registry.tasks import enqueue_on_commit

logger = logging.getLogger(__name__)
GROUP = "ingest"
CONSUMER = "ingester"
BATCHES_AT_ONCE = 100
WAIT_MILLISECONDS = 1000
LOOKS_APART = timedelta(seconds=10)
# What one batch is to blame for: a value that fits no column, or that no connection can send.
UNFIT = (DataError, IntegrityError, UnicodeEncodeError)
NOTHING = Lines([], [], frozenset(), frozenset())
Entry = tuple[bytes, Mapping[bytes, bytes]]


class Ingester:
    """The one consumer of the stream's group. A restart under the same name gets back what was not acknowledged."""

    def __init__(self, stream: "Redis", clock: Callable[[], datetime] = timezone.now) -> None:
        self.stream, self.clock = stream, clock
        self.placing = Placing(clock)
        self._asked_at: dict[int, datetime] = {}
        self._is_any_postponed = False

    def prepare(self) -> None:
        """Make the group, from the stream's beginning, and the partitions, unless they are there."""
        partitions.make_ahead(self.clock())
        if self._has_group():  # asked first: a Redis that is full refuses to make one, and would never be emptied
            return
        try:
            self.stream.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def recover(self) -> int:
        """Store what an earlier run read but did not acknowledge. Returns the number of batches."""
        delivered = self._last_delivered()
        count, after = 0, "0"
        self._is_any_postponed = False
        while entries := self._read(after, block=None):
            count += self._store(entries)
            after = entries[-1][0].decode()
        if not self._is_any_postponed:
            # All up to there is stored now. A run that ended between acknowledging and deleting left entries that no
            # consumer would ever be given again, and the stream would only grow.
            self.stream.xtrim(STREAM, minid=_following(delivered), approximate=False)
        return count

    def step(self) -> int:
        """Store the next batches, waiting up to a second for them. Returns the number of batches."""
        if entries := self._read(">", block=WAIT_MILLISECONDS):
            return self._store(entries)
        return self.recover() if self._is_any_postponed else 0

    def _has_group(self) -> bool:
        return bool(self.stream.exists(STREAM)) and GROUP.encode() in self._last_delivered_by_group()

    def _last_delivered(self) -> str:
        return self._last_delivered_by_group()[GROUP.encode()].decode()

    def _last_delivered_by_group(self) -> dict[bytes, bytes]:
        groups: Any = self.stream.xinfo_groups(STREAM)
        return {group["name"]: group["last-delivered-id"] for group in groups}

    def _read(self, after: str, block: int | None) -> list[Entry]:
        answer: Any = self.stream.xreadgroup(GROUP, CONSUMER, {STREAM: after}, count=BATCHES_AT_ONCE, block=block)
        return [entry for _, entries in answer for entry in entries] if answer else []

    def _store(self, entries: list[Entry]) -> int:
        """Those that can be stored first: they make room in a Redis that has none for the letters of the dead."""
        self.placing.refresh()
        read: list[tuple[Entry, Lines]] = []
        refused: list[tuple[Entry, Exception]] = []
        for entry in entries:
            try:
                # An entry that was deleted since it was read, as its unit was to be forgotten, has no fields.
                read.append((entry, self._lines_of(entry) if entry[1] else NOTHING))
            except Exception as error:  # noqa: BLE001  # whatever one does to the code, others must get past it
                refused.append((entry, error))
        refused += self._insert_what_fits(read)
        dead = {entry[0] for entry, _ in refused}
        # Only now: a crash before this line makes the batch come again, and the event ids make that harmless.
        self._remove(key for key, _ in entries if key not in dead)
        for entry, why in refused:
            self._put_aside(entry, why)
        return len(entries)

    def _lines_of(self, entry: Entry) -> Lines:
        fields = _texts(entry)
        batch, received_at = read_batch(fields)
        device = Device(fields.get("unit", ""), batch.get("profile") or {}, batch.get("channel") or "")
        placer = self.placing.placer(fields["application"], device)
        return lines_of(batch, received_at, fields, placer)

    def _insert_what_fits(self, batches: list[tuple[Entry, Lines]]) -> list[tuple[Entry, Exception]]:
        """Returns those that do not. All at once unless one of them does not fit its column."""
        try:
            self._insert([lines for _, lines in batches])
        except UNFIT as error:
            if len(batches) == 1:
                return [(batches[0][0], error)]
            return [refused for batch in batches for refused in self._insert_what_fits([batch])]
        return []

    def _insert(self, batches: list[Lines]) -> None:
        with transaction.atomic():
            store(batches, with_exposures=any(lines.experiments for lines in batches))
            # Files that are not genuine cannot wait for the next minute.
            for experiment in frozenset().union(*(lines.alarmed for lines in batches)):
                self._ask_for_look(experiment)

    def _ask_for_look(self, experiment: int) -> None:
        """Not for every batch: whoever forges failures would keep the workers busy with looks."""
        now = self.clock()
        asked_at = self._asked_at.get(experiment)
        if asked_at is None or now - asked_at >= LOOKS_APART:
            self._asked_at[experiment] = now
            enqueue_on_commit(look_at_experiment, experiment)

    def _remove(self, keys: Iterable[bytes]) -> None:
        if found := list(keys):
            # No MULTI, which a Redis that is full refuses whatever is in it. Killed in between, what has no fields any
            # more comes again.
            with self.stream.pipeline(transaction=False) as both:
                both.xdel(STREAM, *found)
                both.xack(STREAM, GROUP, *found)
                both.execute()

    def _put_aside(self, entry: Entry, why: Exception) -> None:
        """Without room for it, it stays unacknowledged, and is tried again once nothing else is to do."""
        key, fields = entry
        logger.error("batch cannot be stored, put aside: entry=%s error=%r", key, why)
        told = repr(why).encode(errors="backslashreplace")
        try:
            with self.stream.pipeline(transaction=True) as move:
                move.xadd(DEAD_LETTERS, {**fields, b"why": told})  # type: ignore[dict-item]
                move.xack(STREAM, GROUP, key)
                move.xdel(STREAM, key)
                move.execute()
        except OutOfMemoryError:
            logger.warning("no room for a batch that cannot be stored, it waits: entry=%s", key)
            self._is_any_postponed = True


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
