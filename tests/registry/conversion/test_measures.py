import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.measures import accuracy, agreement, evenly_spaced, parity, parity_misses, wilson
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
