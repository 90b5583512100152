"""The event stream on a real Redis, the table on a real PostgreSQL."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from experiments import ingest
from experiments.models import DeviceEvent
from tests.factories import Clock

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
