"""Event stream → PostgreSQL, at least once made exactly once.

A batch is acknowledged only after its rows are committed, and rows are keyed by the id that the device made. Killed in
between, the same batch is read again and changes nothing. The device plane answered 202 only once the stream had it
on disk, so an event that was accepted is in the stream or in the table.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DataError, transaction
from redis import Redis, ResponseError

from experiments.models import DeviceEvent

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

    def __init__(self, stream: "Redis") -> None:
        self.stream = stream

    def prepare(self) -> None:
        """Make the group, from the stream's beginning, unless it is there."""
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
        batches = [(entry, self._rows_or_dead_letter(entry)) for entry in entries]
        try:
            _insert([row for _, rows in batches for row in rows])
        except DataError:  # one of them does not fit its column: find it, keep the others
            for entry, rows in batches:
                self._insert_or_dead_letter(entry, rows)
        keys = [key for key, _ in entries]
        # Only now: a crash before this line makes the batch come again, and the event ids make that harmless.
        self.stream.xack(STREAM, GROUP, *keys)
        self.stream.xdel(STREAM, *keys)
        return len(entries)

    def _insert_or_dead_letter(self, entry: Entry, rows: list[DeviceEvent]) -> None:
        try:
            _insert(rows)
        except DataError as error:
            self._put_aside(entry, error)

    def _rows_or_dead_letter(self, entry: Entry) -> list[DeviceEvent]:
        try:
            return list(rows_of_batch(_texts(entry)))
        except (ValueError, KeyError, TypeError) as error:
            self._put_aside(entry, error)
            return []

    def _put_aside(self, entry: Entry, error: Exception) -> None:
        key, fields = entry
        logger.error("batch cannot be stored, put aside: entry=%s error=%r", key, error)
        self.stream.xadd(DEAD_LETTERS, {**fields, b"why": repr(error).encode()})  # type: ignore[dict-item]


def _following(entry_id: str) -> str:
    milliseconds, number = entry_id.split("-")
    return f"{milliseconds}-{int(number) + 1}"


def _texts(entry: Entry) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in entry[1].items()}


def _insert(rows: list[DeviceEvent]) -> None:
    """All of them or none; ids that are there already are passed over."""
    with transaction.atomic():
        DeviceEvent.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1000)


def rows_of_batch(fields: Mapping[str, str]) -> Iterator[DeviceEvent]:
    """The events of one stream entry as rows. Raises ValueError, KeyError or TypeError on what is no batch."""
    batch = json.loads(fields["batch"])
    received_at = datetime.fromisoformat(fields["received_at"])
    skew = _skew(batch.get("sent_at"), received_at)
    for event in batch["events"]:
        yield DeviceEvent(
            event_id=event["id"],
            application=fields["application"],
            unit=fields.get("unit", ""),
            received_at=received_at,
            at=min(_time(event["at"]) + skew, received_at),
            stage=event["stage"],
            outcome=event["outcome"],
            model=event["model"],
            version=event.get("version"),
            variant=event.get("variant") or "",
            duration_ms=event.get("ms"),
            size_bytes=event.get("bytes"),
            error=event.get("error") or "",
            histogram=event.get("histogram"),
            profile=batch.get("profile") or {},
        )


def _skew(sent_at: str | None, received_at: datetime) -> timedelta:
    """How far the device's clock is behind ours, the travel time of the batch included."""
    return received_at - _time(sent_at) if sent_at else timedelta(0)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def run(connect: Callable[[], "Redis"], is_stopped: Callable[[], bool]) -> None:
    """Ingest until stopped. The caller handles a stream or database that is away by calling again."""
    ingester = Ingester(connect())
    ingester.prepare()
    ingester.recover()
    while not is_stopped():
        ingester.step()
