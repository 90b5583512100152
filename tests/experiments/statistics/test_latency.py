"""Per-device p95 from histograms, and why devices and not inferences are compared."""

from bisect import bisect_left
from itertools import accumulate
from math import exp, log

import numpy as np
import pytest
from aerogram_sdk.events import LATENCY_BOUNDS_US
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.statistics.estimates import Moments, welch
from experiments.statistics.latency import BINS, BOUNDS_US, is_slow, log_quantiles, padded

RNG = np.random.default_rng(20261122)
EDGES = np.log([64 * 2 ** (-1 / 3), *BOUNDS_US, BOUNDS_US[-1] * 2 ** (1 / 3)])


def histogram(microseconds):
    return np.bincount(np.searchsorted(BOUNDS_US, microseconds), minlength=BINS)


def test_the_bins_are_those_of_the_devices():
    assert BOUNDS_US == LATENCY_BOUNDS_US
    assert histogram([64, 65, 10**9]).nonzero()[0].tolist() == [bisect_left(BOUNDS_US, us) for us in (64, 65, 10**9)]


def test_the_p95_is_within_a_bin_of_the_true_one():
    values = RNG.lognormal(log(20_000), 0.5, (50, 4_000))
    found = log_quantiles(np.array([histogram(row) for row in values]))
    assert np.abs(found - np.log(np.quantile(values, 0.95, axis=1))).max() < log(2) / 3


@given(st.lists(st.integers(0, 500), min_size=BINS, max_size=BINS), st.floats(0.01, 1))
def test_the_quantile_is_where_that_part_of_the_inferences_lies_below(counts, quantile):
    found = log_quantiles([counts], quantile)[0]
    if sum(counts) < 20:
        assert np.isnan(found)
    else:
        assert np.interp(found, EDGES, [0, *accumulate(counts)]) == pytest.approx(sum(counts) * quantile)


def test_the_quantile_is_the_least_of_those_there_are():
    """19 of 20 inferences took less than 64 µs: where the 20th lies says nothing about the p95."""
    assert log_quantiles([[19, *[0] * 9, 1, *[0] * 53]])[0] == pytest.approx(log(64))


def test_a_device_that_inferred_nothing_has_no_quantile_beside_one_that_did():
    assert np.isnan(log_quantiles([[0] * 64, [20, *[0] * 63]])).tolist() == [True, False]


def test_edges():
    lowest, highest = [100, *[0] * 63], [*[0] * 63, 100]
    assert exp(log_quantiles([lowest])[0]) < 64
    assert exp(log_quantiles([highest])[0]) > BOUNDS_US[-1]
    assert np.isnan(log_quantiles([[19, *[0] * 63]])[0])
    assert log_quantiles([]).shape == (0,)
    with pytest.raises(ValueError, match="expected counts"):
        log_quantiles([[-1, *[0] * 63]])


def test_a_device_is_slow_when_its_p95_is_above_the_slo():
    assert is_slow(np.array([log(50_000), log(50_001), np.nan]), slo_ms=50).tolist() == [False, True, False]


def test_short_histograms_are_padded_and_long_ones_refused():
    assert padded([1, 2]) == [1, 2, *[0] * 62]
    assert padded([1] * 64) == [1] * 64
    with pytest.raises(ValueError, match="at most 64 counts, got 65"):
        padded([0] * 65)


def test_pooled_inferences_alarm_in_most_aa_runs_and_devices_do_not():
    """120 devices an arm, 200 inferences each, which resemble each other within a device."""
    runs, devices, inferences = 300, 120, 200
    pooled = by_device = 0
    for _ in range(runs):
        speeds = RNG.normal(log(20_000), 0.4, (2, devices, 1))
        logs = speeds + RNG.normal(0, 0.2, (2, devices, inferences))
        pooled += stats.ttest_ind(logs[0].ravel(), logs[1].ravel()).pvalue < 0.05
        p95 = np.quantile(logs, 0.95, axis=2)
        arms = [Moments(devices, float(arm.sum()), float((arm**2).sum())) for arm in p95]
        by_device += welch(*arms).p_value < 0.05
    assert pooled / runs > 0.5
    assert by_device / runs < 0.1
