"""One-dimensional k-means on a model's weights: few distinct values, which any compressor then writes in a few bits.

Values on a line are assigned to the nearest centre by where they lie between two of them, so once they are sorted a
step of Lloyd's algorithm needs only sums over ranges, O(clusters * log values), and has one possible result. A general
k-means (scikit-learn's) computes all distances, adds floats in an order that depends on its threads, and starts from
random centres.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from registry.conversion.worker.tflite_weights import weights_of

Values = npt.NDArray[np.float32]
Centres = npt.NDArray[np.float64]

MOST_STEPS = 500


def cluster_weights(model: bytes, clusters: int) -> bytes:
    """The `.tflite` with at most `clusters` distinct values in each float32 weight tensor, otherwise byte for byte."""
    content = bytearray(model)
    for weights in weights_of(content):
        if weights.values.dtype.kind == "f":
            weights.values[...] = clustered(weights.values, clusters)
    return bytes(content)


def clustered(values: Values, clusters: int) -> Values:
    """Each value replaced by its cluster's mean; same shape. Values with no more distinct ones come back unchanged.

    Lloyd's algorithm finds a local optimum that depends on its start, so it runs from two: quantiles serve the many
    small weights, an even spacing the few large ones. The smaller squared error wins.
    """
    if len(np.unique(values)) <= clusters:
        return values
    line = _Line.of(values)
    low, high = float(line.sorted[0]), float(line.sorted[-1])
    shares = (np.arange(clusters) + 0.5) / clusters
    quantiles = np.quantile(line.sorted, shares).astype(np.float64)
    spaced = low + (high - low) * shares
    best = min((line.converged(start) for start in (quantiles, spaced)), key=line.squared_error)
    return best[_nearest(best, values)].astype(np.float32)


@dataclass(frozen=True)
class _Line:
    """All values in ascending order, and the sums of the first 0, 1, … of them."""

    sorted: Values
    sums: Centres

    @classmethod
    def of(cls, values: Values) -> "_Line":
        ascending = np.sort(values, axis=None)
        return cls(ascending, np.concatenate(([0.0], np.cumsum(ascending, dtype=np.float64))))

    def converged(self, centres: Centres) -> Centres:
        """Ascending centres that are the means of what lies nearest to them (Lloyd 1982); empty ones are dropped."""
        centres = np.unique(centres)
        for _ in range(MOST_STEPS):
            moved = self._means(centres)
            if np.array_equal(moved, centres):
                break
            centres = moved
        return centres

    def _means(self, centres: Centres) -> Centres:
        edges = self._edges(centres)
        starts, ends = edges[:-1], edges[1:]
        filled = ends > starts
        starts, ends = starts[filled], ends[filled]
        means = (self.sums[ends] - self.sums[starts]) / (ends - starts)
        # Differences of long sums are rounded; a mean never lies outside of what it is the mean of.
        return np.unique(np.clip(means, self.sorted[starts], self.sorted[ends - 1]))

    def _edges(self, centres: Centres) -> npt.NDArray[np.int64]:
        between = np.searchsorted(self.sorted, _midpoints(centres))
        return np.concatenate(([0], between, [len(self.sorted)])).astype(np.int64)

    def squared_error(self, centres: Centres) -> float:
        """Up to the sum of all squared values, which is the same for every choice of centres."""
        edges = self._edges(centres)
        return float(np.sum(centres * (centres * np.diff(edges) - 2 * np.diff(self.sums[edges]))))


def _midpoints(centres: Centres) -> Centres:
    return (centres[1:] + centres[:-1]) / 2


def _nearest(centres: Centres, values: Values) -> npt.NDArray[np.int64]:
    """Index of the nearest of ascending centres; a value in the middle belongs to the greater, as in `_edges`."""
    return np.searchsorted(_midpoints(centres), values, side="right").astype(np.int64)
