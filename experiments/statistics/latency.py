"""One number per device from its latency histogram. Pure.

Devices send counts in 64 fixed bins, three for each doubling from 64 µs (protocol, section 8). Inferences of one
device resemble each other: pooling them makes an A/A test alarm in 70 % of runs, so each device counts once, by its
log p95 (a mean) and by whether that p95 is above the SLO (a share).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np

BOUNDS_US: tuple[int, ...] = tuple(round(64 * 2 ** (step / 3)) for step in range(63))
BINS = len(BOUNDS_US) + 1
# Edges of the bins in log µs; the first and the last bin, which have one bound each, get the width of the others.
_STEP = log(2) / 3
_EDGES = np.array([log(64) - _STEP, *(log(bound) for bound in BOUNDS_US), log(BOUNDS_US[-1]) + _STEP])
LEAST_INFERENCES = 20
P95 = 0.95


def log_quantiles(histograms: Sequence[Sequence[int]] | np.ndarray, quantile: float = P95) -> np.ndarray:
    """Log µs of the quantile for each row of counts (devices x 64), by interpolation within the bin.

    A device with less than 20 inferences has none (NaN): its p95 would be its slowest. Raises ValueError on rows that
    are not 64 counts.
    """
    counts = np.asarray(histograms, dtype=np.float64).reshape(-1, BINS)
    if counts.size and counts.min() < 0:
        raise ValueError(f"histogram: expected counts, got {counts.min():g}")
    cumulative = counts.cumsum(axis=1)
    totals = cumulative[:, -1]
    wanted = totals * quantile
    place = np.minimum((cumulative < wanted[:, None]).sum(axis=1), BINS - 1)
    rows = np.arange(len(counts))
    inside = counts[rows, place]
    before = cumulative[rows, place] - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.clip((wanted - before) / inside, 0, 1)
        values = _EDGES[place] + part * (_EDGES[place + 1] - _EDGES[place])
    found: np.ndarray = np.where(totals >= LEAST_INFERENCES, values, np.nan)
    return found


def is_slow(log_p95: np.ndarray, slo_ms: float) -> np.ndarray:
    """Whether each device's p95 is above the SLO; devices without a p95 are not."""
    slow: np.ndarray = log_p95 > log(slo_ms * 1000)
    return slow


def padded(counts: Sequence[int]) -> list[int]:
    """A histogram whose last bins were left out, as 64 counts. Raises ValueError on more."""
    if len(counts) > BINS:
        raise ValueError(f"histogram: expected at most {BINS} counts, got {len(counts)}")
    return [*counts, *[0] * (BINS - len(counts))]
