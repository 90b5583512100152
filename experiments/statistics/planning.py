"""What can be seen with so many units: shown before an experiment starts. Pure.

Normal approximation, e.g. Fleiss, Levin, Paik, Statistical Methods for Rates and Proportions, 4.2, one-sided.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist

_NORMAL = NormalDist()
# A bound that may be looked at daily is some 1.7 times as wide as a fixed one (measured by simulation).
SEQUENTIAL_WIDENING = 1.7
_HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Demand:
    """How sure one wants to be. `looks_daily`: by a confidence sequence and not by one look at the end."""

    alpha: float = 0.05
    power: float = 0.8
    looks_daily: bool = False

    @property
    def deviations(self) -> float:
        """How many standard errors an effect must have."""
        fixed = _NORMAL.inv_cdf(1 - self.alpha) + _NORMAL.inv_cdf(self.power)
        return fixed * (SEQUENTIAL_WIDENING if self.looks_daily else 1.0)


ONE_LOOK = Demand()


def units_per_arm(control: float, treatment: float, demand: Demand = ONE_LOOK) -> int:
    """Units that each arm needs to tell two shares apart. Raises ValueError if they are equal."""
    if control == treatment:
        raise ValueError(f"shares: expected two different ones, got {control} twice")
    spread = control * (1 - control) + treatment * (1 - treatment)
    return ceil(demand.deviations**2 * spread / (treatment - control) ** 2)


def detectable_share(
    control: float,
    units: int,
    demand: Demand = ONE_LOOK,
    *,
    is_rise_harm: bool = True,
) -> float | None:
    """The share of the treatment nearest to the control's that `units` per arm would show; None if there is none."""
    worst = 1.0 if is_rise_harm else 0.0
    if units < 1 or control == worst or not _is_seen(control, worst, units, demand):
        return None
    unseen, seen = control, worst
    for _ in range(_HALVINGS):
        middle = (unseen + seen) / 2
        unseen, seen = (unseen, middle) if _is_seen(control, middle, units, demand) else (middle, seen)
    return seen


def _is_seen(control: float, treatment: float, units: int, demand: Demand) -> bool:
    spread = control * (1 - control) + treatment * (1 - treatment)
    return abs(treatment - control) >= demand.deviations * sqrt(spread / units)


def detectable_mean_shift(deviation: float, units: int, demand: Demand = ONE_LOOK) -> float | None:
    """The least shift of a mean that `units` per arm would show, in the unit of `deviation` (of one device)."""
    return demand.deviations * deviation * sqrt(2 / units) if units > 0 else None
