"""Bounds that hold at every look."""

from math import inf

import numpy as np
import pytest

from experiments.statistics import sequences
from experiments.statistics.estimates import Estimate, Moments, difference, relative_difference

RNG = np.random.default_rng(20261122)


def test_the_published_interval_of_a_relative_lift():
    """260 and 200 of 10 000, tuned at 5 000: GrowthBook's engine gives -0.078 to 0.678."""
    lift = relative_difference(Moments.of_share(10_000, 260), Moments.of_share(10_000, 200))
    lower, upper = sequences.interval(lift, 0.05, 5_000)
    assert (round(lower, 3), round(upper, 3)) == (-0.078, 0.678)


@pytest.mark.parametrize("n", [100, 10_000, 10**7])
def test_a_one_sided_bound_is_narrower_than_an_interval(n):
    assert sequences.one_sided_width(n, 0.05, 10_000) < sequences.two_sided_width(n, 0.05, 10_000)


def test_the_tuning_makes_the_bound_narrowest_at_the_planned_size():
    widths = {planned: sequences.one_sided_width(10_000, 0.05, planned) for planned in (300, 10_000, 300_000)}
    assert min(widths, key=widths.get) == 10_000


def test_worked_widths():
    """By hand from the formulas; a one-sided bound is tuned for twice its alpha, at most for a half."""
    assert sequences.tuning(0.05, 1_000) == pytest.approx(0.08909, abs=1e-5)
    assert sequences.one_sided_width(400, 0.05, 400) == pytest.approx(0.13896, abs=1e-5)
    assert sequences.one_sided_width(400, 0.40, 400) == pytest.approx(0.09229, abs=1e-5)


def test_bounds_lie_so_many_deviations_of_one_unit_from_the_estimate():
    estimate = Estimate(0.3, 0.01, 400)
    assert sequences.lower_bound(estimate, 0.05, 400) == pytest.approx(0.3 - 0.01 * 20 * 0.13896, abs=1e-5)
    assert sequences.upper_bound(estimate, 0.05, 400) == pytest.approx(0.3 + 0.01 * 20 * 0.13896, abs=1e-5)


def test_one_unit_is_something_and_none_is_nothing():
    for width in (sequences.one_sided_width, sequences.two_sided_width):
        assert width(0, 0.05, 100) == inf > width(1, 0.05, 100)


def test_without_units_nothing_is_known():
    estimate = difference(Moments(0, 0, 0), Moments(9, 3, 3))
    assert sequences.lower_bound(estimate, 0.05, 100) == -inf
    assert sequences.upper_bound(Estimate(0.0, 1.0, 0), 0.05, 100) == inf
    assert sequences.interval(Estimate(0.0, 1.0, 0), 0.05, 100) == (-inf, inf)


def test_about_one_and_three_quarters_as_wide_as_a_single_look():
    assert sequences.one_sided_width(20_000, 0.05, 20_000) * 20_000**0.5 / 1.645 == pytest.approx(1.7, abs=0.15)


@pytest.mark.parametrize(
    ("units", "events", "enough"),
    [((200, 200), 20, True), ((199, 900), 20, False), ((200, 200), 19, False), ((200, 200), None, True)],
)
def test_floors(units, events, enough):
    assert sequences.is_enough(units, events) is enough


def test_the_true_difference_is_rarely_below_the_bound_at_any_of_60_looks():
    misses, runs = 0, 1000
    daily = RNG.normal(0, 1, (runs, 60, 2, 50))
    sums, squares = daily.sum(axis=3).cumsum(axis=1), (daily**2).sum(axis=3).cumsum(axis=1)
    for run in range(runs):
        for look in range(4, 60):
            n = 50 * (look + 1)
            treatment, control = (Moments(n, sums[run, look, arm], squares[run, look, arm]) for arm in (0, 1))
            if sequences.lower_bound(difference(treatment, control), 0.05, 3_000) > 0:
                misses += 1
                break
    assert misses / runs <= 0.05
