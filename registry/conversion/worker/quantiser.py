"""ai-edge-quantizer, told by a recipe's parameters what to do with a float32 `.tflite`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.conversion.recipes import Recipe
from registry.conversion.worker import progress
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.refusals import quantiser_refusal
from registry.conversion.worker.tflite_packing import self_contained
from registry.conversion.worker.trace_files import Trace
from registry.inspection.tflite_file import inspect_tflite

# How often calibration tells how far it is; each time also draws the quantiser's own bar into the log.
CALIBRATION_PARTS = 4


def quantised(source: Path, job: Job, recipe: Recipe, trace: Trace) -> bytes:
    """The quantised file's bytes. Raises WorkerError for a source, or a calibration set, it cannot be done with."""
    from ai_edge_quantizer import quantizer  # noqa: PLC0415 0.7 s that copying does without

    precision = inspect_tflite(source).details["precision"]
    if precision != "float32":
        # The quantiser would take it, warn, and change nothing or the wrong half.
        raise WorkerError("not_applicable", f"expected a source of float32 weights; got {precision}")
    rules = _rules(recipe.parameters)
    try:
        tool = quantizer.Quantizer(str(source))
        tool.load_quantization_recipe(rules)
        ranges = _calibrated(source, job, recipe, trace, rules) if recipe.needs_calibration else None
        progress.tell(job.scratch, "quantising", 60)
        return self_contained(bytes(tool.quantize(ranges).quantized_model))
    except WorkerError:
        raise
    except Exception as error:
        raise WorkerError("quantiser_refused", quantiser_refusal(error)) from error


def _rules(parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
    everywhere = {"operation": "*", "algorithm": parameters["algorithm"], "config": parameters["config"]}
    return [_rule(entry) for entry in (everywhere, *parameters.get("exceptions", ()))]


def _rule(entry: Mapping[str, Any]) -> dict[str, Any]:
    rule = {"regex": ".*", "operation": entry["operation"], "algorithm_key": entry["algorithm"]}
    if not entry["config"]:
        return rule
    return {**rule, "op_config": {**entry["config"], "skip_checks": False, "min_weight_elements": 0}}


def _calibrated(source: Path, job: Job, recipe: Recipe, trace: Trace, rules: list[dict[str, Any]]) -> Any:
    """Smallest and largest activations over at most `calibration_samples` evenly spaced samples.

    The quantiser's own default is a moving average over the samples, which depends on their order and cuts off what
    the last ones did not reach: a model of sin(x) calibrated on ascending x was wrong by 1.0 that way.
    """
    from ai_edge_quantizer import calibrator, recipe_manager  # noqa: PLC0415
    from ai_edge_quantizer.utils import qsv_utils  # noqa: PLC0415

    samples, key = _calibration_samples(job, recipe, trace), _signature_key(source, trace)
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(rules)
    tool = calibrator.Calibrator(str(source), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    size = -(-len(samples) // CALIBRATION_PARTS)
    for start in range(0, len(samples), size):
        progress.tell(job.scratch, "calibrating", 50 * start // len(samples))
        tool.calibrate({key: samples[start : start + size]}, manager)
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
