"""What a look asks of PostgreSQL does not grow with units more than it must: by plans and counts, not by the clock."""

from datetime import timedelta

import pytest
from django.db import connection

from experiments import analysis, rollups
from experiments.ingest.placing import known_phases
from experiments.models import DeviceEvent, Exposure
from experiments.services import previewing
from tests.experiments import lived, measured
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def of(own_store):
    return measured.experiment()


def plan_of(statement, values):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement}", values)
        return "\n".join(line for (line,) in cursor.fetchall())


def asked(block):
    """The statements of a block with their values."""
    found = []

    def keep(execute, statement, values, many, context):
        found.append((statement, values))
        return execute(statement, values, many, context)

    with connection.execute_wrapper(keep):
        block()
    return found


def test_whether_a_silent_unit_went_on_is_asked_once(of):
    statements = asked(lambda: rollups.roll_up(of.phase, NOW, slo_ms=100))
    (count,) = [each for each in statements if each[0].startswith("\nINSERT INTO experiments_metricrollup")]
    assert plan_of(*count).count("on experiments_exposure later") == 1


def test_units_with_files_that_are_not_genuine_are_found_without_all_others(of):
    Exposure.objects.bulk_create(
        Exposure(
            phase=of.phase, unit=f"u{number}", arm="treatment", device_class="high", day=NOW.date(), heard_at=NOW,
            integrity_at=NOW if number < 2 else None,
        )
        for number in range(5_000)
    )  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE experiments_exposure")
    phases, found = list(of.phases.all()), []
    (count,) = asked(lambda: found.append(analysis.integrity_units(phases, ["treatment"])))
    assert found == [2]
    assert "exposure_not_genuine" in plan_of(*count)


def test_units_by_system_and_by_app_are_read_once(of):
    said = {"arm": "treatment", "device_class": "high", "day": NOW.date(), "heard_at": NOW, "assigned_at": NOW}
    phase = of.phase
    for unit, os, app_version in (("a", "android", "1"), ("b", "android", "2"), ("c", "ios", "2")):
        Exposure.objects.create(phase=phase, unit=unit, os=os, app_version=app_version, **said)
    found = []
    statements = asked(lambda: found.append(analysis._groups(phase)))
    assert found == [{"os android": [2, 0], "os ios": [1, 0], "app_version 2": [2, 0], "app_version 1": [1, 0]}]
    assert sum("experiments_exposure" in statement for statement, _ in statements) == 1


def test_phases_are_read_by_as_many_queries_however_many_there_are(of):
    one = asked(lambda: known_phases(NOW))
    for percent_bp in (6000, 7000, 8000):
        measured.phase(of, percent_bp, NOW)
    found = []
    four = asked(lambda: found.append(known_phases(NOW)))
    assert [len(phase.arms) for phase in found[0]["demo"].phases["digits"]] == [2, 2, 2, 2]
    assert [[variant.name for variant in arm.variants] for arm in found[0]["demo"].phases["digits"][0].arms] == [
        ["tflite-float32"]
    ] * 2
    assert len(four) == len(one)


def known(of):
    units, is_sample = previewing.known_units(of.channel, of.model, NOW)
    return sorted(units), is_sample


def test_of_events_without_end_the_latest_tell_which_units_there_are(of, monkeypatch):
    lived.heard_of(of.model, 3, NOW - timedelta(days=2))
    lived.heard_of(of.model, 2)
    everyone = ["known-0", "known-1", "known-2"]
    assert known(of) == (everyone, False)
    monkeypatch.setattr(previewing, "MOST_EVENTS", 2)
    assert known(of) == (everyone[:2], True)
    monkeypatch.setattr(previewing, "MOST_EVENTS", 6)
    monkeypatch.setattr(previewing, "MOST_UNITS", 2)
    assert known(of) == (everyone[:2], True)
    DeviceEvent.objects.update(channel="other")
    assert known(of) == ([], False)
