"""What a model is measured by: how each sample went, and the mean of that with its interval."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from registry.conversion.measures.intervals import (
    Interval,
    mcnemar,
    mean_interval,
    paired_shares,
    wilson,
)
from registry.conversion.measures.parity import scores_over_classes, top1
from registry.conversion.report import Accuracy

Array = npt.NDArray[np.generic]
Outcome = npt.NDArray[Any]

TOP = 5
HALF = 0.5


class MetricError(ValueError):
    """An output, or its labels, that a metric cannot be computed of."""


@dataclass(frozen=True)
class Metric:
    """`outcome` maps (output, labels) to (samples,): hits (bool) for a share, float64 errors otherwise."""

    name: str
    kind: Literal["share", "error"]
    outcome: Callable[[Array, Array], Outcome]


def _class_numbers(name: str, output: Array, labels: Array) -> None:
    if not scores_over_classes(output):
        raise MetricError(f"{name} expects an output of (samples, classes); got {output.shape}")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise MetricError(f"{name} expects integer labels of shape (samples,); got {labels.dtype} {labels.shape}")


def hits_top1(output: Array, labels: Array) -> Outcome:
    """Whether the best class is the label; the first of equal ones counts."""
    _class_numbers("accuracy", output, labels)
    return np.asarray(top1(output) == labels)


def hits_top5(output: Array, labels: Array) -> Outcome:
    """Whether fewer than five classes score higher than the label's; of equal ones the first count."""
    _class_numbers("top5", output, labels)
    scores = output.reshape(len(output), -1)
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :TOP]
    return np.asarray(np.any(best == labels[:, None], axis=1))


def hits_half(output: Array, labels: Array) -> Outcome:
    """Whether a single score lies on the label's side of 0.5; labels are 0 or 1."""
    flat = output.reshape(len(output), -1)
    if flat.shape[1] != 1:
        raise MetricError(f"binary_accuracy expects one score a sample; got {output.shape}")
    if labels.size != len(output) or not np.isin(labels, (0, 1)).all():
        raise MetricError(f"binary_accuracy expects one label of 0 or 1 a sample; got {labels.shape}")
    return np.asarray((flat[:, 0].astype(np.float64) > HALF) == (labels.reshape(-1) == 1))


def squared_errors(output: Array, targets: Array) -> Outcome:
    return np.asarray(np.mean(_differences("mse", output, targets) ** 2, axis=1))


def absolute_errors(output: Array, targets: Array) -> Outcome:
    return np.asarray(np.mean(np.abs(_differences("mae", output, targets)), axis=1))


def _differences(name: str, output: Array, targets: Array) -> npt.NDArray[np.float64]:
    """(samples, values of one sample); axes of size 1 may differ."""
    if _without_ones(output) != _without_ones(targets):
        raise MetricError(f"{name} expects targets of the output's shape {output.shape}; got {targets.shape}")
    flat, wanted = (np.reshape(array, (len(array), -1)).astype(np.float64) for array in (output, targets))
    return flat - wanted


def _without_ones(array: Array) -> tuple[int, ...]:
    return (len(array), *(size for size in array.shape[1:] if size != 1))


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("accuracy", "share", hits_top1),
            Metric("top5", "share", hits_top5),
            Metric("binary_accuracy", "share", hits_half),
            Metric("mse", "error", squared_errors),
            Metric("mae", "error", absolute_errors),
        )
    }
)


def default_metric(labels: Array) -> str:
    """What labels without a named metric ask for: class numbers accuracy, real values the mean squared error."""
    return "mse" if np.issubdtype(labels.dtype, np.floating) else "accuracy"


def accuracy(
    metric: str, output: Array, labels: Array, source_output: Array | None, name: str = ""
) -> tuple[Accuracy, Outcome]:
    """The metric over (samples, …), what was lost against the source on the same samples, and each sample's outcome.

    Nothing is lost by the source itself (`source_output` is `output`). Raises MetricError for an unknown metric, for
    shapes that do not fit, and for an error measured on a single sample, whose deviation nobody knows.
    """
    measured = metric_named(metric)
    outcome = measured.outcome(output, labels)
    low, high = _interval(measured, outcome)
    value = float(np.mean(outcome))
    if source_output is None:
        return Accuracy(metric, value, None, len(labels), low, high, output=name), outcome
    source = outcome if source_output is output else measured.outcome(source_output, labels)
    found = Accuracy(metric, value, float(np.mean(source)), len(labels), low, high, output=name)
    return (found if source_output is output else with_lost(found, outcome, source)), outcome


def is_share(metric: str) -> bool:
    """Whether it is a share of samples in 0..1, more of which is better; others are errors, less of which is better."""
    return metric_named(metric).kind == "share"


def metric_named(metric: str) -> Metric:
    try:
        return METRICS[metric]
    except KeyError:
        raise MetricError(f"expected a metric among {', '.join(METRICS)}; got {metric!r}") from None


def _interval(metric: Metric, outcome: Outcome) -> Interval:
    if metric.kind == "share":
        return wilson(int(np.sum(outcome)), len(outcome))
    try:
        low, high = mean_interval(outcome)
    except ValueError as error:
        raise MetricError(f"{metric.name}: {error}") from error
    # No error is below 0, whatever a symmetric interval says.
    return Interval(max(0.0, low), high)


def with_lost(found: Accuracy, outcome: Outcome, source: Outcome) -> Accuracy:
    """`found` with what was lost against other outcomes of the same samples; above 0 is worse."""
    lost, interval, p_value = lost_between(found.metric, outcome, source)
    return Accuracy(
        found.metric,
        found.value,
        found.source_value,
        found.samples,
        found.interval_low,
        found.interval_high,
        lost,
        interval.low,
        interval.high,
        p_value,
        found.output,
    )


def lost_between(metric: str, outcome: Outcome, source: Outcome) -> tuple[float, Interval, float | None]:
    """How much worse `outcome` is than `source`, sample by sample: difference, interval, and p for shares."""
    if metric_named(metric).kind == "share":
        lost = float(np.mean(source)) - float(np.mean(outcome))
        return lost, paired_shares(source, outcome), mcnemar(source, outcome)
    worse = outcome - source
    return float(np.mean(worse)), mean_interval(worse), None


def encoded(metric: str, outcome: Outcome) -> str:
    """Base64 of one bit a sample (shares) or one little-endian float32 a sample (errors)."""
    share = metric_named(metric).kind == "share"
    return base64.b64encode(np.packbits(outcome).tobytes() if share else outcome.astype("<f4").tobytes()).decode()


def decoded(metric: str, text: str, samples: int) -> Outcome:
    """What `encoded` was given. Raises MetricError for another number of samples."""
    data = base64.b64decode(text)
    share = metric_named(metric).kind == "share"
    expected = -(-samples // 8) if share else 4 * samples
    if len(data) != expected:
        raise MetricError(f"expected {expected} bytes for {samples} samples; got {len(data)}")
    if share:
        return np.unpackbits(np.frombuffer(data, np.uint8), count=samples).astype(bool)
    return np.frombuffer(data, "<f4").astype(np.float64)
