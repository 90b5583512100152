"""Lookup tables for weights: one-dimensional k-means without chance in it, so that equal weights give equal tables.

coremltools' own starts from random points, and scikit-learn's sums depend on the number of threads. A weight of float16
holds at most 65 536 different values, so the iteration here runs over those and their counts: milliseconds.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MOST_ITERATIONS = 300


def palette(values: Array, entries: int) -> npt.NDArray[np.float64]:
    """`entries` ascending centres of `values` (any shape, finite), the last one repeated where fewer are needed.

    Lloyd's iteration over the sorted values from a start whose density is the cube root of theirs, which is optimal for
    many entries (P. F. Panter and W. Dite, Proc. IRE 39, 1951). Raises ValueError without values.
    """
    points, counts = np.unique(np.asarray(values, np.float64) + 0.0, return_counts=True)  # no zero of its own sign
    if not len(points):
        raise ValueError("expected at least one value to make a table of; got none")
    if len(points) <= entries:
        return np.concatenate([points, np.full(entries - len(points), points[-1])])
    weights = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    sums = np.concatenate([[0.0], np.cumsum(points * counts)])
    centres = _spread_start(points, counts, entries)
    for _ in range(MOST_ITERATIONS):
        edges = np.concatenate([[0], np.searchsorted(points, (centres[1:] + centres[:-1]) / 2), [len(points)]])
        members = np.diff(weights[edges])
        means = np.diff(sums[edges]) / np.maximum(members, 1)
        moved = np.sort(np.where(members > 0, means, centres))
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _spread_start(points: Array, counts: Array, entries: int) -> npt.NDArray[np.float64]:
    bins = 16 * entries
    histogram, borders = np.histogram(points, bins=bins, weights=counts)
    density = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    shares = (np.arange(entries) + 0.5) / entries * density[-1]
    return np.asarray(np.interp(shares, density, borders), np.float64)


def nearest(values: Array, table: Array) -> npt.NDArray[np.int64]:
    """Index of the closest entry of the ascending `table` for each of `values`, in its shape."""
    return np.searchsorted((table[1:] + table[:-1]) / 2, np.asarray(values, np.float64)).astype(np.int64)
