"""From events to what became of each unit: attribution, the funnel, exactly once."""

import random
from datetime import timedelta
from hashlib import sha256

import numpy as np
import pytest
from django.db import connection

from experiments import ingest
from experiments.delivery import delivery
from experiments.models import DeviceEvent, Experiment, Exposure, Holdback, MetricRollup, Override
from experiments.rollups import roll_up
from experiments.statistics.latency import BINS, log_quantiles
from tests.experiments import measured
from tests.experiments.measured import event, passed, report, units
from tests.factories import NOW, Clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
STAGES = ("assigned", "offered", "download", "verify", "unpack", "compile", "sanity", "activate", "first_inference")


def test_a_unit_is_put_into_its_arm_whatever_it_says(of, event_stream, ingested):
    [treated], [controlled] = units(of, "treatment", 1), units(of, "control", 1)
    report(event_stream, treated, *passed(2, *STAGES))
    report(event_stream, controlled, *passed(1, "assigned"), profile="low")
    ingested()
    found = {row.unit: (row.arm, row.device_class, row.reached, row.assigned_at) for row in Exposure.objects.all()}
    at = NOW + timedelta(hours=1)
    assert found == {treated: ("treatment", "high", 8, at), controlled: ("control", "low", 0, at)}
    assert set(DeviceEvent.objects.values_list("arm", "phase_id")) == {
        ("treatment", of.phase.pk), ("control", of.phase.pk)
    }  # fmt: skip


def test_an_assignment_to_another_version_is_none(of, event_stream, ingested):
    [treated] = units(of, "treatment", 1)
    report(event_stream, treated, *passed(1, "assigned", "download"))
    ingested()
    row = Exposure.objects.get()
    assert (row.assigned_at, row.reached) == (None, -1)


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, True),
        ({"halted_classes": ["low"]}, True),
        ({"halted_classes": ["high"]}, False),
        ({"state": "halted"}, False),
    ],
)
def test_a_unit_that_must_take_a_floor_first_is_assigned(of, event_stream, ingested, changes, counted):
    """Its arm's decision names the floor's version. A control without that detour would seem to have more units; a unit
    that is told another version since its arm is halted was not given the treatment."""
    Experiment.objects.filter(pk=of.pk).update(**changes)
    [treated] = units(of, "treatment", 1)
    report(event_stream, treated, event("assigned", version=1, phase=of.phase.number, experiment=of.slug))
    ingested()
    row = Exposure.objects.get()
    assert (row.assigned_at is not None, row.reached) == (counted, 0 if counted else -1)


def test_an_assignment_by_another_decision_than_the_phases_is_none(of, event_stream, ingested):
    """Before a phase is served, its control's future units are told the same version by the current release."""
    said = {
        "of no phase": {"phase": 0},
        "of an earlier phase": {"phase": of.phase.number + 1, "experiment": of.slug},
        "of another experiment": {"phase": of.phase.number, "experiment": "other"},
        "of this one": {"phase": of.phase.number, "experiment": of.slug},
        "not said": {},
    }
    told = dict(zip(said, units(of, "control", len(said)), strict=True))
    for name, unit in told.items():
        report(event_stream, unit, event("assigned", version=1, **said[name]))
    ingested()
    counted = set(Exposure.objects.filter(assigned_at__isnull=False).values_list("unit", flat=True))
    assert counted == {told["of this one"], told["not said"]}


def test_who_takes_no_part_leaves_no_trace(of, event_stream, ingested):
    version = of.model.versions.get(number=1)
    holdback = Holdback.objects.create(channel=of.channel, model=of.model, version=version, percent_bp=5000)
    candidates = units(of, "treatment", 40)
    kept = [unit for unit in candidates if measured.bucket(unit, holdback.salt) < 5000]
    overridden, held, outside = [unit for unit in candidates if unit not in kept][:3]
    key = delivery().unit_key(of.application, overridden)
    Override.objects.create(experiment=of, unit_key=key, arm="control", set_by="ada", set_at=NOW)
    for unit in (overridden, kept[0]):
        report(event_stream, unit, *passed(2, *STAGES))
    report(event_stream, "", *passed(2, *STAGES))
    report(event_stream, outside, event("activate", model="another"))
    report(event_stream, held, event("activate", version=2, at=NOW - timedelta(hours=1)))
    ingested()
    assert Exposure.objects.count() == 0
    assert DeviceEvent.objects.exclude(phase=None).count() == 0
    assert DeviceEvent.objects.count() == 29


def test_a_device_without_a_variant_for_every_arm_is_outside(of, event_stream, ingested):
    [treated] = units(of, "treatment", 1)
    report(event_stream, treated, *passed(2, *STAGES), profile="foreign")
    ingested()
    assert Exposure.objects.count() == 0


