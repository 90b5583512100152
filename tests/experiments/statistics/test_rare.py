"""Rare events: worked numbers, validity and power by simulation."""

import warnings
from math import inf

import numpy as np
import pytest
from scipy import stats

from experiments.statistics.rare import Counts, evidence_of_more, lower_bound, rate_ratio

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from statsmodels.stats.proportion import proportion_confint
    from statsmodels.stats.rates import test_poisson_2indep as poisson_test

RNG = np.random.default_rng(20261122)
SPLITS = [(1_000, 1_000), (300, 1_700)]


def test_38_crashes_against_20():
    counts = Counts(38, 20, 1_200_000, 1_200_000)
    assert rate_ratio(counts) == pytest.approx((1.08, 3.45), abs=0.01)
    lower, upper = proportion_confint(38, 58, method="beta")
    assert rate_ratio(counts) == pytest.approx((lower / (1 - lower), upper / (1 - upper)))
    exact = poisson_test(38, 1.2e6, 20, 1.2e6, method="etest", alternative="larger").pvalue
    assert round(float(exact), 4) == 0.0089
    # Looking daily has its price: evidence of 9 is less than the 20 that alpha 0.05 asks for.
    assert 5 < evidence_of_more(counts) < 20


@pytest.mark.parametrize(("crashed", "units"), [((38, 20), (1.2e6, 1.2e6)), ((9, 4), (300, 900)), ((5, 0), (50, 70))])
def test_the_interval_is_that_of_clopper_and_pearson_by_units(crashed, units):
    lower, upper = proportion_confint(crashed[0], sum(crashed), method="beta")
    odds = [lower / (1 - lower), upper / (1 - upper) if upper < 1 else inf]
    assert rate_ratio(Counts(*crashed, *units)) == pytest.approx([each * units[1] / units[0] for each in odds])


def test_the_ratio_is_that_of_rates_with_half_an_event_more_in_each():
    assert Counts(30, 15, 1_000, 2_000).ratio == pytest.approx(30.5 / 1_000 / (15.5 / 2_000))


@pytest.mark.parametrize("counts", [Counts(3, 0, 500, 0), Counts(0, 3, 0, 500)])
def test_one_arm_alone_is_compared_with_nothing(counts):
    assert (evidence_of_more(counts), counts.ratio, rate_ratio(counts)) == (1.0, 1.0, (0.0, inf))


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_the_evidence_is_the_mean_likelihood_of_what_is_above_the_ratio(ratio):
    counts = Counts(14, 6, 300, 500)
    null, centre = counts.share(ratio), counts.share(2 * ratio)
    prior = stats.beta(20 * centre, 20 * (1 - centre))
    above = prior.expect(lambda theta: stats.binom.pmf(14, 20, theta), lb=null, ub=1, conditional=True)
    assert evidence_of_more(counts, ratio) == pytest.approx(above / stats.binom.pmf(14, 20, null))


def test_nothing_is_no_evidence():
    assert evidence_of_more(Counts(0, 0, 0, 0)) == 1.0
    assert evidence_of_more(Counts(0, 0, 500, 500)) == pytest.approx(1.0)
    assert lower_bound([Counts(0, 0, 500, 500)], 0.05) == 0.0
    assert rate_ratio(Counts(0, 0, 5, 5)) == (0.0, inf)
    assert evidence_of_more(Counts(0, 10_000, 10_000, 10_000)) < 1e-6
    assert evidence_of_more(Counts(10_000, 0, 10_000, 10_000)) > 1e300


def test_the_bound_is_where_the_evidence_reaches_one_over_alpha():
    counts = Counts(90, 30, 5_000, 5_000)
    bound = lower_bound([counts], 0.05)
    assert 1 < bound < counts.ratio
    assert evidence_of_more(counts, bound * 0.999) > 20 > evidence_of_more(counts, bound * 1.001)


def test_phases_add_their_evidence():
    first, second = Counts(30, 15, 1_000, 1_000), Counts(60, 10, 9_000, 3_000)
    assert lower_bound([second, Counts(0, 0, 500, 500)], 0.05) == pytest.approx(lower_bound([second], 0.05)) != 0
    assert lower_bound([first, second], 0.05) > max(lower_bound([first], 0.05), lower_bound([second], 0.05))


@pytest.mark.parametrize(("treatment", "control"), SPLITS)
@pytest.mark.parametrize("rate", [0.002, 0.02])
def test_an_aa_seldom_shows_more_at_any_of_28_looks(treatment, control, rate):
    false = detections(treatment, control, rate, rate, days=28, alpha=0.05, runs=1_000)
    assert false <= 0.05


def test_even_one_with_fewer_events_does_not():
    assert detections(1_000, 1_000, 0.001, 0.004, days=28, alpha=0.05, runs=300) <= 0.01


def detections(treatment, control, rate_t, rate_c, *, days, alpha, runs):
    events_t = RNG.binomial(treatment, rate_t, (runs, days)).cumsum(axis=1)
    events_c = RNG.binomial(control, rate_c, (runs, days)).cumsum(axis=1)
    return np.mean(
        [
            any(
                evidence_of_more(Counts(int(t), int(c), treatment * day, control * day)) >= 1 / alpha
                for day, (t, c) in enumerate(zip(*run, strict=True), start=1)
            )
            for run in zip(events_t, events_c, strict=True)
        ]
    )


def test_a_doubled_crash_rate_is_mostly_seen_within_14_days():
    assert detections(1_000, 1_000, 0.004, 0.002, days=14, alpha=0.025, runs=500) >= 0.5
