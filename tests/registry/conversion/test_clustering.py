"""One-dimensional k-means, on arrays; no runtime."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert (extra `light`)")

from registry.conversion.worker.clustering import clustered

pytestmark = pytest.mark.light

FINITE = st.floats(-1e3, 1e3, width=32)
WEIGHTS = arrays.arrays(np.float32, st.integers(1, 60), elements=FINITE)


@given(WEIGHTS, st.integers(2, 16))
def test_few_values_are_left_each_within_the_range_and_in_the_same_order(weights: np.ndarray, clusters: int) -> None:
    found = clustered(weights, clusters)
    assert (found.shape, found.dtype) == (weights.shape, np.float32)
    assert len(np.unique(found)) <= clusters
    assert weights.min() <= found.min() <= found.max() <= weights.max()
    assert (np.diff(found[np.argsort(weights, kind="stable")]) >= 0).all()


@given(WEIGHTS, st.integers(2, 16))
def test_each_value_is_the_mean_of_what_it_stands_for(weights: np.ndarray, clusters: int) -> None:
    found = clustered(weights, clusters)
    for value in np.unique(found):
        mean = weights[found == value].astype(np.float64).mean()
        assert value == pytest.approx(mean, rel=1e-5, abs=1e-4)


@given(WEIGHTS, st.integers(2, 8))
def test_values_that_are_few_already_stay_as_they_are(weights: np.ndarray, clusters: int) -> None:
    few = np.round(weights / 1000 * (clusters - 1) / 2).astype(np.float32)
    assert (clustered(few, clusters) == few).all()


def test_it_finds_groups_that_lie_apart_and_ends_at_the_same_ones_whatever_the_order() -> None:
    generator = np.random.default_rng(3)
    groups = np.array([-1.0, -0.2, 0.1, 2.0])
    weights = (generator.choice(groups, 4_000) + generator.normal(0, 0.001, 4_000)).astype(np.float32).reshape(40, 100)
    found = clustered(weights, 4)
    assert np.unique(found) == pytest.approx(groups, abs=0.001)
    shuffled = generator.permutation(weights.reshape(-1))
    assert (np.sort(clustered(shuffled, 4)) == np.sort(found, axis=None)).all()


def test_outliers_get_clusters_of_their_own() -> None:
    crowd = np.random.default_rng(4).normal(0, 0.01, 10_000)
    weights = np.concatenate((crowd, [5.0, -5.0])).astype(np.float32)
    error = float(np.square(clustered(weights, 8).astype(np.float64) - weights).sum())
    assert error < float(np.square(crowd).sum())
