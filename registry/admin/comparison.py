"""A version's variants side by side: what each costs in bytes, accuracy, parity and latency, and against another."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from registry.models import ModelVersion, Variant

DEFAULT_METRIC = "accuracy"


@dataclass(frozen=True)
class Measures:
    """One variant. `accuracy`, its interval and `source_accuracy` are of `metric`: shares lie in 0..1, errors are as
    they come. None where nothing was measured.
    """

    name: str
    runtime: str
    size_bytes: int
    metric: str
    accuracy: float | None
    interval: tuple[float, float] | None
    source_accuracy: float | None
    samples: int | None
    max_abs_error: float | None
    top1_agreement: float | None
    p50_us: int | None
    p90_us: int | None
    notes: tuple[str, ...]

    @classmethod
    def of(cls, variant: Variant) -> "Measures":
        report = variant.report
        accuracy: dict[str, Any] = report.get("accuracy") or {}
        parity: dict[str, Any] = report.get("parity") or {}
        latency: dict[str, Any] = report.get("latency_host") or {}
        return cls(
            name=variant.name,
            runtime=variant.runtime,
            size_bytes=variant.size_bytes,
            metric=accuracy.get("metric", DEFAULT_METRIC),
            accuracy=accuracy.get("value"),
            interval=(accuracy["interval_low"], accuracy["interval_high"]) if accuracy else None,
            source_accuracy=accuracy.get("source_value"),
            samples=accuracy.get("samples") or parity.get("samples"),
            max_abs_error=parity.get("max_abs_error"),
            top1_agreement=parity.get("top1_agreement"),
            p50_us=latency.get("p50_us"),
            p90_us=latency.get("p90_us"),
            notes=tuple(report.get("notes", ())),
        )


@dataclass(frozen=True)
class Row:
    """A variant, the same variant of the other version, and bars in percent of the table's greatest."""

    now: Measures
    other: Measures | None
    size_bar: int
    latency_bar: int

    @property
    def accuracy_cost(self) -> float | None:
        """Against the source model, on the same samples."""
        return _difference(self.now.accuracy, self.now.source_accuracy)

    @property
    def size_change(self) -> float | None:
        return _ratio(self.now.size_bytes, self.other.size_bytes if self.other else None)

    @property
    def accuracy_change(self) -> float | None:
        return _difference(self.now.accuracy, self.other.accuracy if self.other else None)

    @property
    def latency_change(self) -> float | None:
        return _ratio(self.now.p50_us, self.other.p50_us if self.other else None)


def rows(version: ModelVersion, other: ModelVersion | None = None) -> list[Row]:
    """Smallest first."""
    measured = sorted(map(Measures.of, version.variants.all()), key=lambda variant: (variant.size_bytes, variant.name))
    others = {row.name: Measures.of(row) for row in other.variants.all()} if other else {}
    most_bytes = _greatest(variant.size_bytes for variant in measured)
    most_us = _greatest(variant.p50_us or 0 for variant in measured)
    return [
        Row(
            variant,
            others.get(variant.name),
            round(100 * variant.size_bytes / most_bytes),
            round(100 * (variant.p50_us or 0) / most_us),
        )
        for variant in measured
    ]


def _greatest(values: Iterable[int]) -> int:
    return max([*values, 1])


def _difference(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other - 1
