"""What units measured before an experiment: found once, in its window alone, and used by the final read."""

import uuid
from datetime import timedelta

import numpy as np
import psycopg2
import pytest
from django.db import connection
from scipy import stats

from experiments import analysis, before_values
from experiments.before_values import WINDOW, collect_before_values
from experiments.models import DeviceEvent, Exposure
from experiments.statistics.latency import log_quantiles, padded
from tests.experiments import measured
from tests.experiments.test_analysis import exposed
from tests.factories import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services", "own_store")]
LATER = NOW + timedelta(hours=2)
FAST, SLOW = [0] * 20 + [100], [0] * 40 + [100]


@pytest.fixture
def of():
    return measured.experiment()


def inferred(unit, histogram, received_at, **members):
    said = {"application": "demo", "model": "digits", "stage": "inference", "outcome": "ok", "version": 1} | members
    return DeviceEvent.objects.create(
        event_id=uuid.uuid4(), unit=unit, received_at=received_at, at=received_at, histogram=histogram, **said
    )


def value_of(*histograms):
    return pytest.approx(log_quantiles([np.sum([padded(each) for each in histograms], axis=0)])[0], abs=1e-9)


def found(phase):
    return dict(Exposure.objects.filter(phase=phase).values_list("unit", "before_log_p95"))


def test_the_value_is_of_the_window_before_the_first_phase_alone(of):
    exposed(of, "treatment", 3)
    day = timedelta(days=1)
    for unit in ("treatment-0", "treatment-1", "stranger"):
        inferred(unit, FAST, NOW - day)
    inferred("treatment-0", SLOW, NOW - WINDOW)
    for elsewhere in (
        {"received_at": NOW - WINDOW - timedelta(seconds=1)},
        {"received_at": NOW},
        {"model": "another"},
        {"application": "another"},
        {"stage": "first_inference"},
        {"histogram": None},
    ):
        inferred(**{"unit": "treatment-1", "histogram": SLOW, "received_at": NOW - day} | elsewhere)
    inferred("treatment-2", [19], NOW - day)  # too few to have a p95
    assert collect_before_values(of.phase) == 3
    assert found(of.phase) == {
        "treatment-0": value_of(FAST, SLOW), "treatment-1": value_of(FAST), "treatment-2": None
    }  # fmt: skip


def test_each_unit_is_looked_for_once_and_many_at_a_time(of, monkeypatch, django_assert_num_queries):
    exposed(of, "treatment", 7)
    inferred("treatment-6", FAST, NOW - timedelta(hours=1))
    monkeypatch.setattr(before_values, "UNITS_AT_ONCE", 4)
    phase = of.phase
    with django_assert_num_queries(3):  # the phases, and two times four units
        assert collect_before_values(phase) == 7
    inferred("treatment-0", FAST, NOW - timedelta(hours=1))
    exposed(of, "control", 1)
    assert collect_before_values(phase) == 1
    assert found(phase)["treatment-0"] is None
    assert found(phase)["treatment-6"] == value_of(FAST)


def test_a_look_leaves_to_the_next_one_what_takes_too_long(of, monkeypatch):
    exposed(of, "treatment", 7)
    monkeypatch.setattr(before_values, "UNITS_AT_ONCE", 2)
    monkeypatch.setattr(before_values, "BATCHES_A_LOOK", 2)
    assert [collect_before_values(of.phase) for _ in range(3)] == [4, 3, 0]


def test_a_later_phase_has_the_same_value_when_the_events_are_gone(of):
    exposed(of, "treatment", 2)
    inferred("treatment-0", FAST, NOW - timedelta(days=1))
    collect_before_values(of.phase)
    DeviceEvent.objects.all().delete()
    second = measured.phase(of, 8000, LATER)
    exposed(of, "treatment", 3)
    inferred("treatment-1", SLOW, NOW - timedelta(days=1))  # too late: it was looked for
    inferred("treatment-2", SLOW, LATER - timedelta(hours=1))  # after the start, though before this phase
    collect_before_values(second)
    assert found(second) == {"treatment-0": value_of(FAST), "treatment-1": None, "treatment-2": None}


