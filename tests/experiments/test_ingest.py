"""The event stream on a real Redis, the table on a real PostgreSQL."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from redis.exceptions import OutOfMemoryError

from experiments import ingest
from experiments.models import DeviceEvent
from tests.experiments import measured
from tests.experiments.measured import passed, report, units
from tests.factories import NOW, Clock

pytestmark = pytest.mark.django_db(transaction=True)
RECEIVED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def event(**changes):
    return {
        "id": str(uuid.uuid4()),
        "at": "2026-11-22T11:00:00Z",
        "stage": "download",
        "outcome": "ok",
        "model": "digits",
        "version": 1,
        **changes,
    }


def append(stream, *events, sent_at="2026-11-22T12:00:00Z", **fields):
    batch = json.dumps({"sent_at": sent_at, "profile": {"os": "android"}, "events": events})
    entry = {"application": "demo", "received_at": RECEIVED.isoformat(), "unit": "u", "batch": batch, **fields}
    stream.xadd(ingest.STREAM, entry)


@pytest.fixture
def ingester(event_stream):
    made = ingest.Ingester(event_stream, Clock(RECEIVED))
    made.prepare()
    return made


def test_events_become_rows_and_leave_the_stream(event_stream, ingester):
    append(event_stream, event(ms=12, bytes=34), event(stage="activate", outcome="failed", error="sanity"))
    assert ingester.step() == 1
    assert DeviceEvent.objects.count() == 2
    assert DeviceEvent.objects.get(stage="download").size_bytes == 34
    assert event_stream.xlen(ingest.STREAM) == 0


def test_the_same_id_counts_once(event_stream, ingester):
    same = event()
    append(event_stream, same, same)
    append(event_stream, same)
    ingester.step()
    assert DeviceEvent.objects.count() == 1


def test_a_crash_between_rows_and_acknowledgement_doubles_nothing(event_stream, ingester, monkeypatch):
    append(event_stream, event(), event())

    def crash(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(event_stream, "pipeline", crash)
        with pytest.raises(KeyboardInterrupt):
            ingester.step()
    again = ingest.Ingester(event_stream)
    again.prepare()
    assert again.recover() == 1
    assert DeviceEvent.objects.count() == 2


def test_a_crash_before_the_rows_loses_nothing(event_stream, ingester, monkeypatch):
    append(event_stream, event())

    def crash(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "store", crash)
        with pytest.raises(KeyboardInterrupt):
            ingester.step()
    ingest.Ingester(event_stream).recover()
    assert DeviceEvent.objects.count() == 1


def test_a_clock_that_is_an_hour_behind_is_corrected(event_stream, ingester):
    append(event_stream, event(at="2026-11-22T10:30:00Z"), sent_at="2026-11-22T11:00:00Z")
    ingester.step()
    assert DeviceEvent.objects.get().at == RECEIVED - timedelta(minutes=30)


@pytest.mark.parametrize("batch", ["no json", "{}", '{"events": [{}]}', '{"events": [{"id": "x", "at": "never"}]}'])
def test_what_cannot_be_stored_is_put_aside_and_the_rest_goes_on(event_stream, ingester, batch):
    append(event_stream, batch=batch)
    append(event_stream, event())
    ingester.step()
    assert DeviceEvent.objects.count() == 1
    [(_, dead)] = event_stream.xrange(ingest.DEAD_LETTERS)
    assert dead[b"batch"] == batch.encode()


def test_an_event_that_fits_no_column_takes_only_its_batch_along(event_stream, ingester):
    append(event_stream, event(stage="x" * 100))
    append(event_stream, event())
    ingester.step()
    assert DeviceEvent.objects.count() == 1
    assert event_stream.xlen(ingest.DEAD_LETTERS) == 1


def dead_batches(stream):
    return [fields[b"batch"] for _, fields in stream.xrange(ingest.DEAD_LETTERS)]


@pytest.mark.parametrize(
    "poison",
    [
        {"error": "\ud800"},  # no text that a connection could send
        {"at": "0001-01-01T00:00:00Z"},  # before all time, once it is corrected by the clock's skew
    ],
)
def test_a_batch_that_breaks_the_ingester_itself_is_put_aside(event_stream, ingester, poison):
    append(event_stream, event(**poison), sent_at="2026-11-22T13:00:00Z")
    append(event_stream, event())
    ingester.step()
    assert DeviceEvent.objects.count() == 1
    assert (len(dead_batches(event_stream)), event_stream.xlen(ingest.STREAM)) == (1, 0)


def test_a_unit_that_is_none_takes_only_its_batch_along(event_stream):
    of = measured.experiment()
    made = ingest.Ingester(event_stream, Clock(NOW + timedelta(hours=2)))
    made.prepare()
    report(event_stream, "no unit", *passed(2, "assigned"))
    report(event_stream, units(of, "treatment", 1)[0], *passed(2, "assigned"))
    made.step()
    assert (DeviceEvent.objects.count(), len(dead_batches(event_stream))) == (1, 1)


def test_what_was_forgotten_while_it_was_being_stored_is_no_dead_letter(event_stream, ingester, monkeypatch):
    append(event_stream, event())
    append(event_stream, event(), unit="stays")

    def crash(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "store", crash)
        with pytest.raises(KeyboardInterrupt):
            ingester.step()
    event_stream.xdel(ingest.STREAM, event_stream.xrange(ingest.STREAM)[0][0])
    assert ingest.Ingester(event_stream).recover() == 2
    assert DeviceEvent.objects.get().unit == "stays"
    assert dead_batches(event_stream) == []
    assert event_stream.xpending(ingest.STREAM, ingest.GROUP)["pending"] == 0


def test_a_crash_after_a_dead_letter_puts_none_aside_twice(event_stream, ingester, monkeypatch):
    append(event_stream, batch="no json")
    append(event_stream, event())

    def crash(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(event_stream, "xack", crash)
        patch.setattr(event_stream, "pipeline", crash)
        with pytest.raises(KeyboardInterrupt):
            ingester.step()
    ingest.Ingester(event_stream).recover()
    assert dead_batches(event_stream) == [b"no json"]


@pytest.fixture
def full(event_stream):
    """The stream's Redis takes no more: what a database that was away for too long leads to."""

    def fill():
        event_stream.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            append(event_stream, event())

    before = event_stream.config_get("maxmemory")["maxmemory"]
    yield fill
    event_stream.config_set("maxmemory", before)


