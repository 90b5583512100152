"""A step ends before all of it is known: who was offered the version an hour earlier is lost a day later."""

from datetime import timedelta

import pytest

from experiments import analysis
from experiments.models import Exposure, MetricRollup
from tests.experiments import measured
from tests.factories import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services", "own_store")]
NEXT_STEP = NOW + timedelta(hours=1)


@pytest.fixture
def of():
    return measured.experiment(2000)


def offered(phase, arm, number, reached):
    """Units that were assigned when the phase began, and say no more after the stage of that rank."""
    Exposure.objects.bulk_create(
        Exposure(phase=phase, unit=f"{arm}-{index}", arm=arm, device_class="high", day=NOW.date(), assigned_at=NOW,
                 heard_at=NOW, reached=reached(index), progressed_at=NOW, os="android")
        for index in range(number)
    )  # fmt: skip


def counted(phase):
    rows = MetricRollup.objects.filter(phase=phase, arm="treatment")
    return sum(row.units for row in rows), sum(sum(row.lost) for row in rows)


def test_losses_of_a_step_that_is_over_still_count(of):
    first = of.phase
    offered(first, "control", 1000, lambda _: 0)
    offered(first, "treatment", 1000, lambda index: 1 if index % 5 == 0 else 8)
    assert analysis.look(of, NEXT_STEP).verdict == "advance"
    measured.phase(of, 5000, NEXT_STEP)
    of.refresh_from_db()
    assert counted(first) == (1000, 0)
    run = analysis.look(of, NOW + timedelta(hours=25))
    assert counted(first) == (1000, 200)
    assert run.reasons[0].startswith("funnel: +20.00 points")


@pytest.mark.parametrize(
    ("went_on", "lost"), [({"reached": 8}, 0), ({"reached": 0, "failed": 8}, 0), ({"reached": 7}, 200), ({}, 200)]
)
def test_who_was_under_way_when_a_step_ended_is_not_lost_in_it(of, went_on, lost):
    """Activated in the first step, used for the first time in the second; without `went_on` never heard of again."""
    first = of.phase
    offered(first, "treatment", 1000, lambda index: 7 if index % 5 == 0 else 8)
    measured.phase(of, 5000, NEXT_STEP)
    of.refresh_from_db()
    if went_on:
        offered(of.phase, "treatment", 1000, lambda _: 0)
        Exposure.objects.filter(phase=of.phase).update(**went_on)
    analysis.look(of, NOW + timedelta(hours=73))
    assert counted(first) == (1000, lost)


def test_who_was_off_when_a_step_ended_counts_in_it_later(of):
    first = of.phase
    offered(first, "treatment", 10, lambda _: 8)
    analysis.look(of, NEXT_STEP)
    measured.phase(of, 5000, NEXT_STEP)
    Exposure.objects.filter(phase=first, unit="treatment-0").update(crashed_at=NOW)
    analysis.look(of, NEXT_STEP + timedelta(hours=10))
    assert sum(row.crashed for row in MetricRollup.objects.filter(phase=first)) == 1


def test_a_phase_that_is_long_over_is_not_counted_again(of):
    first = of.phase
    offered(first, "treatment", 10, lambda _: 8)
    measured.phase(of, 5000, NEXT_STEP)
    settled = NEXT_STEP + analysis.SETTLED_AFTER
    analysis.look(of, settled)
    Exposure.objects.filter(phase=first).delete()
    analysis.look(of, settled + timedelta(seconds=1))
    assert counted(first) == (10, 0), "what was counted outlives the units"
