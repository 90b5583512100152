"""Events wait until the server has them, within bounds, and are removed for no other reason."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from aerogram_sdk import events
from aerogram_sdk.events import LATENCY_BOUNDS_US, EventQueue, LatencyHistogram, Subject, fitting

from tests.sdk.conftest import score
from tests.sdk.repository_simulator import dropped, refused, replayed

DIGITS = Subject("digits", 1, "numpy-float")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 31, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(tmp_path, clock):
    return EventQueue(tmp_path / "events.db", clock)


def numbers(queue):
    return [event["ms"] for event in queue.pending()]


def test_event_members(queue):
    queue.record("download", "ok", DIGITS, ms=3, bytes=None)
    (event,) = queue.pending()
    assert UUID(event.pop("id")).version == 4
    assert event == {
        "at": "2030-01-31T12:00:00Z",
        "stage": "download",
        "outcome": "ok",
        "model": "digits",
        "version": 1,
        "variant": "numpy-float",
        "ms": 3,
    }


def test_oldest_go_first_when_full(queue, monkeypatch):
    monkeypatch.setattr(events, "MOST_QUEUED", 5)
    for number in range(8):
        queue.record("inference", "ok", DIGITS, ms=number)
    assert numbers(queue) == [3, 4, 5, 6, 7]


def test_another_process_sees_the_same_queue(queue, tmp_path, clock):
    queue.record("inference", "ok", DIGITS, ms=1)
    EventQueue(tmp_path / "events.db", clock).record("inference", "ok", DIGITS, ms=2)
    assert numbers(queue) == [1, 2]


@pytest.mark.parametrize(
    "fault",
    [refused(503), refused(400), refused(200), refused(413), dropped(0)],
    ids=["503", "400", "200", "413", "no answer"],
)
def test_kept_unless_202(client, server, installed, fault):
    assert score(client) == 3.0
    waiting = client.pending_events()
    server.fault("events", fault)
    assert client.flush_events() == 0
    assert client.pending_events() == waiting
    server.heal()
    assert client.flush_events() == len(waiting)
    assert [event["id"] for event in server.batches[-1]["events"]] == [event["id"] for event in waiting]


def test_same_ids_if_the_answer_is_lost(client, server, installed):
    assert score(client) == 3.0
    server.fault("events", dropped(0), times=1)
    client.flush_events()
    client.flush_events()
    lost, again = (batch["events"] for batch in server.batches[-2:])
    assert lost == again


def test_batches_are_bounded_in_number(client, server, installed, monkeypatch):
    monkeypatch.setattr(events, "MOST_PER_BATCH", 2)
    for _ in range(5):
        score(client)
    assert client.flush_events() == 5
    assert [len(batch["events"]) for batch in server.batches[1:]] == [2, 2, 1]


def test_each_batch_names_the_channel_its_events_happened_on(new_client, server, installed):
    server.batches.clear()
    for channel in ("production", "staging"):
        score(new_client(channel=channel))
    EventQueue(new_client()._store.root / "events.db", lambda: datetime.now(UTC)).record("inference", "ok", DIGITS)
    assert new_client(channel="staging").flush_events() == 3
    assert [batch.get("channel") for batch in server.batches] == ["production", "staging", None]
    assert all("channel" not in event for batch in server.batches for event in batch["events"])


def test_batches_are_bounded_in_bytes():
    large = [{"error": "x" * 200_000} for _ in range(5)]
    assert len(fitting(large)) == 2
    assert len(json.dumps(fitting(large))) < 512 * 1024
    assert len(fitting([{"error": "x" * 600_000}, {}])) == 1


def test_events_older_than_thirty_days_are_dropped(new_client, server, installed):
    clock = Clock()
    client = new_client(clock=clock)
    server.batches.clear()
    score(client)
    clock.now += timedelta(days=29)
    score(client)
    clock.now += timedelta(days=2)
    assert client.flush_events() == 1
    assert server.batches[0]["sent_at"] == "2030-03-03T12:00:00Z"
    assert server.batches[0]["events"][0]["at"] == "2030-03-01T12:00:00Z"


def test_queue_that_is_no_database_is_started_afresh(tmp_path, clock):
    (tmp_path / "events.db").write_bytes(b"no database at all" * 100)
    queue = EventQueue(tmp_path / "events.db", clock)
    queue.record("inference", "ok", DIGITS, ms=1)
    assert numbers(queue) == [1]


def test_queue_that_cannot_be_written_stops_nothing(new_client, simulator, release, tmp_path):
    (tmp_path / "store" / "demo" / "events.db").mkdir(parents=True)
    client = new_client()
    simulator.offer(release(1))
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    assert score(client) == 3.0
    assert (client.flush_events(), client.pending_events()) == (0, [])


def test_unknown_members_in_the_answer_do_not_matter(client, server, installed):
    score(client)
    server.fault("events", replayed(b'{"accepted": 0, "rejected": [{"index": 0}]}'))
    assert client.flush_events() == 1
    assert client.pending_events() == []


def test_histogram_bins_are_fixed_and_log_spaced():
    assert len(LATENCY_BOUNDS_US) == 63
    assert LATENCY_BOUNDS_US[::3] == tuple(64 << step for step in range(21))
    histogram = LatencyHistogram()
    for seconds in (0.0, 64e-6, 65e-6, 1000.0):
        histogram.add(seconds)
    assert (histogram.counts[0], histogram.counts[1], histogram.counts[63], sum(histogram.counts)) == (2, 1, 1, 4)


def test_inferences_are_reported_as_one_histogram(client, installed):
    for _ in range(3):
        score(client)
    histograms = [event["histogram"] for event in client.pending_events() if event["stage"] == "inference"]
    assert [sum(counts) for counts in histograms] == [1, 1, 1]
    assert {len(counts) for counts in histograms} == {64}
