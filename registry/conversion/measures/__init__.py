"""Numbers that compare a variant with its source, and variants with each other. Pure: arrays in, numbers out."""

from registry.conversion.measures.intervals import (
    Interval,
    mcnemar,
    mean_interval,
    paired_shares,
    unpaired_means,
    unpaired_shares,
    wilson,
)
from registry.conversion.measures.metrics import (
    METRICS,
    Metric,
    MetricError,
    accuracy,
    decoded,
    default_metric,
    encoded,
    lost_between,
    metric_named,
)
from registry.conversion.measures.parity import (
    agreement,
    evenly_spaced,
    parity,
    parity_misses,
    scores_over_classes,
    top1,
)

__all__ = [
    "METRICS",
    "Interval",
    "Metric",
    "MetricError",
    "accuracy",
    "agreement",
    "decoded",
    "default_metric",
    "encoded",
    "evenly_spaced",
    "lost_between",
    "mcnemar",
    "mean_interval",
    "metric_named",
    "paired_shares",
    "parity",
    "parity_misses",
    "scores_over_classes",
    "top1",
    "unpaired_means",
    "unpaired_shares",
    "wilson",
]
