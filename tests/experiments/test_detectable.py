"""What a plan would see: by simulation with the real bounds, and as properties."""

import subprocess
import sys
import uuid
from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.detectable import (
    ASSUMED,
    POWER,
    PRIOR_EVENTS,
    PRIOR_RATIO,
    Baseline,
    detectable,
    in_words,
    least_harm,
    needed,
    planned,
)
from experiments.funnel import FUNNEL
from experiments.models import DeviceEvent, MetricRollup
from experiments.partitions import make_ahead
from experiments.policy import DEFAULT_GUARDRAILS, Measure, Policy
from experiments.ramps import Share, ranges_at
from experiments.services.foreseeing import foresee
from experiments.statistics import rare, sequences
from experiments.statistics.estimates import Moments, difference, share_difference
from tests.experiments import measured
from tests.factories import NOW

POLICY, BASELINE = Policy(), Baseline()
ALPHA = 0.005
RULES = {rule.name: rule for rule in DEFAULT_GUARDRAILS}
RUNS = 300


def plan(*percentages, kind="rollout", part=1.0, min_units=200):
    arms = [Share("treatment", 5000), Share("control", 5000, control=True)]
    return [planned(each, ranges_at(kind, arms, each), "control", part, min_units) for each in percentages]


def trips(rule, arms, harm, rng):
    """One look at arms in which the treatment does so much harm."""
    share = BASELINE.shares.get(rule.name, 0.0)
    if rule.measure is Measure.LOG_MEAN:
        moments = [
            Moments(n, n * mean, n * (mean**2 + BASELINE.log_deviation**2))
            for n, mean in zip(arms, (harm + rng.normal(0, BASELINE.log_deviation / arms[0] ** 0.5),
                                      rng.normal(0, BASELINE.log_deviation / arms[1] ** 0.5)), strict=True)
        ]  # fmt: skip
        return sequences.lower_bound(difference(*moments), ALPHA, 2 * POLICY.planned_units) > rule.margin
    is_ratio = rule.measure is Measure.RATIO
    counts = [int(rng.binomial(arms[0], share * harm if is_ratio else share + harm)), int(rng.binomial(arms[1], share))]
    if is_ratio:
        return rare.lower_bound([rare.Counts(*counts, *arms)], ALPHA) > rule.margin
    shares = [Moments.of_share(n, events) for n, events in zip(arms, counts, strict=True)]
    return sequences.lower_bound(share_difference(*shares), ALPHA, 2 * POLICY.planned_units) > rule.margin


