"""Rare events on counts: does the treatment have more of them than its share of the units allows? Pure.

Of all units that had the event (a crash: devices with at least one), the number in the treatment is binomial with
theta = r t / (r t + c), t and c being the units of the arms and r the ratio of their rates. A mixture over theta, the
two-arm case of the Dirichlet-multinomial of `balance`, gives evidence that may be looked at every day, without any
normal limit: it needs no floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, lgamma, log, prod

from scipy import special

# The prior looks for a doubling, as firmly as 20 events would tell of it: what a halt of a bad release is about.
PLANNED_RATIO = 2.0
CONCENTRATION = 20.0
_MOST_LOG = 700.0
_MOST_EVIDENCE = 1e60
_MOST_RATIO = 1e4
_HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Counts:
    """Units with the event, and units, of both arms."""

    treatment_events: int
    control_events: int
    treatment_units: int
    control_units: int

    @property
    def events(self) -> int:
        return self.treatment_events + self.control_events

    @property
    def ratio(self) -> float:
        """Of the rates; half an event is added to each arm, so that it is finite."""
        if not self.treatment_units or not self.control_units:
            return 1.0
        rates = ((self.treatment_events + 0.5) / self.treatment_units, (self.control_events + 0.5) / self.control_units)
        return rates[0] / rates[1]

    def share(self, ratio: float) -> float:
        """theta: the share of events expected in the treatment if its rate is `ratio` times the control's."""
        return ratio * self.treatment_units / (ratio * self.treatment_units + self.control_units)


def evidence_of_more(counts: Counts, ratio: float = 1.0) -> float:
    """Evidence that the rate is more than `ratio` times the control's, over that it is not.

    An e-value: if it is not, this ever exceeds 1 / alpha with a chance of at most alpha. The mixture of Lindon and
    Malek (arXiv 2011.03567) with its Beta prior cut to theta above the null's, as in Howard, Ramdas, McAuliffe, Sekhon
    (Annals of Statistics 49 (2021) 1055, one-sided mixtures). The shares of the arms must be those of the design.
    """
    if not counts.treatment_units or not counts.control_units:
        return 1.0
    null = counts.share(ratio)
    centre = counts.share(PLANNED_RATIO * ratio)
    a, b = CONCENTRATION * centre, CONCENTRATION * (1 - centre)
    with_a, with_b = a + counts.treatment_events, b + counts.control_events
    likelihood = counts.treatment_events * log(null) + counts.control_events * log(1 - null)
    mixture = _log_beta(with_a, with_b) - _log_beta(a, b) - likelihood
    above_prior, above_posterior = (
        float(special.betainc(second, first, 1 - null)) for first, second in ((a, b), (with_a, with_b))
    )
    if above_posterior == 0:
        return 0.0
    return exp(min(mixture + log(above_posterior / above_prior), _MOST_LOG))


def combined_evidence(strata: Sequence[Counts], ratio: float = 1.0) -> float:
    """Over phases with shares of their own: the product, since each is evidence whatever the others were."""
    return prod(min(evidence_of_more(counts, ratio), _MOST_EVIDENCE) for counts in strata)


def lower_bound(strata: Sequence[Counts], alpha: float) -> float:
    """The ratio of the rates is above this at every look, but for a chance of alpha; 0 if nothing can be said."""
    low, high = 1 / _MOST_RATIO, _MOST_RATIO
    if not any(counts.events for counts in strata) or combined_evidence(strata, low) < 1 / alpha:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if combined_evidence(strata, middle) >= 1 / alpha else (low, middle)
    return low


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def rate_ratio(counts: Counts, alpha: float = 0.05) -> tuple[float, float]:
    """Two-sided interval of the ratio for one look. Clopper and Pearson on theta, Biometrika 26 (1934) 404."""
    k, n = counts.treatment_events, counts.events
    if not n or not counts.treatment_units or not counts.control_units:
        return 0.0, inf
    lower = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, alpha / 2))
    upper = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 1 - alpha / 2))
    exposure = counts.control_units / counts.treatment_units
    return lower / (1 - lower) * exposure, inf if upper == 1 else upper / (1 - upper) * exposure
