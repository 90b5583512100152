"""Steps of the `tflite` family: each writes the recipe's entry into the job's output."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from registry.conversion.recipes import Recipe
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.trace_files import Trace
from registry.inspection.tflite_file import inspect_tflite

VERSIONS_OF = ("ai-edge-quantizer", "ai-edge-litert", "numpy")
# A model's tables (names, shapes, operators) stay as large as they are, whatever its weights shrink to.
TABLES_BYTES = 16 * 1024
LEFT_AS_IT_WAS = 0.95


def copy_tflite(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    assert job.trace is not None
    shutil.copyfile(job.trace / trace.tflite, job.output / recipe.entry)
    return ()


def publish_as_is(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    if trace.source_format != "tflite":
        raise WorkerError("not_applicable", f"expected a ready .tflite source; got {trace.source_format}")
    return copy_tflite(job, recipe, trace)


def quantise_tflite(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    from ai_edge_quantizer import quantizer  # noqa: PLC0415 0.7 s that copying does without

    assert job.trace is not None
    source = job.trace / trace.tflite
    precision = inspect_tflite(source).details["precision"]
    if precision != "float32":
        # The quantiser would take it, warn, and change nothing or the wrong half.
        raise WorkerError("not_applicable", f"expected a source of float32 weights; got {precision}")
    tool = quantizer.Quantizer(str(source))
    settings = {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": recipe.parameters["algorithm"],
        "op_config": {**recipe.parameters["config"], "skip_checks": False, "min_weight_elements": 0},
    }
    try:
        tool.load_quantization_recipe([settings])
        ranges = _calibrated(job, recipe, trace, [settings]) if recipe.needs_calibration else None
        quantised = bytes(tool.quantize(ranges).quantized_model)
    except (ValueError, RuntimeError, KeyError, TypeError, NotImplementedError) as error:
        raise WorkerError(
            "quantiser_refused", f"expected a model ai-edge-quantizer takes; got {error}"[:2000]
        ) from error
    (job.output / recipe.entry).write_bytes(quantised)
    return size_notes(source.stat().st_size, len(quantised), recipe)


def size_notes(source_bytes: int, variant_bytes: int, recipe: Recipe) -> tuple[str, ...]:
    """Raises WorkerError for a file that was silently left uncompressed; a note when part of it was."""
    if source_bytes >= TABLES_BYTES and variant_bytes > LEFT_AS_IT_WAS * source_bytes:
        got = f"{variant_bytes} bytes from {source_bytes}"
        raise WorkerError("not_compressed", f"expected a file well below the float32 one; got {got}")
    expected = round(recipe.expected_size_ratio * source_bytes) + TABLES_BYTES
    if variant_bytes <= expected:
        return ()
    return (
        f"expected at most {expected} bytes of {source_bytes}, got {variant_bytes}: some layers were not quantised",
    )


def _calibrated(job: Job, recipe: Recipe, trace: Trace, settings: list[dict[str, Any]]) -> Any:
    """Smallest and largest activations over at most `calibration_samples` evenly spaced samples.

    The quantiser's own default is a moving average over the samples, which depends on their order and cuts off what
    the last ones did not reach: a model of sin(x) calibrated on ascending x was wrong by 1.0 that way.
    """
    from ai_edge_quantizer import calibrator, recipe_manager  # noqa: PLC0415
    from ai_edge_quantizer.utils import qsv_utils  # noqa: PLC0415

    assert job.trace is not None
    path = job.trace / trace.tflite
    samples = _calibration_samples(job, recipe, trace)
    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(settings)
    tool = calibrator.Calibrator(str(path), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    tool.calibrate({_signature_key(path, trace): samples}, rules)
    return tool.get_model_qsvs()


def _calibration_samples(job: Job, recipe: Recipe, trace: Trace) -> list[dict[str, Any]]:
    evaluation = evaluation_of(job.evaluation_set, trace.signature.inputs)
    if evaluation is None:
        raise WorkerError("no_evaluation_set", "expected an evaluation set to calibrate on; got none")
    chosen = evaluation.take(recipe.parameters["calibration_samples"])
    shapes = {spec.name: spec.shape for spec in trace.signature.inputs}
    rows = range(len(chosen))
    return [{name: array[i].reshape(shapes[name]) for name, array in chosen.inputs.items()} for i in rows]


def _signature_key(path: Path, trace: Trace) -> str:
    from registry.conversion.worker.litert import LiteRtModel  # noqa: PLC0415

    key = LiteRtModel(path, trace.signature).signature_key
    if not key:
        raise WorkerError(
            "no_signature", "expected a .tflite with a signature, by which calibration names inputs; got none"
        )
    return key


STEPS: Mapping[str, Callable[[Job, Recipe, Trace], tuple[str, ...]]] = MappingProxyType(
    {"copy_tflite": copy_tflite, "publish_as_is": publish_as_is, "quantise_tflite": quantise_tflite}
)
