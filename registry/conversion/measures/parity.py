"""How far a variant's outputs lie from its source's."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from registry.conversion.recipes import ParityLimits
from registry.conversion.report import Parity

Array = npt.NDArray[np.generic]
Outputs = Mapping[str, Array]

FEWEST_CLASSES = 2


def scores_over_classes(output: Array) -> bool:
    """True for (samples, 1…, classes) with at least two classes: arg-max then means something."""
    return output.ndim >= 2 and output.shape[-1] >= FEWEST_CLASSES and output[0].size == output.shape[-1]  # noqa: PLR2004


def top1(output: Array) -> npt.NDArray[np.int64]:
    """Class of the highest score per sample; (samples, …, classes) -> (samples,)."""
    return np.asarray(output.reshape(len(output), -1).argmax(axis=1), dtype=np.int64)


def agreement(outputs: Outputs, reference: Outputs) -> float | None:
    """Lowest share of samples, over all class-score outputs, on which both pick the same class."""
    shares = [
        float(np.mean(top1(outputs[name]) == top1(reference[name])))
        for name in sorted(reference)
        if scores_over_classes(reference[name])
    ]
    return min(shares) if shares else None


def parity(outputs: Outputs, reference: Outputs) -> Parity:
    """Absolute distance over all outputs; both map output name to (samples, …) of equal shapes, and are finite."""
    distances = [np.abs(outputs[name].astype(np.float64) - reference[name].astype(np.float64)) for name in reference]
    samples = len(next(iter(reference.values())))
    return Parity(
        max_abs_error=max(float(d.max()) for d in distances),
        mean_abs_error=max(float(d.mean()) for d in distances),
        top1_agreement=agreement(outputs, reference),
        samples=samples,
    )


def parity_misses(found: Parity, limits: ParityLimits, *, magnitude: float, on_evaluation_set: bool) -> list[str]:
    """One sentence per limit that is exceeded. `magnitude` is the largest absolute reference output."""
    scale = max(1.0, magnitude)
    misses = [
        f"expected {what} <= {limit * scale:g}; got {value:.6g}"
        for what, value, limit in (
            ("max_abs_error", found.max_abs_error, limits.max_abs_error),
            ("mean_abs_error", found.mean_abs_error, limits.mean_abs_error),
        )
        if value > limit * scale
    ]
    agreed = found.top1_agreement
    if on_evaluation_set and agreed is not None and agreed < limits.min_top1_agreement:
        misses.append(f"expected top1_agreement >= {limits.min_top1_agreement:g}; got {agreed:.6g}")
    return misses


def evenly_spaced(count: int, limit: int) -> npt.NDArray[np.int64]:
    """At most `limit` ascending indices spread over 0..count-1, the same ones on every call."""
    taken = min(count, limit)
    return np.asarray([index * count // taken for index in range(taken)], dtype=np.int64)