@pytest.mark.parametrize("arms", [(2_000, 2_000), (20_000, 5_000)], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_the_least_harm_trips_the_real_bound_as_often_as_is_told(name, arms):
    rule, rng = RULES[name], np.random.default_rng(7)
    harm = least_harm(rule, arms, ALPHA, POLICY, BASELINE)
    assert np.mean([trips(rule, arms, harm, rng) for _ in range(RUNS)]) == pytest.approx(POWER, abs=0.09)


def test_a_ratio_beyond_a_wider_margin_trips_as_often():
    rule, rng = replace(RULES["crash"], margin=2.0), np.random.default_rng(9)
    harm = least_harm(rule, (4_000, 4_000), ALPHA, POLICY, BASELINE)
    assert np.mean([trips(rule, (4_000, 4_000), harm, rng) for _ in range(RUNS)]) == pytest.approx(POWER, abs=0.09)


@pytest.mark.parametrize("name", RULES)
def test_half_as_much_harm_beyond_the_margin_rarely_trips(name):
    rule, rng = RULES[name], np.random.default_rng(8)
    harm = least_harm(rule, (2_000, 2_000), ALPHA, POLICY, BASELINE)
    smaller = rule.margin + (harm - rule.margin) / 2
    assert np.mean([trips(rule, (2_000, 2_000), smaller, rng) for _ in range(RUNS)]) < 0.4


@given(st.sampled_from(list(RULES)), st.integers(200, 10**6), st.integers(200, 10**6), st.floats(1.1, 10))
def test_more_units_see_less_harm_and_never_less_than_the_margin(name, treatment, control, times):
    rule = RULES[name]
    harm = least_harm(rule, (treatment, control), ALPHA, POLICY, BASELINE)
    more = least_harm(rule, (round(treatment * times), round(control * times)), ALPHA, POLICY, BASELINE)
    if harm is None:
        return
    assert more is not None
    assert rule.margin < more <= harm * 1.000001


@given(st.sampled_from(list(RULES)), st.integers(200, 10**5), st.floats(1.1, 5))
def test_a_wider_margin_asks_for_more_harm(name, units, times):
    rule = RULES[name]
    harm = least_harm(rule, (units, units), ALPHA, POLICY, BASELINE)
    wide = least_harm(replace(rule, margin=rule.margin * times), (units, units), ALPHA, POLICY, BASELINE)
    assert harm is None or wide is None or wide > harm


@given(st.floats(0.001, 0.05), st.integers(1, 3))
def test_the_units_needed_are_just_enough(share, treatments):
    baseline = Baseline(dict.fromkeys(ASSUMED, share))
    alphas = {rule.name: POLICY.alpha * rule.weight / 10 / treatments for rule in DEFAULT_GUARDRAILS}
    for need in needed(POLICY, baseline, treatments=treatments):
        rule, alpha = RULES[need.guardrail], alphas[need.guardrail]
        assert need.harm == 2 * rule.margin
        assert least_harm(rule, (need.units, need.units), alpha, POLICY, baseline) <= need.harm
        fewer = least_harm(rule, (need.units - 1, need.units - 1), alpha, POLICY, baseline)
        assert fewer is None or fewer > need.harm


def test_each_step_has_the_units_of_its_buckets():
    steps = detectable(plan(100, 2500, 5000, 10_000), 20_000, POLICY, BASELINE)
    told = [(step.treatment_units, step.control_units, step.is_reachable) for step in steps]
    assert told == [(200, 200, True), (5_000, 5_000, True), (10_000, 10_000, True), (20_000, 0, True)]
    assert {sight.why_not for sight in steps[-1].sights} == {"no control is left to compare with"}
    halved = detectable(plan(100, part=0.5), 20_000, POLICY, BASELINE)[0]
    assert (halved.treatment_units, halved.is_reachable) == (100, False)


def test_with_units_enough_each_guardrail_has_a_harm_in_its_own_measure():
    sights = detectable(plan(5000), 400, POLICY, BASELINE)[0].sights
    assert [(sight.guardrail, sight.measure, sight.why_not) for sight in sights] == [
        (rule.name, rule.measure, "") for rule in DEFAULT_GUARDRAILS
    ]
    assert None not in {sight.harm for sight in sights}


@pytest.mark.parametrize(
    ("name", "arms"), [("crash", (0, 500)), ("crash", (500, 0)), ("funnel", (199, 5_000)), ("latency", (5_000, 199))]
)
def test_an_arm_below_the_floor_shows_no_harm_whatever_the_other_has(name, arms):
    assert least_harm(RULES[name], arms, ALPHA, POLICY, BASELINE) is None


def test_where_nearly_all_fail_already_no_harm_can_be_seen():
    """The non-events are the rare ones then, and there are not 20 of them."""
    baseline = Baseline(dict.fromkeys(ASSUMED, 0.97))
    assert least_harm(RULES["funnel"], (200, 200), ALPHA, POLICY, baseline) is None
    (sight,) = [each for each in detectable(plan(5000), 400, POLICY, baseline)[0].sights if each.guardrail == "funnel"]
    assert sight.why_not == "too few units, whatever happens"


def test_what_is_too_small_says_so():
    none = detectable(plan(100), 4, POLICY, BASELINE)[0]
    assert {sight.why_not for sight in none.sights} == {"not one unit to expect"}
    few = detectable(plan(5000), 300, POLICY, BASELINE)[0]
    assert few.sights[1].why_not == "counts from 200 units an arm on"
    assert few.sights[0].harm > RULES["crash"].margin, "rare events need no floor"
    none = detectable(plan(0, 5000), 0, POLICY, BASELINE)
    assert {sight.harm for step in none for sight in step.sights} == {None}


def test_a_crash_share_that_doubles_needs_what_is_written():
    crash = needed(POLICY, BASELINE)[0]
    assert (crash.guardrail, crash.harm) == ("crash", 2.0)
    assert crash.units == pytest.approx(21_000, rel=0.1)


@pytest.mark.parametrize(
    ("measure", "harm", "told"),
    [
        (Measure.RATIO, 3.14, "3.1 × control's"),
        (Measure.SHARE, 0.0142, "+1.42 points"),
        (Measure.LOG_MEAN, log(1.12), "+12 %"),
    ],
)
def test_harm_is_told_in_its_own_unit(measure, harm, told):
    assert in_words(measure, harm) == told


def test_the_prior_is_the_one_that_judges():
    assert (PRIOR_RATIO, PRIOR_EVENTS) == (rare.PLANNED_RATIO, rare.CONCENTRATION)


def test_it_costs_no_scipy():
    command = "import sys, experiments.detectable; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


# -- from the rows


@pytest.mark.django_db
class TestForeseen:
    def test_a_draft_is_told_with_the_units_that_reported_and_what_controls_did(self):
        of = measured.experiment(5000)
        phase = of.phase
        zeros = [0] * len(FUNNEL)
        for arm, crashed in (("control", 5), ("treatment", 900)):
            MetricRollup.objects.create(
                phase=phase, arm=arm, device_class="high", day=NOW.date(), units=1000, reached=zeros, failed=zeros,
                lost=[0, 0, 20, *zeros[3:]], crashed=crashed, latency_units=1000, latency_total=10_000.0,
                latency_squares=100_000.0 + 999 * 0.09, slow=10,
            )  # fmt: skip
        rows = [
            DeviceEvent(
                event_id=uuid.uuid4(), application="demo", unit=f"u{number}", received_at=NOW, at=NOW,
                stage="inference", outcome="ok", model="digits",
            )
            for number in range(500)
        ]  # fmt: skip
        make_ahead(NOW)
        DeviceEvent.objects.bulk_create(rows)
        told = foresee(of, NOW)
        assert (told["units"], told["is_sample"]) == (500, False)
        baseline = told["baseline"]
        assert (baseline["units"], baseline["is_assumed"]) == (1000, False)
        assert baseline["shares"] == pytest.approx(
            {"crash": 0.0055, "load_failure": 0.0005, "fallback": 0.0005, "funnel": 0.0205, "slow": 0.0105}
        )
        assert baseline["log_deviation"] == pytest.approx(0.3)
        (step,) = told["steps"]
        assert (step["treatment_units"], step["control_units"]) == (250, 250)
        harm = least_harm(RULES["crash"], (250, 250), 0.05 * 5 / 10, POLICY, Baseline(baseline["shares"]))
        assert step["guardrails"][0]["harm"] == pytest.approx(harm)

    def test_of_a_model_never_measured_it_is_assumed(self):
        told = foresee(measured.experiment(5000), NOW)
        assert (told["units"], told["baseline"]["is_assumed"]) == (0, True)
        assert told["baseline"]["shares"] == ASSUMED
