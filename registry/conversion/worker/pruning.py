"""Magnitude pruning: which weights become zero, and how many of them after how much of the training. Pure."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

# Below that a tensor's zeros save next to nothing, and it is often the first layer, which everything depends on.
FEWEST_WEIGHTS = 512


def magnitude_mask(weights: Array, sparsity: float) -> npt.NDArray[np.bool_]:
    """False where a weight becomes zero: the `sparsity` (0..1) of them with the smallest magnitudes.

    Of equal magnitudes the first ones in memory go, so that the same weights always give the same mask.
    """
    pruned = round(sparsity * weights.size)
    kept = np.ones(weights.size, np.bool_)
    kept[np.argsort(np.abs(weights), axis=None, kind="stable")[:pruned]] = False
    return kept.reshape(weights.shape)


def ramp(final: float, progress: float) -> float:
    """Sparsity at `progress` (0..1) of the ramp: steep at first, when the most superfluous weights go.

    The cubic schedule of M. Zhu and S. Gupta, "To prune, or not to prune" (2017), from a sparsity of 0.
    """
    done = min(1.0, max(0.0, progress))
    return final * (1 - (1 - done) ** 3)


def sparsity_of(tensors: Sequence[Array]) -> float:
    """Share of zeros (0..1) among all entries together."""
    return sum(int(np.sum(tensor == 0)) for tensor in tensors) / max(1, sum(tensor.size for tensor in tensors))
