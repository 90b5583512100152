"""One estimate from several: over phases, over device classes; and small classes in tiers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt

from scipy import special

from experiments.statistics.estimates import Estimate, Moments, share_difference

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


def size_weighted(pairs: Sequence[tuple[Moments, Moments]]) -> Estimate:
    """Difference of shares, treatment minus control, over (treatment, control) of each phase: Mantel and Haenszel's.

    Weights are n_t n_c / (n_t + n_c), as Greenland and Robins have them for risk differences, Biometrics 41 (1985) 55.
    Not 1 / variance: a phase in which nothing happened yet has hardly any, and would outweigh all harm before it.
    """
    n = sum(treatment.n + control.n for treatment, control in pairs)
    both = [(t, c, t.n * c.n / (t.n + c.n)) for t, c in pairs if t.n and c.n]
    whole = sum(weight for *_, weight in both)
    if not whole:
        return Estimate(0.0, inf, n)
    found = [(share_difference(treatment, control), weight / whole) for treatment, control, weight in both]
    error = sqrt(sum((weight * each.standard_error) ** 2 for each, weight in found))
    return Estimate(sum(weight * each.value for each, weight in found), error, n)


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
