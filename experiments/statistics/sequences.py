"""Bounds that may be looked at every day: asymptotic confidence sequences for shares and means. Pure.

Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
arXiv 2103.06476: the two-sided sequence of its section 2, the one-sided one and the tuning of its appendix. Here n
counts the units of both arms, and the standard error of the difference times sqrt(n) is the deviation of one unit.
The probability that the bound is wrong at *any* look is at most alpha, once the normal limit holds: hence the floors.
"""

from __future__ import annotations

from math import inf, log, log1p, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the widths are for web processes too, which shall not import scipy
    from experiments.statistics.estimates import Estimate

LEAST_UNITS_PER_ARM = 200
LEAST_POOLED_EVENTS = 20


def is_enough(units: tuple[int, int], events: int | None = None) -> bool:
    """Whether an asymptotic bound may be trusted: 200 units in each arm and, for a share, 20 events in both.

    A share near 1 has as few non-events: the caller counts whichever is rarer.
    """
    return min(units) >= LEAST_UNITS_PER_ARM and (events is None or events >= LEAST_POOLED_EVENTS)


def tuning(alpha: float, planned_n: int) -> float:
    """rho, for which the two-sided sequence is narrowest at `planned_n` units."""
    return sqrt((-2 * log(alpha) + log(1 - 2 * log(alpha))) / planned_n)


def one_sided_width(n: int, alpha: float, planned_n: int) -> float:
    """Distance of a one-sided bound from the estimate, in deviations of one unit; infinite without units."""
    if n < 1:
        return inf
    squared = tuning(min(2 * alpha, 0.5), planned_n) ** 2
    return sqrt(2 * (n * squared + 1) / (n * n * squared) * log1p(sqrt(n * squared + 1) / (2 * alpha)))


def two_sided_width(n: int, alpha: float, planned_n: int) -> float:
    """Half the width of a two-sided interval, in deviations of one unit; infinite without units."""
    if n < 1:
        return inf
    squared = tuning(alpha, planned_n) ** 2
    return sqrt(2 * (n * squared + 1) / (n * n * squared) * log(sqrt(n * squared + 1) / alpha))


def lower_bound(estimate: Estimate, alpha: float, planned_n: int) -> float:
    """The difference is above this at every look, but for a chance of alpha."""
    return estimate.value - _scaled(estimate, one_sided_width(estimate.n, alpha, planned_n))


def upper_bound(estimate: Estimate, alpha: float, planned_n: int) -> float:
    """The difference is below this at every look, but for a chance of alpha."""
    return estimate.value + _scaled(estimate, one_sided_width(estimate.n, alpha, planned_n))


def interval(estimate: Estimate, alpha: float, planned_n: int) -> tuple[float, float]:
    """What the difference stays in at every look, but for a chance of alpha; for display."""
    half = _scaled(estimate, two_sided_width(estimate.n, alpha, planned_n))
    return estimate.value - half, estimate.value + half


def _scaled(estimate: Estimate, width: float) -> float:
    if inf in (estimate.standard_error, width):
        return inf
    return estimate.standard_error * sqrt(estimate.n) * width
