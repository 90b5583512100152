"""Intervals and tests of shares and means; all intervals are 95 % unless `z` says otherwise."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Z_95 = 1.959963984540054
FEWEST_FOR_A_DEVIATION = 2

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Interval(NamedTuple):
    low: float
    high: float


def wilson(successes: int, samples: int, z: float = Z_95) -> Interval:
    """Wilson's score interval for a share; (0, 1) without samples. E. B. Wilson, JASA 22 (1927)."""
    if samples == 0:
        return Interval(0.0, 1.0)
    share = successes / samples
    centre = (share + z * z / (2 * samples)) / (1 + z * z / samples)
    half = z / (1 + z * z / samples) * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def unpaired_shares(hits: int, samples: int, other_hits: int, other_samples: int, z: float = Z_95) -> Interval:
    """Interval of one share minus another, of different samples; (-1, 1) where either has none.

    Two Wilson intervals, squared and added: method 10 of R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890.
    """
    if not samples or not other_samples:
        return Interval(-1.0, 1.0)
    return _squared_and_added(hits, samples, other_hits, other_samples, 0.0, z)


def paired_shares(hits: Bools, other_hits: Bools, z: float = Z_95) -> Interval:
    """Interval of one share minus another, of the same samples; both are (samples,), True for a hit, not empty.

    As `unpaired_shares`, less what the two have in common: method 10 of R. G. Newcombe, Statistics in Medicine 17
    (1998) 2635-2650, with its continuity-corrected correlation.
    """
    both, neither = int(np.sum(hits & other_hits)), int(np.sum(~hits & ~other_hits))
    only, only_other = int(np.sum(hits & ~other_hits)), int(np.sum(~hits & other_hits))
    samples = len(hits)
    correlation = _correlation(both, only, only_other, neither)
    return _squared_and_added(both + only, samples, both + only_other, samples, correlation, z)


def _correlation(both: int, only: int, only_other: int, neither: int) -> float:
    """Phi of the table of hits, its numerator moved towards 0 by half a sample's worth when positive; 0..1, or below 0.

    0 where a margin is empty.
    """
    margins = (both + only) * (only_other + neither) * (both + only_other) * (only + neither)
    if margins == 0:
        return 0.0
    samples = both + only + only_other + neither
    product = both * neither - only * only_other
    corrected = max(product - samples / 2, 0.0) if product > 0 else float(product)
    return corrected / math.sqrt(margins)


def _squared_and_added(
    hits: int, samples: int, other_hits: int, other_samples: int, correlation: float, z: float
) -> Interval:
    share, other = hits / samples, other_hits / other_samples
    (low, high), (other_low, other_high) = wilson(hits, samples, z), wilson(other_hits, other_samples, z)
    below, above = share - low, high - share
    other_below, other_above = other - other_low, other_high - other
    # Rounding may leave a hair below 0 where both intervals are one point.
    down = below**2 - 2 * correlation * below * other_above + other_above**2
    up = above**2 - 2 * correlation * above * other_below + other_below**2
    difference = share - other
    return Interval(max(-1.0, difference - math.sqrt(max(down, 0.0))), min(1.0, difference + math.sqrt(max(up, 0.0))))


def mcnemar(hits: Bools, other_hits: Bools) -> float:
    """Exact two-sided p of equal shares on the same samples; 1 where both hit the same ones.

    Twice the smaller tail of the binomial of the discordant pairs at 1/2. Q. McNemar, Psychometrika 12 (1947).
    """
    only, only_other = int(np.sum(hits & ~other_hits)), int(np.sum(~hits & other_hits))
    discordant = only + only_other
    tail = sum(math.comb(discordant, count) for count in range(min(only, only_other) + 1))
    # Whole numbers up to the division: 2 to the 2 000 is no float.
    return min(1.0, 2 * tail / 2**discordant) if discordant else 1.0


def mean_interval(values: Floats, z: float = Z_95) -> Interval:
    """Normal interval of a mean: mean -/+ z * s / sqrt(n). Raises ValueError below two values.

    For differences of the same samples it is the paired interval.
    """
    mean, error = _mean_and_error(values)
    return Interval(mean - z * error, mean + z * error)


def unpaired_means(values: Floats, other: Floats, z: float = Z_95) -> Interval:
    """Normal interval of one mean minus another, of different samples. Raises ValueError below two values of either."""
    (mean, error), (other_mean, other_error) = _mean_and_error(values), _mean_and_error(other)
    half = z * math.hypot(error, other_error)
    return Interval(mean - other_mean - half, mean - other_mean + half)


def _mean_and_error(values: Floats) -> tuple[float, float]:
    if len(values) < FEWEST_FOR_A_DEVIATION:
        raise ValueError(f"expected at least {FEWEST_FOR_A_DEVIATION} samples for a deviation; got {len(values)}")
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