@pytest.mark.django_db(transaction=True)
def test_a_unit_that_is_being_written_is_left_for_the_next_look(of):
    exposed(of, "treatment", 3)
    with psycopg2.connect(_dsn()) as other, other.cursor() as cursor:
        cursor.execute("SELECT id FROM experiments_exposure WHERE unit = 'treatment-1' FOR UPDATE")
        with connection.cursor() as mine:
            mine.execute("SET lock_timeout = '2s'")
        try:
            assert collect_before_values(of.phase) == 2
        finally:  # the connection is the next test's, too
            other.rollback()
            with connection.cursor() as mine:
                mine.execute("RESET lock_timeout")
    assert collect_before_values(of.phase) == 1


def _dsn():
    said = connection.settings_dict
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    return psycopg2.extensions.make_dsn(**{name: said[key] for name, key in names.items() if said[key]})


def correlated(of, number=400):
    """Latencies of both arms with their values from before, of which the first units have none."""
    chance = np.random.default_rng(1)
    kept = {}
    for arm in ("treatment", "control"):
        before = chance.normal(9.9, 0.4, number)
        after = before + chance.normal(0, 0.1, number)
        is_known = [index >= (30 if arm == "treatment" else 70) for index in range(number)]
        exposed(
            of, arm, number, is_before_sought=True, log_p95=lambda i, after=after: after[i],
            before_log_p95=lambda i, before=before, is_known=is_known: before[i] if is_known[i] else None,
        )  # fmt: skip
        kept[arm] = after, before, np.array(is_known)
    return kept


def latency(run):
    return next(row for row in run.results["final"] if row["name"] == "latency")


def test_the_final_read_of_latency_is_that_of_the_adjusted_units(of):
    kept = correlated(of)
    said = latency(analysis.look(of, LATER))
    x, y = (np.concatenate([kept[arm][place][kept[arm][2]] for arm in kept]) for place in (1, 0))
    theta = np.cov(y, x)[0, 1] / x.var(ddof=1)
    adjusted = [np.where(known, after - theta * (before - x.mean()), after) for after, before, known in kept.values()]
    expected = stats.ttest_ind(*adjusted, equal_var=False)
    assert said["p_value"] == pytest.approx(expected.pvalue)
    assert said["interval"] == pytest.approx(list(expected.confidence_interval()))
    plain = stats.ttest_ind(kept["treatment"][0], kept["control"][0], equal_var=False)
    assert said["cuped"]["plain_interval"] == pytest.approx(list(plain.confidence_interval()))
    errors = [sum(arm.var(ddof=1) / len(arm) for arm in arms) for arms in (adjusted, [kept[arm][0] for arm in kept])]
    assert said["cuped"]["variance_reduction"] == pytest.approx(1 - errors[0] / errors[1])
    assert said["cuped"]["units"] == 700
    assert 0.5 < said["cuped"]["variance_reduction"] < 1


def test_each_phase_is_adjusted_by_itself_and_then_combined(of):
    correlated(of)
    alone = latency(analysis.look(of, LATER))
    measured.phase(of, 8000, LATER)
    correlated(of)
    both = latency(analysis.look(of, LATER + timedelta(hours=1)))
    width = [said["interval"][1] - said["interval"][0] for said in (alone, both)]
    assert width[1] == pytest.approx(width[0], rel=0.01), "the same units again are no news"
    assert both["difference"] == pytest.approx(alone["difference"])
    assert both["cuped"]["variance_reduction"] == pytest.approx(alone["cuped"]["variance_reduction"])


def test_without_values_from_before_the_final_read_is_the_plain_one(of):
    for arm in ("treatment", "control"):
        exposed(of, arm, 300, log_p95=lambda index: 9.5 + index % 7 / 10)
    said = latency(analysis.look(of, LATER))
    assert (said["cuped"]["units"], said["cuped"]["variance_reduction"]) == (0, 0)
    assert (said["difference"], said["interval"]) == (
        said["cuped"]["plain_difference"],
        said["cuped"]["plain_interval"],
    )
