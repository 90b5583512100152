"""Two versions side by side, variant by variant, from their reports alone."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from registry.conversion.measures import (
    Interval,
    MetricError,
    decoded,
    lost_between,
    metric_named,
    unpaired_shares,
)
from registry.conversion.report import Accuracy, Report

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Side:
    """One variant's figures; None where they were not measured. `latency_us` is the median of one thread."""

    state: str
    size_bytes: int
    compressed_size_bytes: int | None
    accuracies: tuple[Accuracy, ...]
    latency_us: int | None
    speed_ratio: float | None
    inference_memory_bytes: int | None
    max_abs_error: float | None
    top1_agreement: float | None


@dataclass(frozen=True)
class Lost:
    """How much worse the newer variant is, in units of the metric, with its 95 % interval: above 0 is worse.

    `is_paired` when both ran the very same samples, which then have a p of McNemar's exact test where they are hits or
    misses. Otherwise the interval is that of two independent samples, and wider.
    """

    metric: str
    output: str
    lost: float
    low: float
    high: float
    p_value: float | None
    is_paired: bool


@dataclass(frozen=True)
class Difference:
    """Newer less older; the latency as newer over older."""

    size_bytes: int
    compressed_size_bytes: int | None
    latency_ratio: float | None
    max_abs_error: float | None
    lost: tuple[Lost, ...]


@dataclass(frozen=True)
class Row:
    """`older` or `newer` is None where that version has no such variant; then there is no difference either."""

    recipe: str
    older: Side | None
    newer: Side | None
    difference: Difference | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(older: Mapping[str, Report], newer: Mapping[str, Report]) -> tuple[Row, ...]:
    """One row a recipe that either has a report of, the older version's first; both map a recipe to its report."""
    return tuple(_row(recipe, older.get(recipe), newer.get(recipe)) for recipe in {**older, **newer})


def _row(recipe: str, older: Report | None, newer: Report | None) -> Row:
    both = older is not None and newer is not None and bool(older.files and newer.files)
    return Row(
        recipe,
        _side(older) if older else None,
        _side(newer) if newer else None,
        _difference(older, newer) if both and older and newer else None,
    )


def _side(report: Report) -> Side:
    return Side(
        state=report.state,
        size_bytes=report.size_bytes,
        compressed_size_bytes=report.compressed_size_bytes,
        accuracies=accuracies_of(report),
        latency_us=report.latency_host.p50_us if report.latency_host else None,
        speed_ratio=report.speed_ratio,
        inference_memory_bytes=report.inference_memory_bytes,
        max_abs_error=report.parity.max_abs_error if report.parity else None,
        top1_agreement=report.parity.top1_agreement if report.parity else None,
    )


def accuracies_of(report: Report) -> tuple[Accuracy, ...]:
    """All of them; reports written before there could be more than one hold just `accuracy`."""
    return report.accuracies or ((report.accuracy,) if report.accuracy else ())


def _difference(older: Report, newer: Report) -> Difference:
    old, new = _side(older), _side(newer)
    ratio = new.latency_us / old.latency_us if old.latency_us and new.latency_us else None
    return Difference(
        size_bytes=new.size_bytes - old.size_bytes,
        compressed_size_bytes=_less(new.compressed_size_bytes, old.compressed_size_bytes),
        latency_ratio=round(ratio, 3) if ratio else None,
        max_abs_error=_less(new.max_abs_error, old.max_abs_error),
        lost=tuple(_lost(before, after, older, newer) for before, after in _same_measure(old, new)),
    )


def _less(newer: Number | None, older: Number | None) -> Number | None:
    return None if newer is None or older is None else newer - older


def _same_measure(older: Side, newer: Side) -> list[tuple[Accuracy, Accuracy]]:
    """Pairs of the same metric of the same output."""
    before = {(found.metric, found.output): found for found in older.accuracies}
    return [
        (before[found.metric, found.output], found)
        for found in newer.accuracies
        if (found.metric, found.output) in before
    ]


def _lost(before: Accuracy, after: Accuracy, older: Report, newer: Report) -> Lost:
    paired = _paired(before, after, older, newer)
    if paired is not None:
        lost, interval, p_value = paired
        return Lost(after.metric, after.output, lost, interval.low, interval.high, p_value, is_paired=True)
    is_share = metric_named(after.metric).kind == "share"
    interval = _of_shares(before, after) if is_share else _of_means(before, after)
    lost = before.value - after.value if is_share else after.value - before.value
    return Lost(after.metric, after.output, lost, interval.low, interval.high, None, is_paired=False)


def _paired(
    before: Accuracy, after: Accuracy, older: Report, newer: Report
) -> tuple[float, Interval, float | None] | None:
    """None where the two did not run the very same samples, or their outcomes were not kept."""
    kept, now = older.outcomes, newer.outcomes
    if kept is None or now is None or kept.samples != now.samples or before.samples != after.samples:
        return None
    name = after.output
    if name not in kept.outputs or name not in now.outputs:
        return None
    try:
        was, became = (decoded(after.metric, part.outputs[name], after.samples) for part in (kept, now))
        return lost_between(after.metric, became, was)
    except (MetricError, ValueError):
        return None


def _of_shares(before: Accuracy, after: Accuracy) -> Interval:
    hits, other = round(before.value * before.samples), round(after.value * after.samples)
    return unpaired_shares(hits, before.samples, other, after.samples)


def _of_means(before: Accuracy, after: Accuracy) -> Interval:
    """From the upper halves of both intervals: lower ones are cut off at 0. See measures.unpaired_means."""
    half = math.hypot(before.interval_high - before.value, after.interval_high - after.value)
    worse = after.value - before.value
    return Interval(worse - half, worse + half)
