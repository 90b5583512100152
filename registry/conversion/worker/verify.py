"""Loads a variant, runs it and compares it with its source. A conversion without an error proves nothing."""

import base64
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from registry.conversion.measures import evenly_spaced, parity, parity_misses
from registry.conversion.recipes import Recipe, recipe_named
from registry.conversion.report import Accuracy, Failure, HostLatency, Parity, Report, Signature
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, WorkerError, produced
from registry.conversion.worker.trace_files import (
    Reference,
    Trace,
    accuracy_of,
    affordable_samples,
    batched,
    read_golden,
)

Array = npt.NDArray[np.generic]

SANITY_FILE = "sanity.json"
SANITY_SAMPLES = 3
SANITY_TOLERANCE = 0.02
ESTIMATED = "estimated on Linux: evaluated from the program, without the Neural Engine's own rounding and fallbacks"
WARM_UP_RUNS = 5
TIMED_RUNS = 50


class Variant(Protocol):
    """A variant that runs: `stored` gives inputs in the file's own types, `infer` float32 outputs of one sample."""

    signature: Signature

    def stored(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...


def run(job: Job) -> Report:
    assert job.trace is not None
    recipe, trace = recipe_named(job.recipe), Trace.read(job.trace)
    variant = _load(job.output / recipe.entry, recipe, trace)
    golden, reference = read_golden(job.trace), Reference.read(job.trace)
    outputs = batched(variant.infer, golden)
    _require_finite(outputs)
    write_sanity(variant, golden, outputs, job.output / SANITY_FILE)
    found, measured, notes = parity(outputs, reference.golden), None, list[str]()
    measured_on_set = bool(trace.evaluation_samples and job.evaluation_set)
    if measured_on_set:
        found, measured, notes = _on_evaluation_set(job, trace, variant, reference, golden)
    misses = _misses(found, recipe, reference, on_evaluation_set=measured_on_set)
    return Report(
        state="parity_missed" if misses else "succeeded",
        files=(produced(job.output, job.output / SANITY_FILE, "sanity"),),
        parity=found,
        accuracy=measured,
        latency_host=latency(variant),
        signature=variant.signature,
        error=Failure("parity_missed", "; ".join(misses)) if misses else None,
        notes=(*notes, *((ESTIMATED,) if recipe.family == "coreml" else ())),
    )


def _on_evaluation_set(
    job: Job, trace: Trace, variant: Variant, reference: Reference, golden: Mapping[str, Array]
) -> tuple[Parity, Accuracy | None, list[str]]:
    """Parity and accuracy on the samples the source itself was run on, or on as many of them as time allows."""
    evaluation = evaluation_of(job.evaluation_set, trace.signature.inputs)
    assert evaluation is not None
    evaluation = evaluation.take(trace.evaluation_samples)
    limit = affordable_samples(variant.infer, golden)
    used, chosen = evaluation.take(limit), evenly_spaced(len(evaluation), limit)
    expected = {name: array[chosen] for name, array in reference.evaluation.items()}
    outputs = batched(variant.infer, used.inputs)
    _require_finite(outputs)
    few = len(used) < len(evaluation)
    notes = [f"evaluated on {len(used)} of {len(evaluation)} samples, to save time"] if few else []
    return parity(outputs, expected), accuracy_of(outputs, used, expected), notes


def _require_finite(outputs: Mapping[str, Array]) -> None:
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise WorkerError("not_finite", f"expected finite values in output {name!r}; got NaN or infinity")


def _load(path: Path, recipe: Recipe, trace: Trace) -> Any:
    # Imported where they are used: either runtime is large, and a variant needs one.
    if recipe.family == "coreml":
        from registry.conversion.worker.mil_interpreter import CoreMlModel  # noqa: PLC0415

        return CoreMlModel(path, trace.signature, recipe.parameters["specification_version"])
    from registry.conversion.worker.litert import LiteRtModel  # noqa: PLC0415

    return LiteRtModel(path, trace.signature)


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


def latency(variant: Any) -> HostLatency | None:
    """Percentiles over one thread; None for a variant this host cannot run at speed."""
    if not hasattr(variant, "invoke_us"):
        return None
    for _ in range(WARM_UP_RUNS):
        variant.invoke_us()
    times = [variant.invoke_us() for _ in range(TIMED_RUNS)]
    label = "x86, relative" if platform.machine() == "x86_64" else f"{platform.machine()}, relative"
    p50, p90 = (round(float(np.percentile(times, share))) for share in (50, 90))
    return HostLatency(p50, p90, TIMED_RUNS, 1, label)
