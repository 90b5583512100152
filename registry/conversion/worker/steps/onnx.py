"""Steps of the `onnx` family: each writes the recipe's file into the job's output."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from registry.conversion.recipes import Recipe
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.onnx_files import read_model, write_model
from registry.conversion.worker.progress import tell
from registry.conversion.worker.trace_files import Trace

VERSIONS_OF = ("onnx", "onnxruntime", "numpy", "protobuf")
# Names, shapes and operations stay as large as they are, whatever the weights shrink to.
GRAPH_BYTES = 64 * 1024
LEFT_AS_IT_WAS = 0.95


def copy_onnx(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    shutil.copyfile(_traced(job, trace), job.output / recipe.entry)
    return ()


def quantise_dynamically(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 0.5 s that copying does without

    def quantise(source: Path, target: Path) -> None:
        weights = QuantType[recipe.parameters["weights"]]
        quantize_dynamic(source, target, per_channel=recipe.parameters["per_channel"], weight_type=weights)

    return _quantised(job, recipe, trace, quantise)


def quantise_statically(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    """Weights and activations, the latter by their smallest and largest values over the calibration samples."""
    from onnxruntime import quantization  # noqa: PLC0415

    samples = _calibration_samples(job, recipe, trace)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(samples, None)

    def quantise(source: Path, target: Path) -> None:
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=recipe.parameters["per_channel"],
            weight_type=quantization.QuantType[recipe.parameters["weights"]],
            activation_type=quantization.QuantType[recipe.parameters["activations"]],
            calibrate_method=quantization.CalibrationMethod.MinMax,
            calibration_providers=["CPUExecutionProvider"],
        )

    tell(job.scratch, "calibrating", 20)
    return _quantised(job, recipe, trace, quantise)


def _quantised(job: Job, recipe: Recipe, trace: Trace, quantise: Callable[[Path, Path], None]) -> tuple[str, ...]:
    # It advises a preparation, on the root logger, of which a file without dynamic shapes has nothing to gain.
    logging.getLogger().setLevel(logging.ERROR)
    target, made = job.output / recipe.entry, job.scratch / "quantised.onnx"
    # It writes beside the file it reads.
    source = Path(shutil.copyfile(_traced(job, trace), job.scratch / "source.onnx"))
    try:
        quantise(source, made)
    except Exception as error:  # the quantiser raises whatever its passes raise
        raise WorkerError(
            "quantiser_refused", f"expected a model ONNX Runtime quantises; got {error}"[:2000]
        ) from error
    tell(job.scratch, "checking", 80)
    model = read_model(made)
    write_model(model, target)
    return _size_notes(source.stat().st_size, target.stat().st_size, recipe)


def _calibration_samples(job: Job, recipe: Recipe, trace: Trace) -> Iterator[dict[str, Any]]:
    evaluation = evaluation_of(job.evaluation_set, trace.signature.inputs)
    if evaluation is None:
        raise WorkerError("no_evaluation_set", "expected an evaluation set to calibrate on; got none")
    chosen = evaluation.take(recipe.parameters["calibration_samples"])
    specs = {spec.name: spec for spec in trace.signature.inputs}
    return iter(
        [
            {
                name: array[i].reshape(specs[name].shape).astype(specs[name].dtype)
                for name, array in chosen.inputs.items()
            }
            for i in range(len(chosen))
        ]
    )


def _traced(job: Job, trace: Trace) -> Path:
    assert job.trace is not None
    if not trace.onnx:
        raise WorkerError("no_onnx", "expected the trace to hold an ONNX file; got none")
    return job.trace / trace.onnx


def _size_notes(before: int, after: int, recipe: Recipe) -> tuple[str, ...]:
    """Raises WorkerError for a file that was silently left as it was; a note when part of it was."""
    if before >= GRAPH_BYTES and after > LEFT_AS_IT_WAS * before:
        raise WorkerError("not_compressed", f"expected a file well below {before} bytes; got {after}")
    expected = round(recipe.expected_size_ratio * before) + GRAPH_BYTES
    if after <= expected:
        return ()
    return (f"expected at most {expected} bytes of {before}, got {after}: some layers were not quantised",)


STEPS: Mapping[str, Callable[[Job, Recipe, Trace], tuple[str, ...]]] = MappingProxyType(
    {"copy_onnx": copy_onnx, "quantise_dynamically": quantise_dynamically, "quantise_statically": quantise_statically}
)
