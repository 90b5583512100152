"""One estimate from several: over phases, over device classes; and small classes in tiers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, sqrt

from scipy import special

from experiments.statistics.estimates import Estimate, Moments, difference, share_difference

OTHER_TIER = "other"


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """`p_value` for the null that all classes share one effect; `i_squared`, 0..1: spread beyond chance."""

    q: float
    p_value: float
    i_squared: float


def inverse_variance(estimates: Sequence[Estimate]) -> Estimate:
    """Fixed-effect mean: weights 1 / variance. Cochran, J. Royal Stat. Soc. Suppl. 4 (1937) 102.

    Comparing within each phase and combining afterwards is what keeps a changed split from looking like an effect
    (Simpson). Estimates without a finite standard error carry no weight; those that have none are exact and carry all.
    """
    usable = [each for each in estimates if each.standard_error < inf]
    n = sum(each.n for each in estimates)
    if not usable:
        return Estimate(0.0, inf, n)
    exact = [each for each in usable if each.standard_error == 0]
    if exact:
        return Estimate(sum(each.value for each in exact) / len(exact), 0.0, n)
    weights = [each.standard_error**-2 for each in usable]
    value = sum(weight * each.value for weight, each in zip(weights, usable, strict=True)) / sum(weights)
    return Estimate(value, sqrt(1 / sum(weights)), n)


def size_weighted(
    pairs: Sequence[tuple[Moments, Moments]], *, is_share: bool = True, is_lasting: bool = False
) -> Estimate:
    """Difference of shares or means, treatment minus control, over (treatment, control) of each phase.

    Weights are Mantel and Haenszel's, n_t n_c / (n_t + n_c), as Greenland and Robins have them for risk differences,
    Biometrics 41 (1985) 55; of means they are 1 / variance, if a unit varies in all phases alike. Not by the variance
    that each phase shows: a phase in which nothing happened yet, or that two alike units began, has hardly any, and
    would outweigh all before it. Phases that tell no error carry no weight.

    `is_lasting`: a unit has the same value in each phase that it is in, as a slow device has. A ramp keeps its units,
    so that phases are then no news of each other: their errors are taken to be correlated as much as they can be.
    """
    n = sum(treatment.n + control.n for treatment, control in pairs)
    compare = share_difference if is_share else difference
    found = [(compare(t, c), t.n * c.n / (t.n + c.n)) for t, c in pairs if t.n and c.n]
    usable = [(each, weight) for each, weight in found if each.standard_error < inf]
    whole = sum(weight for _, weight in usable)
    if not whole:
        return Estimate(0.0, inf, n)
    errors = [(weight * each.standard_error, weight) for each, weight in usable]
    squared = sum(error**2 for error, _ in errors)
    if is_lasting:
        squared += 2 * sum(one * two * _most_correlation(a, b) for (one, a), (two, b) in combinations(errors, 2))
    return Estimate(sum(weight * each.value for each, weight in usable) / whole, sqrt(squared) / whole, n)


def _most_correlation(first: float, second: float) -> float:
    """Of two differences, by their weights: the units of the smaller phase are all in the larger one too."""
    return sqrt(min(first, second) / max(first, second))


def heterogeneity(estimates: Sequence[Estimate]) -> Heterogeneity:
    """Cochran's Q over classes (Biometrics 10 (1954) 101) and I² (Higgins, Thompson, Stat. in Medicine 21 (2002) 1539).

    A small p says that classes differ; it names no class and ships none.
    """
    usable = [each for each in estimates if 0 < each.standard_error < inf]
    freedom = len(usable) - 1
    if freedom < 1:
        return Heterogeneity(0.0, 1.0, 0.0)
    mean = inverse_variance(usable).value
    q = sum(((each.value - mean) / each.standard_error) ** 2 for each in usable)
    return Heterogeneity(q, float(special.chdtrc(freedom, q)), max(0.0, (q - freedom) / q) if q else 0.0)


def pool_small(units: Mapping[str, int], tiers: Mapping[str, str], least_units: int) -> dict[str, str]:
    """For each class the group it is analysed in: itself, or its tier if it has less than `least_units` of either arm.

    `units` are those of a class's smaller arm. A class without a tier joins `other`.
    """
    return {name: name if count >= least_units else tiers.get(name) or OTHER_TIER for name, count in units.items()}
