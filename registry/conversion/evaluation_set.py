"""Reading an evaluation set: an `.npz` without pickles, or a zip of pictures or sounds with `evaluation.json`.

Arrays of an `.npz` are named as the model's inputs; a model with one input may have its array named `inputs` instead.
`labels` (or `targets`) holds what the model should have said, one entry a sample: class numbers, or real values of an
output's own shape; `labels/<output>` says it of one output. `metric`, or `metric/<output>`, names what is measured.
Without labels outputs are compared, but nothing is measured. Arrays are (samples, …) with the model's own shape after
the first axis. For an input that the model takes quantised, an array of the model's integer type is fed as it is, and
a floating-point array is taken for real values, which are quantised with the input's scale and zero point.
"""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from registry.conversion.measures import evenly_spaced
from registry.conversion.report import TensorSpec
from registry.inspection.evaluation_set import METRIC, inspect_evaluation_set, is_sample_set
from registry.inspection.sample_set import SampleSet, read_sample_set

Array = npt.NDArray[np.generic]

REFERENCE_SAMPLES = 2_000
LABELS = "labels"
TARGETS = "targets"
ONLY_INPUT = "inputs"


class EvaluationSetError(ValueError):
    """The evaluation set does not fit the model."""


@dataclass(frozen=True)
class EvaluationSet:
    """Input name -> (samples, …); output name -> labels (samples, …) and metric; never empty.

    The name "" stands for the output that its user is left to find. `digest` is the SHA-256 (hex) of the file and of
    which of its samples are here: two sets of one digest hold the same samples.
    """

    inputs: Mapping[str, Array]
    labels_of: Mapping[str, Array] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def labels(self) -> Array | None:
        """The labels that name no output."""
        return self.labels_of.get("")

    def take(self, limit: int) -> "EvaluationSet":
        """At most `limit` samples, evenly spaced."""
        if limit >= len(self):
            return self
        chosen = evenly_spaced(len(self), limit)
        inputs, labels_of = (
            {name: array[chosen] for name, array in arrays.items()} for arrays in (self.inputs, self.labels_of)
        )
        digest = hashlib.sha256(self.digest.encode() + chosen.astype("<i8").tobytes()).hexdigest()
        return EvaluationSet(inputs, labels_of, self.metrics, digest)


def load_evaluation_set(path: Path, inputs: Sequence[TensorSpec], limit: int = REFERENCE_SAMPLES) -> EvaluationSet:
    """Read at most `limit` evenly spaced samples. Raises EvaluationSetError or InspectionError."""
    if is_sample_set(path):
        arrays, labels_of, metrics = _read_samples(path, read_sample_set(path), inputs, limit)
    else:
        arrays, labels_of, metrics = _read_arrays(path, inputs)
    _require_equal_counts(arrays, labels_of)
    whole = EvaluationSet(MappingProxyType(arrays), MappingProxyType(labels_of), metrics, _digest(path))
    return whole.take(limit)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


Read = tuple[dict[str, Array], dict[str, Array], Mapping[str, str]]


def _read_arrays(path: Path, inputs: Sequence[TensorSpec]) -> Read:
    declared = inspect_evaluation_set(path)
    named = _array_names(declared, inputs)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {spec.name: _for_input(archive[named[spec.name]], spec) for spec in inputs}
            labels_of = {_output(key): archive[key] for key in declared if _is_labels(key, inputs)}
            metrics = {_output(key): str(archive[key]) for key in declared if key.partition("/")[0] == METRIC}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EvaluationSetError(f"expected a readable .npz evaluation set; got {error}") from error
    return arrays, labels_of, metrics


def _is_labels(key: str, inputs: Sequence[TensorSpec]) -> bool:
    """A model may have an input of that name, which then is no label."""
    return key.partition("/")[0] in {LABELS, TARGETS} and key not in {spec.name for spec in inputs}


def _output(key: str) -> str:
    return key.partition("/")[2]


def _read_samples(path: Path, found: SampleSet, inputs: Sequence[TensorSpec], limit: int) -> Read:
    # Late: the readers of pictures come with the extra that runs models.
    from registry.conversion.sample_files import decoded_samples  # noqa: PLC0415

    if [spec.name for spec in inputs] != [found.input.name]:
        wanted = ", ".join(spec.name for spec in inputs)
        raise EvaluationSetError(f"expected samples of the model's only input ({wanted}); got {found.input.name}")
    chosen = evenly_spaced(len(found.samples), limit)
    samples = [found.samples[index] for index in chosen]
    array = _in_shape(decoded_samples(path, found, samples), inputs[0])
    labels_of = {
        output: np.asarray([sample.labels[output] for sample in samples]) for output in found.samples[0].labels
    }
    return {found.input.name: _for_input(array, inputs[0])}, labels_of, found.metrics


def _in_shape(array: Array, spec: TensorSpec) -> Array:
    """Axes of size 1 are added or left out where the model's input differs in nothing else."""
    same = [size for size in array.shape[1:] if size != 1] == [size for size in spec.sample_shape if size != 1]
    return array.reshape(len(array), *spec.sample_shape) if same else array


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


def _require_equal_counts(arrays: Mapping[str, Array], labels_of: Mapping[str, Array]) -> None:
    counts = {name: len(array) for name, array in arrays.items()}
    counts.update({f"{LABELS}/{output}".rstrip("/"): len(array) for output, array in labels_of.items()})
    for output, array in labels_of.items():
        if not np.isfinite(array).all():
            raise EvaluationSetError(f"expected finite labels; got NaN or infinity in {LABELS}/{output}".rstrip("/"))
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise EvaluationSetError(f"expected the same number of samples (at least 1) in every array; got {counts}")
