"""Reading an evaluation set: an `.npz` without pickles, its arrays named as the model's inputs, plus `labels`.

A model with one input may have its array named `inputs` instead. `labels` holds one class number per sample and may
be absent: then outputs are compared, but no accuracy is measured. Arrays are (samples, …) with the model's own shape
after the first axis. For an input that the model takes quantised, an array of the model's integer type is fed as it
is, and a floating-point array is taken for real values, which are quantised with the input's scale and zero point.
"""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from registry.conversion.measures import evenly_spaced
from registry.conversion.report import TensorSpec
from registry.inspection.evaluation_set import inspect_evaluation_set

Array = npt.NDArray[np.generic]

REFERENCE_SAMPLES = 2_000
LABELS = "labels"
ONLY_INPUT = "inputs"


class EvaluationSetError(ValueError):
    """The evaluation set does not fit the model."""


@dataclass(frozen=True)
class EvaluationSet:
    """Input name -> (samples, …) and class numbers (samples,) or None; never empty."""

    inputs: Mapping[str, Array]
    labels: Array | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, limit: int) -> "EvaluationSet":
        """At most `limit` samples, evenly spaced."""
        chosen = evenly_spaced(len(self), limit)
        inputs = {name: array[chosen] for name, array in self.inputs.items()}
        return EvaluationSet(inputs, None if self.labels is None else self.labels[chosen])


def load_evaluation_set(path: Path, inputs: Sequence[TensorSpec], limit: int = REFERENCE_SAMPLES) -> EvaluationSet:
    """Read at most `limit` evenly spaced samples. Raises EvaluationSetError or InspectionError."""
    declared = inspect_evaluation_set(path)
    named = _array_names(declared, inputs)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {spec.name: _for_input(archive[named[spec.name]], spec) for spec in inputs}
            labels = archive[LABELS] if LABELS in declared else None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EvaluationSetError(f"expected a readable .npz evaluation set; got {error}") from error
    _require_equal_counts(arrays, labels)
    return EvaluationSet(MappingProxyType(arrays), labels).take(limit)


def _array_names(declared: Mapping[str, object], inputs: Sequence[TensorSpec]) -> dict[str, str]:
    names = {spec.name: spec.name for spec in inputs}
    if len(inputs) == 1 and inputs[0].name not in declared:
        names = {inputs[0].name: ONLY_INPUT}
    missing = sorted(set(names.values()) - set(declared))
    if missing:
        wanted = ", ".join(spec.name for spec in inputs)
        raise EvaluationSetError(f"expected arrays named as the model's inputs ({wanted}); got {', '.join(declared)}")
    return names


def _for_input(array: Array, spec: TensorSpec) -> Array:
    if array.shape[1:] != spec.sample_shape:
        expected = ("samples", *spec.sample_shape)
        raise EvaluationSetError(f"expected shape {expected} for input {spec.name!r}; got {array.shape}")
    if array.dtype == np.dtype(spec.dtype):
        return array
    if spec.quantization is None:
        return array.astype(spec.dtype)
    if not np.issubdtype(array.dtype, np.floating):
        raise EvaluationSetError(f"expected {spec.dtype} or real values for input {spec.name!r}; got {array.dtype}")
    return quantised(array, spec)


def quantised(array: Array, spec: TensorSpec) -> Array:
    """Real values as the stored integers of `spec`, rounded to nearest and clipped to its type."""
    if spec.quantization is None:
        return array.astype(spec.dtype)
    bounds = np.iinfo(spec.dtype)
    stored = np.round(array.astype(np.float64) / spec.quantization.scale) + spec.quantization.zero_point
    return np.asarray(np.clip(stored, bounds.min, bounds.max).astype(spec.dtype))


def dequantised(array: Array, spec: TensorSpec) -> Array:
    """The float32 values that the stored integers of `spec` stand for; float and plain arrays become float32."""
    if spec.quantization is None:
        return array.astype(np.float32)
    real = (array.astype(np.float64) - spec.quantization.zero_point) * spec.quantization.scale
    return real.astype(np.float32)


def _require_equal_counts(arrays: Mapping[str, Array], labels: Array | None) -> None:
    counts = {name: len(array) for name, array in arrays.items()}
    if labels is not None:
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise EvaluationSetError(f"expected integer labels of shape (samples,); got {labels.dtype} {labels.shape}")
        counts[LABELS] = len(labels)
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise EvaluationSetError(f"expected the same number of samples (at least 1) in every array; got {counts}")
