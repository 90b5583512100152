import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from registry.conversion.measures import (
    METRICS,
    MetricError,
    accuracy,
    agreement,
    decoded,
    default_metric,
    encoded,
    evenly_spaced,
    lost_between,
    mcnemar,
    mean_interval,
    paired_shares,
    parity,
    parity_misses,
    unpaired_means,
    unpaired_shares,
    wilson,
)
from registry.conversion.recipes import ParityLimits

LIMITS = ParityLimits(max_abs_error=0.1, mean_abs_error=0.05, min_top1_agreement=0.9)


def scores(*best: int, classes: int = 3) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[list(best)]


def test_parity_is_the_worst_output() -> None:
    reference = {"a": np.zeros((2, 2), np.float32), "b": np.zeros((2, 1), np.float32)}
    found = parity({"a": np.full((2, 2), 0.25, np.float32), "b": np.array([[0.5], [0.0]], np.float32)}, reference)
    assert (found.max_abs_error, found.mean_abs_error, found.samples) == (0.5, 0.25, 2)


def test_agreement_counts_equal_winners_and_is_none_where_there_is_no_winner() -> None:
    assert agreement({"y": scores(0, 1, 2, 2)}, {"y": scores(0, 1, 2, 0)}) == 0.75
    assert agreement({"y": np.zeros((4, 1))}, {"y": np.zeros((4, 1))}) is None
    assert agreement({"y": np.zeros((2, 8, 8, 3))}, {"y": np.zeros((2, 8, 8, 3))}) is None


@pytest.mark.parametrize(
    ("change", "magnitude", "on_set", "misses"),
    [
        (0.0, 1.0, True, []),
        (0.2, 1.0, True, ["max_abs_error", "mean_abs_error"]),
        (0.2, 10.0, True, []),
        (0.07, 1.0, True, ["mean_abs_error"]),
    ],
)
def test_limits_scale_with_the_reference(change: float, magnitude: float, *, on_set: bool, misses: list[str]) -> None:
    found = parity({"y": scores(0, 1) + np.float32(change)}, {"y": scores(0, 1)})
    sentences = parity_misses(found, LIMITS, magnitude=magnitude, on_evaluation_set=on_set)
    assert [sentence.split()[1] for sentence in sentences] == misses


def test_agreement_counts_on_an_evaluation_set_only() -> None:
    found = parity({"y": scores(0, 1) * 0.001}, {"y": scores(1, 1) * 0.001})
    assert parity_misses(found, LIMITS, magnitude=1, on_evaluation_set=False) == []
    (miss,) = parity_misses(found, LIMITS, magnitude=1, on_evaluation_set=True)
    assert miss == "expected top1_agreement >= 0.9; got 0.5"


def test_wilson_of_a_published_example() -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_within_0_and_1(case: tuple[int, int]) -> None:
    hits, samples = case
    low, high = wilson(hits, samples)
    assert 0 <= low <= hits / samples + 1e-12
    assert hits / samples - 1e-12 <= high <= 1


def test_accuracy_compares_with_the_source_on_the_same_samples() -> None:
    found, hits = accuracy("accuracy", scores(0, 1, 2, 0), np.array([0, 1, 2, 2]), scores(0, 1, 2, 2), "y")
    assert (found.value, found.source_value, found.samples, found.output) == (0.75, 1.0, 4, "y")
    assert (found.lost, found.p_value) == (0.25, 1.0)
    assert found.lost_low < 0 < found.lost < found.lost_high
    assert list(hits) == [True, True, True, False]


@given(st.integers(1, 5_000), st.integers(1, 300))
def test_evenly_spaced_samples_are_distinct_ascending_and_spread(count: int, limit: int) -> None:
    chosen = evenly_spaced(count, limit)
    assert len(chosen) == min(count, limit)
    assert chosen[0] == 0
    assert chosen[-1] < count
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() <= math.ceil(count / len(chosen)))


