"""Sample ratio mismatch (SRM): do the arms have the shares that were planned? Pure.

Tested at the stage `assigned` and per phase, because shares are a property of a phase. Loss further down the funnel
is an outcome of the treatment and no mismatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log

from scipy import special

# How firmly the prior stands around the planned shares, in units: 100 sees a split of 49 to 51 among 56 000 units in
# two runs of three, and alarms in an A/A once in some thousands.
CONCENTRATION = 100.0
WARNING_P_VALUE = 0.001
HALTING_FACTOR = 1000.0
# Of each arm: below, Pearson's statistic is no chi-square, and the first unit of an arm of 5 % would be a mismatch.
LEAST_EXPECTED = 5.0
_MOST_LOG = 700.0


@dataclass(frozen=True, slots=True)
class Balance:
    """`factor`: evidence for a mismatch over evidence for the planned shares; 1 / factor is a p-value at any look."""

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    p_value: float
    factor: float


def balance(counts: Sequence[int], shares: Sequence[float]) -> Balance:
    """Units per arm against planned shares (any positive weights). Raises ValueError on what cannot be compared."""
    if len(counts) != len(shares) or not shares or min(shares) <= 0 or min(counts) < 0:
        raise ValueError(f"arms: expected a positive share for each count, got {counts!r} and {shares!r}")
    whole = sum(shares)
    planned = tuple(share / whole for share in shares)
    return Balance(tuple(counts), planned, chi_square(counts, planned), bayes_factor(counts, planned))


def chi_square(counts: Sequence[int], shares: Sequence[float]) -> float:
    """p-value of Pearson's test; shares sum to 1. Phil. Mag. 50 (1900) 157. For one look.

    1 until each arm should have 5 units: Cochran, Biometrics 10 (1954) 417. The factor counts from the first one on.
    """
    n = sum(counts)
    if len(counts) == 1 or n * min(shares) < LEAST_EXPECTED:
        return 1.0
    statistic = sum((count - n * share) ** 2 / (n * share) for count, share in zip(counts, shares, strict=True))
    return float(special.chdtrc(len(counts) - 1, statistic))


def bayes_factor(counts: Sequence[int], shares: Sequence[float], concentration: float = CONCENTRATION) -> float:
    """Dirichlet-multinomial against multinomial with the planned shares; shares sum to 1.

    Lindon and Malek, "Anytime-valid inference for multinomial count data", arXiv 2011.03567, with the prior
    Dirichlet(concentration * shares). Under the planned shares it exceeds 1 / alpha at any look with a chance of at
    most alpha.
    """
    n = sum(counts)
    evidence = lgamma(concentration) - lgamma(concentration + n)
    for count, share in zip(counts, shares, strict=True):
        prior = concentration * share
        evidence += lgamma(prior + count) - lgamma(prior) - count * log(share)
    return exp(min(evidence, _MOST_LOG))


def drill_down(
    groups: Mapping[str, Sequence[int]], shares: Sequence[float], most_p_value: float = WARNING_P_VALUE
) -> list[tuple[str, Balance]]:
    """The groups (an OS, an app version, a class) out of balance, worst first; p is corrected for their number."""
    found = [(name, balance(counts, shares)) for name, counts in groups.items() if sum(counts)]
    suspects = [(name, each) for name, each in found if each.p_value * len(found) < most_p_value]
    return sorted(suspects, key=lambda pair: (pair[1].p_value, pair[0]))
