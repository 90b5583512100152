"""What others than the ingester do with the event stream: tell how much waits there, and drop what was put aside."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from experiments import tasks
from experiments.event_stream import DEAD_LETTERS, STREAM, backlog, drop_dead_letters
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2031, 1, 31, tzinfo=UTC)
BATCH = {"unit": "u", "batch": "no json"}


@pytest.fixture(autouse=True)
def stream(event_stream, services, settings):
    settings.EVENT_STREAM_URL = services.event_stream_url
    return event_stream


def put_aside(stream, *times):
    keys = [f"{int(time.timestamp() * 1000)}-{number}" for number, time in enumerate(times)]
    return [stream.xadd(DEAD_LETTERS, BATCH, id=key) for key in keys]


def test_letters_as_old_as_events_become_are_dropped_and_no_younger_one(stream):
    _, *younger = put_aside(stream, NOW - timedelta(milliseconds=1), NOW, NOW, NOW + timedelta(days=1))
    assert drop_dead_letters(stream, NOW) == 1
    assert [key for key, _ in stream.xrange(DEAD_LETTERS)] == younger
    assert drop_dead_letters(stream, NOW) == 0


def test_beat_drops_them_by_the_retention_of_events(stream):
    now = datetime.now(UTC)
    kept = settings.AEROGRAM_EVENT_RETENTION
    _, younger = put_aside(stream, now - kept - timedelta(hours=1), now - kept + timedelta(hours=1))
    tasks.keep_event_tables()
    assert [key for key, _ in stream.xrange(DEAD_LETTERS)] == [younger]


def test_metrics_tell_what_waits_and_what_was_put_aside_but_nothing_of_a_stream_that_is_away(stream, client, settings):
    for _ in range(3):
        stream.xadd(STREAM, BATCH)
    put_aside(stream, NOW)
    assert backlog(stream) == (3, 1)
    headers = {"Authorization": f"Bearer {factories.token(factories.user('prometheus'))}"}
    body = client.get("/metrics", headers=headers).content.decode()
    assert "# TYPE aerogram_event_batches_waiting gauge\naerogram_event_batches_waiting 3\n" in body
    assert "\naerogram_event_batches_put_aside 1\n" in body
    settings.EVENT_STREAM_URL = "unix:///nowhere.sock"
    answer = client.get("/metrics", headers=headers)
    assert (answer.status_code, "\naerogram_event" in answer.content.decode()) == (200, False)
