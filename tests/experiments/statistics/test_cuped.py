"""The final read of latency with a value from before, by simulation: what it must gain and must not cost.

Units differ for good (fast and slow phones); a third of them, mostly the slow ones, have no value from before.
"""

import numpy as np
import pytest

from experiments.statistics.estimates import LEAST_PAIRS, Moments, PairedMoments, cuped_where_known, difference, welch

RUNS, UNITS, EFFECT = 2_000, 300, 0.06


def moments(values):
    return Moments(len(values), float(values.sum()), float((values**2).sum()))


def paired(y, x):
    return PairedMoments(moments(y), moments(x), float((y * x).sum()))


def simulated(effect, *, units=UNITS, runs=RUNS, leak=0.0):
    """Intervals (plain, adjusted) of each run. `leak`: how much of the effect is in the value that should know none."""
    chance = np.random.default_rng(20261122)
    for _ in range(runs):
        speeds = chance.normal(9.9, 0.4, (2, units))
        before, after = (speeds + chance.normal(0, 0.2, speeds.shape) for _ in range(2))
        after[0] += effect
        before[0] += leak * effect
        is_known = chance.random(speeds.shape) < np.where(speeds < 10, 0.9, 0.4)
        plain = [moments(arm) for arm in after]
        pairs = [paired(after[arm][is_known[arm]], before[arm][is_known[arm]]) for arm in (0, 1)]
        yield welch(*plain), welch(*cuped_where_known(*plain, *pairs))


def told(intervals, truth):
    values = np.array([each.value for each in intervals])
    return {
        "bias": float(values.mean() - truth),
        "noise": float(values.std() / len(values) ** 0.5),
        "width": float(np.mean([each.upper - each.lower for each in intervals])),
        "covered": float(np.mean([each.lower <= truth <= each.upper for each in intervals])),
        "seen": float(np.mean([each.p_value < 0.05 for each in intervals])),
    }


def test_it_is_unbiased_narrower_and_sees_more():
    plain, adjusted = (told(each, EFFECT) for each in zip(*simulated(EFFECT), strict=True))
    assert abs(adjusted["bias"]) < 4 * adjusted["noise"], adjusted
    assert adjusted["width"] < 0.85 * plain["width"], (plain, adjusted)
    assert 0.935 < adjusted["covered"] < 0.965, adjusted
    assert adjusted["seen"] > plain["seen"] + 0.1, (plain, adjusted)


@pytest.mark.parametrize("units", [80, UNITS])
def test_an_aa_errs_as_often_as_it_may(units):
    _, adjusted = (told(each, 0) for each in zip(*simulated(0, units=units), strict=True))
    assert 0.035 < adjusted["seen"] < 0.065, adjusted


def test_a_value_that_knows_of_the_split_is_caught_by_the_same_test():
    _, adjusted = (told(each, EFFECT) for each in zip(*simulated(EFFECT, leak=1.0, runs=300), strict=True))
    assert adjusted["bias"] < -4 * adjusted["noise"], adjusted


def test_without_values_from_before_it_is_the_plain_one():
    chance = np.random.default_rng(1)
    arms = [moments(chance.normal(size=300)) for _ in range(2)]
    none = paired(np.empty(0), np.empty(0))
    same = paired(chance.normal(size=300), np.full(300, 3.0))
    assert cuped_where_known(*arms, none, none) == tuple(arms)
    assert welch(*cuped_where_known(*arms, same, same)).lower == pytest.approx(welch(*arms).lower, abs=1e-12)


def test_below_the_floor_nothing_is_adjusted():
    chance = np.random.default_rng(1)
    speeds = chance.normal(size=(2, LEAST_PAIRS // 2))
    arms, pairs = [moments(arm) for arm in speeds], [paired(arm, arm) for arm in speeds]
    assert difference(*cuped_where_known(*arms, *pairs)).standard_error == pytest.approx(0, abs=1e-6)
    fewer = [paired(arm[:-1], arm[:-1]) for arm in speeds]
    assert cuped_where_known(*arms, *fewer) == tuple(arms)