def test_a_phase_that_opens_while_the_ingester_runs_gets_its_events(of, event_stream, ingested):
    [treated] = units(of, "treatment", 1)
    report(event_stream, treated, *passed(2, "assigned"))
    ingested()
    first = of.phase
    second = measured.phase(of, 6000, NOW + timedelta(hours=2))
    report(
        event_stream,
        treated,
        event("assigned", version=2, at=NOW + timedelta(hours=3)),
        event("activate", version=2, at=NOW + timedelta(hours=1)),
        received_at=NOW + timedelta(hours=4),
    )
    ingested()
    assert dict(Exposure.objects.values_list("phase_id", "reached")) == {first.pk: 7, second.pk: 0}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([("download", "failed", "download_truncated")], {"failed": 2, "reached": 0}),
        ([("download", "failed", "download_truncated"), ("download", "ok", None)], {"failed": 2, "reached": 2}),
        ([("compile", "failed", "load_failed")], {"failed": 5, "load_failed_at": True}),
        ([("compile", "failed", "load_crashed")], {"failed": 5, "crashed_at": True, "load_failed_at": False}),
        ([("rollback", "ok", "inference_failed")], {"crashed_at": True}),
        ([("fallback", "ok", "load_failed")], {"fell_back_at": True}),
        ([("fallback", "ok", None)], {"fell_back_at": False}),
        ([("verify", "failed", "hash_mismatch")], {"failed": 3, "integrity_at": True}),
        ([("verify", "failed", "manifest_expired")], {"failed": 3, "integrity_at": False}),
    ],
)
def test_what_counts_as_what(of, event_stream, ingested, events, expected):
    [treated] = units(of, "treatment", 1)
    said = [event(stage, outcome, version=2, error=error) for stage, outcome, error in events]
    report(event_stream, treated, event("assigned", version=2), *said)
    ingested()
    row = Exposure.objects.get()
    for name, value in expected.items():
        found = getattr(row, name)
        assert found == value or (found is not None) is value, name


def test_what_fails_before_the_assignment_is_not_counted(of, event_stream, ingested):
    """Until a unit polls, the control's version runs in both arms, and its events would count in one."""
    early, late, both, close = units(of, "control", 4)
    crash = {"stage": "compile", "outcome": "failed", "version": 1, "error": "load_crashed"}
    told, before, after = (NOW + timedelta(hours=hours) for hours in (1, 0.5, 1.5))
    for unit, *moments in ((early, before), (late, after), (both, after, before), (close, told - timedelta(seconds=5))):
        report(event_stream, unit, event("assigned", version=1, at=told))
        for at in moments:
            report(event_stream, unit, event(**crash, at=at))
            ingested()
    roll_up(of.phase, NOW + timedelta(hours=2), slo_ms=100)
    (row,) = MetricRollup.objects.filter(arm="control")
    assert (row.units, row.crashed) == (4, 3)


def test_a_fallback_names_the_version_it_fell_back_to(of, event_stream, ingested):
    [treated] = units(of, "treatment", 1)
    report(event_stream, treated, event("fallback", version=1, error="load_failed"))
    ingested()
    assert Exposure.objects.get().fell_back_at is not None


def test_histograms_add_up_once_and_give_the_p95_of_the_statistics(of, event_stream, ingested):
    [treated] = units(of, "treatment", 1)
    chance = random.Random(1)
    total = np.zeros(BINS, int)
    same = None
    for length in (5, 64, 40, 64):
        counts = [chance.randrange(9) for _ in range(length)]
        total[:length] += counts
        same = event("inference", version=2, histogram=counts)
        report(event_stream, treated, same, same)
        ingested()
    report(event_stream, treated, same)
    ingested()
    row = Exposure.objects.get()
    assert row.histogram == total.tolist()
    assert row.log_p95 == pytest.approx(log_quantiles([row.histogram])[0], abs=1e-9)


def test_a_unit_is_as_fast_as_what_it_runs_whether_its_arms_version_or_not(of, event_stream, ingested):
    """Who did not get the new version yet counts with the old one: the others alone would be survivors."""
    [treated] = units(of, "treatment", 1)
    report(event_stream, treated, event("assigned", version=2), event("inference", version=1, histogram=[30]))
    ingested()
    assert Exposure.objects.get().histogram == [30]


def test_the_database_and_the_statistics_find_the_same_p95():
    edges = [[100, *[0] * 63], [*[0] * 63, 100], [19, *[0] * 63], [0] * 64, [95, 5, *[0] * 62], [94, 0, 6, *[0] * 61]]
    random_ones = np.random.default_rng(1).integers(0, 30, (50, 64)).tolist()
    with connection.cursor() as cursor:
        for counts in (*edges, *random_ones):
            cursor.execute("SELECT experiments_log_p95(%s::bigint[])", [counts])
            [found] = cursor.fetchone()
            expected = log_quantiles([counts])[0]
            assert (found is None and np.isnan(expected)) or found == pytest.approx(expected, abs=1e-9), counts


def test_the_key_of_an_override_is_the_catalogs(of):
    assert len(delivery().unit_key(of.application, "u1")) == len(sha256().hexdigest())


def test_a_batch_that_comes_again_changes_nothing(of, event_stream, ingested, monkeypatch):
    """Killed between commit and acknowledgement: the events are there, the entry comes again."""
    [treated] = units(of, "treatment", 1)
    report(event_stream, treated, *passed(2, *STAGES), event("inference", version=2, histogram=[30]))

    def crash(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(event_stream, "pipeline", crash)
        with pytest.raises(KeyboardInterrupt):
            ingested()
    before = Exposure.objects.values().get()
    assert ingest.Ingester(event_stream, Clock(NOW)).recover() == 1
    assert Exposure.objects.values().get() == before
    assert before["histogram"] == [30]
    assert DeviceEvent.objects.count() == 10
