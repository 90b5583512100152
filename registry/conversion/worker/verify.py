"""Loads a variant, runs it and compares it with its source. A conversion without an error proves nothing."""

import base64
import filecmp
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from registry.conversion.measures import evenly_spaced, parity, parity_misses
from registry.conversion.recipes import Recipe, recipe_named
from registry.conversion.recipes.coreml import ios_of
from registry.conversion.report import Failure, HostLatency, Parity, Report, Signature
from registry.conversion.worker.footprint import Growth, compressed_bytes
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, produced
from registry.conversion.worker.latency import measured_latencies
from registry.conversion.worker.measured import Evaluated, evaluated
from registry.conversion.worker.progress import tell
from registry.conversion.worker.promises import require_compressed, require_signature, require_weights
from registry.conversion.worker.trace_files import (
    Reference,
    Trace,
    affordable_samples,
    batched,
    read_golden,
    require_sensible,
    require_stateless,
)
from registry.inspection.coreml_file import inspect_coreml
from registry.inspection.tflite_file import inspect_tflite

Array = npt.NDArray[np.generic]

SANITY_FILE = "sanity.json"
SANITY_SAMPLES = 3
SANITY_TOLERANCE = 0.02
ESTIMATED = "estimated on Linux: evaluated from the program, without the Neural Engine's own rounding and fallbacks"
WORTH_A_NOTE = 1.1


