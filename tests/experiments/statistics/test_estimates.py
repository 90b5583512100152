"""Fixed-horizon intervals, against statsmodels and worked numbers."""

import warnings
from math import inf, isclose
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.statistics.estimates import (
    Estimate,
    Interval,
    Moments,
    PairedMoments,
    cuped,
    difference,
    newcombe,
    relative_difference,
    share_difference,
    welch,
    wilson,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

RNG = np.random.default_rng(20261122)


def moments(values):
    return Moments(len(values), float(values.sum()), float((values**2).sum()))


def test_260_of_10_000_against_200():
    found = newcombe(Moments.of_share(10_000, 260), Moments.of_share(10_000, 200))
    assert round(found.p_value / 2, 4) == 0.0023
    assert (round(found.lower, 4), round(found.upper, 4)) == (0.0018, 0.0102)


@pytest.mark.parametrize(("k_t", "n_t", "k_c", "n_c"), [(260, 10_000, 200, 10_000), (3, 40, 9, 35), (0, 50, 4, 60)])
def test_newcombe_is_that_of_statsmodels(k_t, n_t, k_c, n_c):
    found = newcombe(Moments.of_share(n_t, k_t), Moments.of_share(n_c, k_c))
    expected = confint_proportions_2indep(k_t, n_t, k_c, n_c, method="newcomb", compare="diff")
    assert (found.lower, found.upper) == pytest.approx(expected, abs=1e-9)
    assert found.p_value == pytest.approx(proportions_ztest([k_t, k_c], [n_t, n_c])[1], abs=1e-9)


@pytest.mark.parametrize(("events", "n"), [(0, 30), (1, 30), (15, 30), (30, 30), (7, 1000)])
def test_wilson_is_that_of_statsmodels(events, n):
    assert wilson(n, events, 0.05) == pytest.approx(proportion_confint(events, n, method="wilson"), abs=1e-9)


def test_of_no_units_a_share_can_be_anything():
    assert wilson(0, 0, 0.05) == (0.0, 1.0)


def test_welch_is_that_of_statsmodels():
    treatment, control = RNG.normal(3.1, 2.0, 83), RNG.normal(2.8, 0.7, 41)
    found = welch(moments(treatment), moments(control))
    both = CompareMeans(DescrStatsW(treatment), DescrStatsW(control))
    assert (found.lower, found.upper) == pytest.approx(both.tconfint_diff(usevar="unequal"), abs=1e-9)
    assert found.p_value == pytest.approx(both.ttest_ind(usevar="unequal")[1], abs=1e-9)


def test_welch_without_spread_or_units_says_what_it_knows():
    assert welch(Moments(5, 10, 20), Moments(5, 10, 20)) == Interval(0, 0, 0, 1)
    assert welch(Moments(5, 10, 20), Moments(5, 5, 5)) == Interval(1, 1, 1, 0)
    assert welch(Moments(0, 0, 0), Moments(5, 5, 5)) == Interval(-1, -inf, inf, 1)


@pytest.mark.parametrize("mean", [13, 40])
def test_a_relative_difference_has_the_spread_of_simulated_ratios(mean):
    treatment, control = RNG.normal(mean, 3, (4000, 200)), RNG.normal(10, 2, (4000, 200))
    ratios = treatment.mean(axis=1) / control.mean(axis=1) - 1
    found = relative_difference(moments(treatment[0]), moments(control[0]))
    assert found.standard_error == pytest.approx(ratios.std(), rel=0.1)
    assert (found.value, found.n) == (pytest.approx(treatment[0].mean() / control[0].mean() - 1), 400)


@pytest.mark.parametrize(
    ("treatment", "control"), [((5, 5, 5), (5, 0, 0)), ((0, 0, 0), (5, 5, 5)), ((5, 5, 5), (0, 0, 0))]
)
def test_nothing_is_known_relative_to_nothing_nor_of_an_empty_arm(treatment, control):
    found = relative_difference(Moments(*treatment), Moments(*control))
    assert found == Estimate(0.0, inf, treatment[0] + control[0])


def test_an_arm_in_which_all_failed_has_an_error_too():
    found = share_difference(Moments.of_share(300, 300), Moments.of_share(300, 0))
    assert (found.value, found.n) == (1.0, 600)
    assert 0 < found.standard_error < 0.01
    plain = difference(Moments.of_share(9_000, 300), Moments.of_share(9_000, 250))
    assert share_difference(Moments.of_share(9_000, 300), Moments.of_share(9_000, 250)).standard_error == pytest.approx(
        plain.standard_error, rel=0.01
    )


@pytest.mark.parametrize(("k_t", "n_t", "k_c", "n_c"), [(260, 10_000, 200, 10_000), (3, 40, 9, 35), (0, 5, 6, 6)])
def test_the_error_of_shares_is_that_of_agresti_and_caffo(k_t, n_t, k_c, n_c):
    found = share_difference(Moments.of_share(n_t, k_t), Moments.of_share(n_c, k_c))
    lower, upper = confint_proportions_2indep(k_t, n_t, k_c, n_c, method="agresti-caffo", compare="diff")
    assert found.standard_error == pytest.approx((upper - lower) / 2 / NormalDist().inv_cdf(0.975), rel=1e-6)


def test_a_share_of_no_units_has_no_error_to_speak_of():
    some, nobody = Moments.of_share(300, 30), Moments.of_share(0, 0)
    assert share_difference(some, nobody).standard_error == share_difference(nobody, some).standard_error == inf


def test_one_unit_alone_does_not_vary():
    assert Moments(1, 5, 25).variance == paired(np.ones(1), np.ones(1)).covariance == 0


def test_more_events_than_units_are_refused():
    with pytest.raises(ValueError, match="expected 0 to 3, got 4"):
        Moments.of_share(3, 4)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_moments_add_up(first, second):
    both = moments(np.array(first)) + moments(np.array(second))
    joined = np.array(first + second)
    assert both.n == len(joined)
    assert isclose(both.mean, joined.mean(), abs_tol=1e-6)
    assert isclose(both.variance, joined.var(ddof=1), rel_tol=1e-6, abs_tol=1e-4)


def paired(y, x):
    return PairedMoments(moments(y), moments(x), float((y * x).sum()))


def test_cuped_keeps_the_difference_and_takes_the_spread_that_was_there_before():
    before = RNG.normal(5, 1, (2, 4000))
    after = before + RNG.normal(0, 0.5, before.shape)
    after[0] += 0.1
    treatment, control = cuped(paired(after[0], before[0]), paired(after[1], before[1]))
    plain = difference(moments(after[0]), moments(after[1]))
    adjusted = difference(treatment, control)
    assert adjusted.standard_error < 0.5 * plain.standard_error
    assert abs(adjusted.value - 0.1) < 4 * adjusted.standard_error
    theta = np.cov(after.ravel(), before.ravel())[0, 1] / before.ravel().var(ddof=1)
    by_unit = after[0] - theta * (before[0] - before.mean())
    # theta of both arms is computed from sums: by unit it must come to the same
    assert treatment.mean == pytest.approx(by_unit.mean(), abs=1e-9)
    assert treatment.variance == pytest.approx(by_unit.var(ddof=1), rel=1e-6)


def test_cuped_without_a_value_from_before_changes_nothing():
    arm = paired(RNG.normal(size=9), np.zeros(9))
    assert cuped(arm, arm) == (arm.y, arm.y)


@pytest.mark.parametrize("units", [2, 50])
def test_the_covariance_is_that_of_numpy(units):
    y, x = RNG.normal(3, 1, (2, units))
    assert paired(y, x).covariance == pytest.approx(np.cov(y, x)[0, 1])


def test_a_value_without_its_pair_is_refused():
    whole = paired(RNG.normal(size=9), RNG.normal(size=9))
    torn = PairedMoments(whole.y, moments(RNG.normal(size=8)), whole.products)
    with pytest.raises(ValueError, match="expected as many x as y, got 17 and 18"):
        cuped(whole, torn)
