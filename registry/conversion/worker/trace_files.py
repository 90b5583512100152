"""The files of a trace, read by every later step. See docs/conversion.md for the layout."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from registry.conversion.evaluation_set import EvaluationSet
from registry.conversion.measures import accuracy, scores_over_classes
from registry.conversion.report import Accuracy, Report, Signature
from registry.conversion.worker.golden import Ranges, golden_inputs
from registry.conversion.worker.job import Job, WorkerError, produced_below

Array = npt.NDArray[np.generic]
Infer = Callable[[Mapping[str, Array]], dict[str, Array]]

TRACE_FILE = "trace.json"
GOLDEN_FILE = "golden.npz"
REFERENCE_FILE = "reference.npz"


@dataclass(frozen=True)
class Trace:
    """What the source turned into. `tflite` and `coreml` are paths relative to the trace's directory, or empty."""

    source_format: str
    signature: Signature
    tflite: str = ""
    coreml: str = ""
    coreml_error: str = ""
    source_accuracy: Accuracy | None = None
    has_evaluation_set: bool = False
    converter_versions: Mapping[str, str] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False)
        (directory / TRACE_FILE).write_text(text + "\n", "utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Trace":
        data: dict[str, Any] = json.loads((directory / TRACE_FILE).read_text("utf-8"))
        data["signature"] = Signature.from_json(data["signature"])
        data["source_accuracy"] = Accuracy(**data["source_accuracy"]) if data["source_accuracy"] else None
        return cls(**data)


@dataclass(frozen=True)
class Reference:
    """The source's own outputs, float32, output name -> (samples, …). `evaluation` is empty without a set."""

    golden: Mapping[str, Array]
    evaluation: Mapping[str, Array]

    @classmethod
    def read(cls, directory: Path) -> "Reference":
        with np.load(directory / REFERENCE_FILE, allow_pickle=False) as archive:
            parts: dict[str, dict[str, Array]] = {"golden": {}, "evaluation": {}}
            for key in archive.files:
                part, _, name = key.partition("/")
                parts[part][name] = archive[key]
        return cls(**parts)


def read_golden(directory: Path) -> dict[str, Array]:
    with np.load(directory / GOLDEN_FILE, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def batched(infer: Infer, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run a model of batch 1 over (samples, …) arrays, one sample at a time."""
    count = len(next(iter(inputs.values())))
    rows = [infer({name: array[index : index + 1] for name, array in inputs.items()}) for index in range(count)]
    return {name: np.stack([_sample(row[name]) for row in rows]) for name in rows[0]}


def _sample(output: Array) -> Array:
    return output[0] if output.shape[:1] == (1,) else output


def write_references(
    job: Job, signature: Signature, evaluation: EvaluationSet | None, infer: Infer, ranges: Ranges
) -> Accuracy | None:
    """Golden inputs and what the source itself makes of them and of the evaluation set; its accuracy, if labelled."""
    golden = golden_inputs(signature.inputs, evaluation, ranges)
    on_golden = batched(infer, golden)
    _require_sensible(on_golden)
    on_evaluation = batched(infer, evaluation.inputs) if evaluation else {}
    np.savez(job.output / GOLDEN_FILE, **golden)
    named = {f"golden/{name}": array for name, array in on_golden.items()}
    np.savez(job.output / REFERENCE_FILE, **named, **{f"evaluation/{name}": a for name, a in on_evaluation.items()})
    return accuracy_of(on_evaluation, evaluation, on_evaluation) if evaluation else None


def _require_sensible(outputs: Mapping[str, Array]) -> None:
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise WorkerError("source_not_finite", f"expected finite values in output {name!r}; got NaN or infinity")


def accuracy_of(
    outputs: Mapping[str, Array], evaluation: EvaluationSet, reference: Mapping[str, Array]
) -> Accuracy | None:
    """Accuracy of the first output that scores classes; None without labels or such an output."""
    if evaluation.labels is None:
        return None
    name = next((name for name in reference if scores_over_classes(reference[name])), None)
    if name is None:
        return None
    return accuracy(outputs[name], evaluation.labels, reference[name])


def trace_report(job: Job, trace: Trace, notes: tuple[str, ...] = ()) -> Report:
    trace.write(job.output)
    return Report(
        state="succeeded",
        files=produced_below(job.output, job.output, "trace"),
        entry=TRACE_FILE,
        converter_versions=trace.converter_versions,
        accuracy=trace.source_accuracy,
        signature=trace.signature,
        notes=notes,
    )
