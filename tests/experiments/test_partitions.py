"""Monthly partitions, the ids beside them, and the table that was there before."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from experiments import partitions
from experiments.ingest.store import adopt_earlier_events
from experiments.models import DeviceEvent, SeenEvent

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime(2031, 1, 31, 23, 59, tzinfo=UTC)
KEEP = timedelta(days=90)


@pytest.fixture(autouse=True)
def months():
    """The partitions of these tests are gone afterwards; whoever needs others makes them."""
    before = set(partitions.partitions())
    yield
    with connection.cursor() as cursor:
        for name in set(partitions.partitions()) - before:
            cursor.execute(f"DROP TABLE {name}")


def stored(received_at, **said):
    return DeviceEvent.objects.create(
        event_id=uuid.uuid4(), application="demo", unit="u", received_at=received_at, at=received_at, stage="activate",
        outcome="ok", model="digits", **said,
    )  # fmt: skip


def rows_of(name):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {name}")
        return cursor.fetchone()[0]


def test_this_month_and_the_next_two_are_made_once():
    assert partitions.make_ahead(NOW) == [f"experiments_event_p{month}" for month in ("203101", "203102", "203103")]
    assert partitions.make_ahead(NOW) == []
    assert partitions.make_ahead(NOW + timedelta(minutes=1)) == ["experiments_event_p203104"]


def test_an_event_goes_into_its_month_and_without_one_into_the_default():
    partitions.make_ahead(NOW, months=0)
    stored(NOW)
    stored(NOW + timedelta(minutes=1))
    assert (rows_of("experiments_event_p203101"), rows_of(partitions.DEFAULT)) == (1, 1)


def test_rows_that_came_before_their_partition_move_into_it():
    first, second = stored(NOW), stored(NOW + timedelta(days=40))
    partitions.make_ahead(NOW, months=0)
    assert (rows_of("experiments_event_p203101"), rows_of(partitions.DEFAULT)) == (1, 1)
    assert set(DeviceEvent.objects.values_list("event_id", flat=True)) == {first.event_id, second.event_id}


def test_a_month_is_dropped_when_its_last_event_is_too_old():
    partitions.make_ahead(NOW, months=0)
    stored(NOW)
    assert "experiments_event_p203101" not in partitions.drop_older(NOW)
    assert rows_of("experiments_event") == 1
    assert "experiments_event_p203101" in partitions.drop_older(NOW + timedelta(minutes=1))
    assert rows_of("experiments_event") == 0


def test_the_indexes_are_those_of_the_table():
    partitions.make_ahead(NOW, months=0)
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "experiments_event_p203101")
    assert sorted(tuple(each["columns"]) for each in found.values() if each["index"]) == [
        ("application", "model", "received_at"), ("unit",)
    ]  # fmt: skip


def test_ids_are_forgotten_after_35_days():
    for days in (34, 36):
        SeenEvent.objects.create(event_id=uuid.uuid4(), received_at=NOW - timedelta(days=days))
    partitions.keep_tables(NOW, KEEP)
    assert SeenEvent.objects.get().received_at == NOW - timedelta(days=34)


def test_the_rows_of_the_table_before_are_moved_and_none_counts_twice():
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO experiments_deviceevent (event_id, application, unit, received_at, at, stage, outcome, model, "
            "variant, error, histogram, profile) SELECT gen_random_uuid(), 'demo', 'u', %s, %s, 'inference', 'ok', "
            "'digits', '', '', CASE WHEN n = 1 THEN '[1, 2]'::jsonb END, '{}' FROM generate_series(1, 3) AS n",
            [NOW, NOW],
        )
        cursor.execute("SELECT event_id FROM experiments_deviceevent WHERE histogram IS NULL LIMIT 1")
        SeenEvent.objects.create(event_id=cursor.fetchone()[0], received_at=NOW)
    assert adopt_earlier_events() == 3
    assert adopt_earlier_events() == 0
    assert sorted(row.histogram or [] for row in DeviceEvent.objects.all()) == [[], [1, 2]]
    assert rows_of("experiments_deviceevent") == 0
