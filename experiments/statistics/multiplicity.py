"""Many questions asked at once. Pure. p-values and alphas are shares of 0..1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def split_alpha(alpha: float, weights: Mapping[str, float]) -> dict[str, float]:
    """Each guardrail's part of alpha by its weight (Bonferroni: the chance of any false alarm stays below alpha)."""
    whole = sum(weights.values())
    if not weights or min(weights.values()) <= 0:
        raise ValueError(f"weights: expected positive ones, got {dict(weights)!r}")
    return {name: alpha * weight / whole for name, weight in weights.items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given; family-wise. Holm, Scandinavian Journal of Statistics 6 (1979) 65."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(_ascending(p_values)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given; false discovery rate. J. Royal Stat. Soc. B 57 (1995) 289."""
    adjusted = [0.0] * len(p_values)
    lowest = 1.0
    for rank, index in reversed(list(enumerate(_ascending(p_values), start=1))):
        lowest = min(lowest, p_values[index] * len(p_values) / rank)
        adjusted[index] = lowest
    return adjusted


def _ascending(p_values: Sequence[float]) -> list[int]:
    return sorted(range(len(p_values)), key=lambda index: p_values[index])