def test_a_stream_that_is_full_is_emptied_by_an_ingester_that_starts(event_stream, ingester, full):
    append(event_stream, batch="no json")
    append(event_stream, event())
    full()
    again = ingest.Ingester(event_stream)
    again.prepare()
    again.step()
    assert again.recover() == 1
    assert DeviceEvent.objects.count() == 1
    # For the letter of the dead there is no room yet.
    assert [fields[b"batch"] for _, fields in event_stream.xrange(ingest.STREAM)] == [b"no json"]
    event_stream.config_set("maxmemory", 0)
    assert again.step() == 1
    assert (dead_batches(event_stream), event_stream.xlen(ingest.STREAM)) == ([b"no json"], 0)


def test_files_that_are_not_genuine_ask_for_a_look_once_in_a_while(event_stream, monkeypatch):
    looks = []
    monkeypatch.setattr(ingest, "enqueue_on_commit", lambda task, experiment: looks.append(experiment))
    of = measured.experiment()
    clock = Clock(NOW + timedelta(hours=2))
    made = ingest.Ingester(event_stream, clock)
    made.prepare()
    for _ in range(3):
        for unit in units(of, "treatment", 3):
            forged = measured.event("verify", "failed", version=2, error="hash_mismatch")
            report(event_stream, unit, forged, received_at=clock())
            made.step()
        clock.advance(seconds=11)
    assert looks == [of.pk] * 3