class Variant(Protocol):
    """A variant that runs: `stored` gives inputs in the file's own types, `infer` float32 outputs of one sample."""

    signature: Signature

    def stored(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...


def run(job: Job) -> Report:
    assert job.trace is not None
    recipe, trace = recipe_named(job.recipe), Trace.read(job.trace)
    entry = job.output / recipe.entry
    if trace.not_evaluated:
        return _unevaluated(entry, trace)
    require_weights(entry, recipe)
    require_compressed(_bytes_below(entry), _bytes_below(_float_file(job.trace, recipe, trace)), recipe)
    model_of = _runtime(recipe, trace)
    tell(job.scratch, "loading", 5)
    growth = Growth()
    variant = model_of(entry, trace.signature, recipe)
    require_signature(variant.signature, trace.signature, recipe)
    golden, reference = read_golden(job.trace), Reference.read(job.trace)
    outputs = batched(variant.infer, golden)
    # What an interpreter of Core ML on another system takes says nothing of a phone.
    memory_bytes = None if recipe.family == "coreml" else growth.grown_bytes()
    require_sensible(outputs)
    require_stateless(variant.infer, golden, outputs)
    write_sanity(variant, golden, outputs, job.output / SANITY_FILE)
    tell(job.scratch, "timing", 20)
    latencies, speed_ratio = _latencies(variant, job, recipe, trace, golden)
    tell(job.scratch, "evaluating", 40)
    with ThreadPoolExecutor(1) as pool:
        # Both take seconds for a large model, and neither needs the other's processor.
        compressed = pool.submit(compressed_bytes, _files_below(entry))
        found, measured, notes = _compared(job, trace, variant, reference, golden, outputs)
        compressed_size_bytes = compressed.result()
    on_set = measured is not None
    misses = _misses(found, recipe, reference, on_evaluation_set=on_set)
    accuracies = measured.accuracies if measured else ()
    return Report(
        state="parity_missed" if misses else "succeeded",
        files=(produced(job.output, job.output / SANITY_FILE, "sanity"),),
        parity=found,
        accuracy=next(iter(accuracies), None),
        accuracies=accuracies,
        outcomes=measured.outcomes if measured else None,
        latency_host=next(iter(latencies), None),
        latencies=latencies,
        speed_ratio=speed_ratio,
        compressed_size_bytes=compressed_size_bytes,
        inference_memory_bytes=memory_bytes,
        signature=variant.signature,
        min_runtime_version=getattr(variant, "min_runtime_version", ""),
        error=Failure("parity_missed", "; ".join(misses)) if misses else None,
        notes=(*notes, *_speed_notes(speed_ratio), *((ESTIMATED,) if recipe.family == "coreml" else ())),
    )


def _unevaluated(entry: Path, trace: Trace) -> Report:
    """A ready file that nothing here runs, published as it is: inspection is all the checking there is."""
    return Report(
        state="succeeded",
        signature=trace.signature,
        compressed_size_bytes=compressed_bytes(_files_below(entry)),
        min_runtime_version=ios_of(inspect_coreml(entry).details["specification_version"]),
        notes=(trace.not_evaluated,),
    )


def _speed_notes(speed_ratio: float | None) -> list[str]:
    slower = speed_ratio is not None and speed_ratio >= WORTH_A_NOTE
    return [f"slower than float32 on this host: {speed_ratio:.1f}×"] if slower else []


def _float_file(folder: Path, recipe: Recipe, trace: Trace) -> Path | None:
    """What the recipe's file is made from; None where the trace has none of its format."""
    name = {"tflite": trace.tflite, "coreml": trace.coreml, "onnx": trace.onnx}.get(recipe.family, "")
    return folder / name if name else None


def _bytes_below(entry: Path | None) -> int:
    return sum(path.stat().st_size for path in _files_below(entry)) if entry else 0


def _files_below(entry: Path) -> list[Path]:
    return sorted(path for path in entry.rglob("*") if path.is_file()) if entry.is_dir() else [entry]


def _compared(
    job: Job,
    trace: Trace,
    variant: Variant,
    reference: Reference,
    golden: Mapping[str, Array],
    outputs: Mapping[str, Array],
) -> tuple[Parity, Evaluated | None, list[str]]:
    """Parity and accuracies on the samples the source itself was run on, or on as many of them as time allows.

    On the golden samples, and without accuracies, where there is no evaluation set.
    """
    evaluation = evaluation_of(job.evaluation_set, trace.signature.inputs) if trace.evaluation_samples else None
    if evaluation is None:
        return parity(outputs, reference.golden), None, []
    evaluation = evaluation.take(trace.evaluation_samples)
    limit = affordable_samples(variant.infer, golden)
    used, chosen = evaluation.take(limit), evenly_spaced(len(evaluation), limit)
    expected = {name: array[chosen] for name, array in reference.evaluation.items()}
    outputs = batched(variant.infer, used.inputs)
    require_sensible(outputs)
    few = len(used) < len(evaluation)
    notes = [f"evaluated on {len(used)} of {len(evaluation)} samples, to save time"] if few else []
    return parity(outputs, expected), evaluated(outputs, used, expected), notes


def _latencies(
    variant: Any, job: Job, recipe: Recipe, trace: Trace, golden: Mapping[str, Array]
) -> tuple[tuple[HostLatency, ...], float | None]:
    """Nothing for a variant that this host cannot run at speed."""
    if not hasattr(variant, "invoke_at"):
        return (), None
    first = {name: array[:1] for name, array in golden.items()}
    return measured_latencies(variant, _float32(job, recipe, trace), first)


def _float32(job: Job, recipe: Recipe, trace: Trace) -> Any:
    """The same version's float32 file, to time beside the variant; None where there is none, or this is its copy."""
    assert job.trace is not None
    if recipe.family == "onnx":
        return _float32_onnx(job.trace / trace.onnx, job.output / recipe.entry, trace)
    path = job.trace / trace.tflite
    if not trace.tflite or inspect_tflite(path).details["precision"] != "float32":
        return None
    entry = job.output / recipe.entry
    if entry.is_file() and filecmp.cmp(path, entry, shallow=False):
        return None
    from registry.conversion.worker.litert import LiteRtModel  # noqa: PLC0415

    return LiteRtModel(path, trace.signature)


def _float32_onnx(path: Path, entry: Path, trace: Trace) -> Any:
    from registry.conversion.worker.onnx_model import OnnxModel  # noqa: PLC0415

    return None if filecmp.cmp(path, entry, shallow=False) else OnnxModel(path, trace.signature)


def _runtime(recipe: Recipe, trace: Trace) -> Callable[[Path, Signature, Recipe], Any]:
    # Imported where they are used: either runtime is large, and a variant needs one.
    if recipe.family == "coreml":
        from registry.conversion.worker.mil_interpreter import CoreMlModel  # noqa: PLC0415

        # A ready package keeps its own version where that is newer than the recipe's.
        wanted = 0 if trace.source_format == "coreml" else recipe.parameters["specification_version"]
        return lambda path, _names, _recipe: CoreMlModel(path, None, wanted)
    if recipe.family == "onnx":
        from registry.conversion.worker.onnx_model import OnnxModel  # noqa: PLC0415

        return lambda path, names, _recipe: OnnxModel(path, names)
    from registry.conversion.worker.litert import LiteRtModel  # noqa: PLC0415

    return lambda path, names, _recipe: LiteRtModel(path, names)


def _misses(found: Parity, recipe: Recipe, reference: Reference, *, on_evaluation_set: bool) -> list[str]:
    compared = reference.evaluation if on_evaluation_set else reference.golden
    magnitude = max(float(np.abs(array).max()) for array in compared.values())
    return parity_misses(found, recipe.parity, magnitude=magnitude, on_evaluation_set=on_evaluation_set)


def write_sanity(variant: Variant, golden: Mapping[str, Array], outputs: Mapping[str, Array], path: Path) -> None:
    """What a phone runs before it activates the variant: inputs in the file's own types, float32 outputs."""
    count = min(SANITY_SAMPLES, len(next(iter(golden.values()))))
    samples = [
        {
            "inputs": _encoded(variant.stored({name: array[i : i + 1] for name, array in golden.items()})),
            "outputs": _encoded({o.name: outputs[o.name][i].reshape(o.shape) for o in variant.signature.outputs}),
        }
        for i in range(count)
    ]
    document = {"tolerance": sanity_tolerance(outputs), "samples": samples}
    path.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n", "utf-8")


def sanity_tolerance(outputs: Mapping[str, Array]) -> str:
    """Largest absolute difference a phone may find, a decimal: 0.02, times the largest output where that exceeds 1.

    Wide enough for delegates that compute in float16, narrow enough to catch wrong weights or a wrong input order.
    """
    magnitude = max(float(np.abs(array).max()) for array in outputs.values())
    return f"{SANITY_TOLERANCE * max(1.0, magnitude):.4f}".rstrip("0").rstrip(".")


def _encoded(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Little-endian, C order."""
    return {
        name: {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "data": base64.b64encode(
                np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
            ).decode(),
        }
        for name, array in arrays.items()
    }