def table(both: int, only: int, only_other: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits of two models on the same samples, from the counts of their fourfold table."""
    one = [True] * (both + only) + [False] * (only_other + neither)
    other = [True] * both + [False] * only + [True] * only_other + [False] * neither
    return np.array(one), np.array(other)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 873, table II, method 10.
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_the_difference_of_unpaired_shares_of_published_examples(counts, expected) -> None:
    assert unpaired_shares(*counts) == pytest.approx(expected, abs=5e-5)


def test_the_difference_of_paired_shares_of_a_published_example() -> None:
    """Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014): airway reactivity, 1, 1, 7, 12 of 21."""
    assert paired_shares(*table(1, 1, 7, 12)) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_unpaired_shares_without_samples_may_be_anything() -> None:
    assert unpaired_shares(0, 0, 3, 4) == (-1.0, 1.0)


COUNTS = st.tuples(*[st.integers(0, 40)] * 4).filter(lambda counts: sum(counts) > 0)


@given(COUNTS)
def test_a_paired_interval_holds_the_difference_turns_around_and_shrinks_with_agreement(counts) -> None:
    one, other = table(*counts)
    low, high = paired_shares(one, other)
    difference = one.mean() - other.mean()
    assert -1 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1
    assert paired_shares(other, one) == pytest.approx((-high, -low), abs=1e-12)
    both, only, only_other, neither = counts
    if both * neither >= only * only_other:
        wide = unpaired_shares(both + only, len(one), both + only_other, len(one))
        assert high - low <= wide.high - wide.low + 1e-12


@given(COUNTS)
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(counts) -> None:
    _, only, only_other, _ = counts
    p_value = mcnemar(*table(*counts))
    expected = stats.binomtest(only, only + only_other).pvalue if only + only_other else 1.0
    assert p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_two_thousand_discordant_pairs_is_still_a_number() -> None:
    assert mcnemar(*table(0, 2000, 0, 0)) == pytest.approx(2.0**-1999)
    assert mcnemar(*table(0, 1000, 1000, 0)) == 1.0


VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=30).map(np.array)


@given(VALUES)
def test_a_mean_has_the_normal_interval_of_its_standard_error(values: np.ndarray) -> None:
    low, high = mean_interval(values)
    half = stats.norm.ppf(0.975) * stats.sem(values)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-9)


@given(VALUES, VALUES)
def test_unpaired_means_add_their_variances(one: np.ndarray, other: np.ndarray) -> None:
    low, high = unpaired_means(one, other)
    half = stats.norm.ppf(0.975) * math.sqrt(stats.sem(one) ** 2 + stats.sem(other) ** 2)
    middle = one.mean() - other.mean()
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_one_sample_has_no_deviation() -> None:
    with pytest.raises(ValueError, match="at least 2 samples for a deviation; got 1"):
        mean_interval(np.array([1.0]))
    with pytest.raises(MetricError, match="mse: expected at least 2 samples"):
        accuracy("mse", np.zeros((1, 1)), np.zeros(1), None)


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_is_scipys(hits: int, misses: int) -> None:
    theirs = stats.binomtest(hits, hits + misses).proportion_ci(method="wilson")
    assert wilson(hits, hits + misses) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(
    ("metric", "output", "labels", "value"),
    [
        ("accuracy", scores(0, 1, 1), [0, 1, 2], 2 / 3),
        ("top5", np.array([[6, 5, 4, 3, 2, 1, 0]] * 3), [4, 5, 0], 2 / 3),
        ("top5", scores(0, 1), [2, 2], 1.0),
        ("binary_accuracy", np.array([[0.9], [0.2], [0.5], [0.6]]), [1, 0, 0, 0], 0.75),
        ("mse", np.array([[1.0, 2.0], [0.0, 0.0]]), [[0.0, 0.0], [0.0, 0.0]], 1.25),
        ("mse", np.array([[1.0], [3.0]]), [0.0, 0.0], 5.0),
        ("mae", np.array([[1.0, -2.0], [0.0, 0.0]]), [[0.0, 0.0], [0.0, 0.0]], 0.75),
    ],
)
def test_metrics_of_hand(metric: str, output: np.ndarray, labels: list, value: float) -> None:
    found, outcome = accuracy(metric, output, np.array(labels), None)
    assert found.value == pytest.approx(value)
    assert found.metric == metric
    assert found.interval_low <= found.value <= found.interval_high
    assert (found.source_value, found.lost) == (None, None)
    assert len(outcome) == found.samples == len(labels)


def test_errors_that_grew_are_lost_like_hits_that_went() -> None:
    """Squared errors 1, 4, 9 where the source has 0, 1, 4: worse by 1, 3, 5."""
    targets, output = np.zeros(3), np.array([[1.0], [2.0], [3.0]])
    found, _ = accuracy("mse", output, targets, output - 1)
    half = 1.959964 * 2 / math.sqrt(3)
    assert (found.value, found.source_value, found.lost, found.p_value) == (14 / 3, 5 / 3, 3.0, None)
    assert (found.lost_low, found.lost_high) == pytest.approx((3 - half, 3 + half), abs=1e-5)


def test_the_source_loses_nothing_against_itself() -> None:
    output = scores(0, 1)
    found, _ = accuracy("accuracy", output, np.array([0, 1]), output)
    assert (found.source_value, found.lost, found.p_value) == (1.0, None, None)


@pytest.mark.parametrize(
    ("metric", "output", "labels", "message"),
    [
        ("f1", scores(0), [0], "expected a metric among accuracy, top5, binary_accuracy, mse, mae; got 'f1'"),
        ("accuracy", np.zeros((2, 1)), [0, 1], "output of (samples, classes)"),
        ("accuracy", scores(0, 1), [0.0, 1.0], "integer labels"),
        ("top5", scores(0, 1), [[0], [1]], "integer labels"),
        ("binary_accuracy", scores(0, 1), [0, 1], "one score a sample"),
        ("binary_accuracy", np.zeros((2, 1)), [0, 2], "one label of 0 or 1"),
        ("mse", np.zeros((2, 3)), [0.0, 1.0], "targets of the output's shape"),
    ],
)
def test_what_does_not_fit_a_metric_is_refused(metric: str, output: np.ndarray, labels: list, message: str) -> None:
    with pytest.raises(MetricError) as caught:
        accuracy(metric, output, np.array(labels), None)
    assert message in str(caught.value)


def test_labels_choose_a_metric_where_none_is_named() -> None:
    assert (default_metric(np.array([1, 2])), default_metric(np.array([0.5]))) == ("accuracy", "mse")


@given(st.lists(st.booleans(), min_size=1, max_size=50).map(np.array))
def test_hits_survive_a_report(hits: np.ndarray) -> None:
    assert decoded("accuracy", encoded("accuracy", hits), len(hits)).tolist() == hits.tolist()


@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=50).map(np.array))
def test_errors_survive_a_report(errors: np.ndarray) -> None:
    assert decoded("mse", encoded("mse", errors), len(errors)).tolist() == errors.tolist()


def test_outcomes_of_another_number_of_samples_are_refused() -> None:
    with pytest.raises(MetricError, match="expected 2 bytes for 9 samples; got 1"):
        decoded("accuracy", encoded("accuracy", np.array([True] * 8)), 9)


def test_every_metric_loses_nothing_against_equal_outcomes() -> None:
    for metric in METRICS.values():
        outcome = np.array([True, False]) if metric.kind == "share" else np.array([0.5, 0.25])
        lost, interval, p_value = lost_between(metric.name, outcome, outcome)
        assert lost == 0
        assert interval.low <= 0 <= interval.high
        assert p_value == (1.0 if metric.kind == "share" else None)
