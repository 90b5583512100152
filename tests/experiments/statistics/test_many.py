"""Many questions, many phases, many classes, and what can be seen at all."""

import warnings
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics.combining import Heterogeneity, heterogeneity, inverse_variance, pool_small, size_weighted
from experiments.statistics.estimates import Estimate, Moments, difference, share_difference
from experiments.statistics.multiplicity import benjamini_hochberg, holm, split_alpha
from experiments.statistics.planning import Demand, detectable_mean_shift, detectable_share, units_per_arm

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from statsmodels.stats.meta_analysis import combine_effects
    from statsmodels.stats.multitest import multipletests

p_lists = pytest.mark.parametrize(
    "p_values",
    [[0.04], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.9, 1.0, 0.0], np.random.default_rng(1).random(30).tolist()],
)


@p_lists
def test_holm_is_that_of_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


@p_lists
def test_benjamini_hochberg_is_that_of_statsmodels(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(multipletests(p_values, method="fdr_bh")[1], abs=1e-12)


def test_alpha_is_split_by_weight():
    assert split_alpha(0.05, {"crash": 2, "funnel": 1, "latency": 1}) == {
        "crash": 0.025, "funnel": 0.0125, "latency": 0.0125
    }  # fmt: skip
    for refused in ({}, {"crash": 0}, {"crash": 0, "funnel": 1}):
        with pytest.raises(ValueError, match="expected positive"):
            split_alpha(0.05, refused)


def test_combining_is_that_of_statsmodels():
    estimates = [Estimate(0.2, 0.1, 50), Estimate(0.5, 0.2, 30), Estimate(-0.1, 0.15, 20)]
    values, variances = zip(*[(each.value, each.standard_error**2) for each in estimates], strict=True)
    expected = combine_effects(np.array(values), np.array(variances), method_re="chi2")
    combined, spread = inverse_variance(estimates), heterogeneity(estimates)
    assert combined.value == pytest.approx(expected.mean_effect_fe)
    assert combined.standard_error == pytest.approx(expected.sd_eff_w_fe)
    assert spread.q == pytest.approx(expected.q)
    assert spread.p_value == pytest.approx(expected.test_homogeneity().pvalue)
    assert spread.i_squared == pytest.approx(expected.i2)
    assert combined.n == 100


def test_estimates_that_say_nothing_carry_no_weight():
    assert inverse_variance([Estimate(9.0, inf, 3), Estimate(0.2, 0.1, 50)]).value == pytest.approx(0.2)
    assert inverse_variance([]).standard_error == inf
    assert inverse_variance([Estimate(0.3, 0.0, 3), Estimate(0.2, 0.1, 50)]) == Estimate(0.3, 0.0, 53)
    assert inverse_variance([Estimate(9.0, inf, 3)]) == Estimate(0.0, inf, 3)
    assert inverse_variance([Estimate(0.3, 0.0, 3), Estimate(0.5, 0.0, 3)]) == Estimate(0.4, 0.0, 6)
    nothing = Heterogeneity(0.0, 1.0, 0.0)
    assert heterogeneity([Estimate(9.0, inf, 3), Estimate(0.2, 0.1, 50)]) == nothing
    assert heterogeneity([Estimate(9.0, 0.0, 3), Estimate(0.2, 0.1, 50)]) == nothing


def test_two_classes_are_enough_to_differ():
    apart = heterogeneity([Estimate(0.0, 0.1, 50), Estimate(0.4, 0.1, 50)])
    assert apart.q == pytest.approx(8)
    assert apart.p_value == pytest.approx(stats.chi2.sf(8, 1))
    assert apart.i_squared == pytest.approx(7 / 8)


def test_what_spreads_no_more_than_by_chance_has_an_i_squared_of_zero():
    assert heterogeneity([Estimate(0.0, 0.1, 50), Estimate(0.1, 0.1, 50)]).i_squared == 0
    assert heterogeneity([Estimate(0.25, 0.5, 50)] * 3) == Heterogeneity(0.0, 1.0, 0.0)


def test_a_changed_split_makes_no_effect_when_phases_are_combined():
    """Simpson: the rate rises from 1 to 10 % while the treatment grows from a tenth to a half of the units."""
    phases = [((1_000, 10), (9_000, 90)), ((5_000, 500), (5_000, 500))]
    arms = [[Moments.of_share(*arm) for arm in phase] for phase in phases]
    pooled = difference(arms[0][0] + arms[1][0], arms[0][1] + arms[1][1])
    combined = inverse_variance([difference(*phase) for phase in arms])
    assert pooled.value > 0.04
    assert combined.value == pytest.approx(0, abs=1e-12)


def test_a_phase_in_which_nothing_happened_yet_does_not_outweigh_the_one_before():
    """One in ten of 600 failed, and nobody of the next step's 1 500 so far: 60 of 2 100 are still a harm."""
    phases = [((600, 60), (600, 0)), ((1500, 0), (1500, 0))]
    pairs = [(Moments.of_share(*treatment), Moments.of_share(*control)) for treatment, control in phases]
    combined = size_weighted(pairs)
    assert combined.value == pytest.approx(60 / 2100)
    assert combined.value > 4 * combined.standard_error > 0
    assert inverse_variance([share_difference(*pair) for pair in pairs]).value < 0.001, "which is why it is not used"


def test_shares_are_combined_within_their_phases_and_by_size():
    phases = [((1_000, 10), (9_000, 90)), ((5_000, 500), (5_000, 500))]
    pairs = [(Moments.of_share(*treatment), Moments.of_share(*control)) for treatment, control in phases]
    assert size_weighted(pairs).value == pytest.approx(0, abs=1e-12)
    assert size_weighted(pairs[:1]) == share_difference(*pairs[0])
    nobody = (Moments.of_share(500, 5), Moments.of_share(0, 0))
    assert size_weighted([nobody]) == Estimate(0.0, inf, 500)
    nobody_yet = (Moments.of_share(0, 0), Moments.of_share(0, 0))
    assert size_weighted([pairs[0], nobody_yet]) == size_weighted(pairs[:1])
    with_nobody = size_weighted([pairs[0], nobody])
    assert (with_nobody.value, with_nobody.n) == (0, 10_500)


def test_small_classes_join_their_tier():
    units = {"pixel": 200, "old-a": 20, "old-b": 30, "odd": 5}
    assert pool_small(units, {"old-a": "low", "old-b": "low", "pixel": "high"}, 200) == {
        "pixel": "pixel", "old-a": "low", "old-b": "low", "odd": "other"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("control", "treatment", "classes", "expected"),
    [(0.002, 0.004, 1, 9_000), (0.002, 0.003, 1, 30_500), (0.97, 0.95, 1, 1_200),
     (0.002, 0.004, 8, 16_200), (0.002, 0.003, 8, 55_100), (0.97, 0.95, 8, 2_100)],
)  # fmt: skip
def test_units_needed_are_the_worked_ones(control, treatment, classes, expected):
    assert units_per_arm(control, treatment, Demand(0.05 / classes)) == pytest.approx(expected, rel=0.03)


def test_daily_looks_ask_for_about_three_times_as_many():
    assert units_per_arm(0.002, 0.004, Demand(looks_daily=True)) == pytest.approx(3 * 9_243, rel=0.05)


@given(st.floats(0.001, 0.999), st.integers(1, 10**6))
def test_what_is_detectable_needs_no_more_units_than_there_are(control, units):
    for is_rise_harm in (True, False):
        share = detectable_share(control, units, is_rise_harm=is_rise_harm)
        if share is not None and abs(share - control) > 1e-6:
            assert units_per_arm(control, share) <= units * 1.001 + 1
            assert (share > control) is is_rise_harm


def test_too_few_units_detect_nothing():
    assert detectable_share(0.5, 2) is None
    assert detectable_share(1.0, 1_000) is None
    assert detectable_mean_shift(1.0, 0) is None
    assert detectable_mean_shift(2.0, 200) == pytest.approx(0.497, abs=1e-3)
    with pytest.raises(ValueError, match="two different"):
        units_per_arm(0.1, 0.1)
