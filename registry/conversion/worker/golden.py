"""Golden inputs: the few samples every variant is run on, with or without an evaluation set."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from registry.conversion.evaluation_set import EvaluationSet, EvaluationSetError, load_evaluation_set
from registry.conversion.report import TensorSpec
from registry.conversion.worker.job import WorkerError
from registry.inspection.errors import InspectionError

Array = npt.NDArray[np.generic]
Ranges = Mapping[str, tuple[float, float]]

GOLDEN_SAMPLES = 8
UNIT_RANGE = (0.0, 1.0)


def golden_inputs(specs: Sequence[TensorSpec], evaluation: EvaluationSet | None, ranges: Ranges) -> dict[str, Array]:
    """Input name -> (GOLDEN_SAMPLES or fewer, …): spread over the evaluation set, or seeded noise in `ranges`."""
    if evaluation is not None:
        return dict(evaluation.take(GOLDEN_SAMPLES).inputs)
    return {spec.name: noise(spec, ranges.get(spec.name)) for spec in specs}


def noise(spec: TensorSpec, bounds: tuple[float, float] | None) -> Array:
    """Uniform values, the same for the same input name, shape and type on every run.

    Without bounds: 0..1 for floats and plain integers, the whole range of the type for quantised inputs.
    """
    seed = hashlib.sha256(f"{spec.name} {spec.shape} {spec.dtype}".encode()).digest()
    generator = np.random.default_rng(np.frombuffer(seed, np.uint32))
    shape = (GOLDEN_SAMPLES, *spec.sample_shape)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        whole = (np.iinfo(dtype).min, np.iinfo(dtype).max) if spec.quantization or dtype.itemsize == 1 else UNIT_RANGE
        low, high = bounds or whole
        return generator.integers(int(low), int(high), shape, endpoint=True, dtype=np.int64).astype(dtype)
    low, high = bounds or UNIT_RANGE
    return generator.uniform(low, high, shape).astype(dtype)


def evaluation_of(path: Path | None, specs: Sequence[TensorSpec]) -> EvaluationSet | None:
    """The evaluation set, or None without one. Raises WorkerError when it does not fit the model."""
    if path is None:
        return None
    try:
        return load_evaluation_set(path, specs)
    except (EvaluationSetError, InspectionError) as error:
        raise WorkerError("bad_evaluation_set", str(error)) from error
