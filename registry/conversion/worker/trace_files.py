"""The files of a trace, read by every later step. See docs/conversion.md for the layout."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from registry.conversion.evaluation_set import REFERENCE_SAMPLES, EvaluationSet
from registry.conversion.report import Accuracy, Report, Signature
from registry.conversion.worker.golden import GOLDEN_SAMPLES, Ranges, golden_inputs
from registry.conversion.worker.job import Job, WorkerError, produced_below
from registry.conversion.worker.measured import evaluated

Array = npt.NDArray[np.generic]
Infer = Callable[[Mapping[str, Array]], dict[str, Array]]

TRACE_FILE = "trace.json"
GOLDEN_FILE = "golden.npz"
REFERENCE_FILE = "reference.npz"
EVALUATION_SECONDS = 60.0
NOT_FINITE, SOURCE_NOT_FINITE = "not_finite", "source_not_finite"
SAME_OUTPUT = 1e-4


@dataclass(frozen=True)
class Trace:
    """What the source turned into. `tflite`, `coreml` and `onnx` are paths relative to the trace's folder, or empty.

    `not_evaluated` says why nothing here can run the source; the trace then has no samples and no references.
    """

    source_format: str
    signature: Signature
    tflite: str = ""
    coreml: str = ""
    coreml_error: str = ""
    onnx: str = ""
    not_evaluated: str = ""
    source_accuracy: Accuracy | None = None
    source_accuracies: tuple[Accuracy, ...] = ()
    evaluation_samples: int = 0
    converter_versions: Mapping[str, str] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False)
        (directory / TRACE_FILE).write_text(text + "\n", "utf-8")

    @classmethod
    def read(cls, directory: Path) -> "Trace":
        data: dict[str, Any] = json.loads((directory / TRACE_FILE).read_text("utf-8"))
        data["signature"] = Signature.from_json(data["signature"])
        data["source_accuracy"] = Accuracy(**data["source_accuracy"]) if data["source_accuracy"] else None
        data["source_accuracies"] = tuple(Accuracy(**found) for found in data.get("source_accuracies", ()))
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


def affordable_samples(infer: Infer, inputs: Mapping[str, Array]) -> int:
    """How many samples fit into EVALUATION_SECONDS, by the time of one; at least as many as there are golden ones.

    The first run is not timed: it still plans, packs weights and fills caches.
    """
    one = {name: array[:1] for name, array in inputs.items()}
    infer(one)
    started = time.perf_counter()
    infer(one)
    seconds = time.perf_counter() - started
    return max(GOLDEN_SAMPLES, min(REFERENCE_SAMPLES, int(EVALUATION_SECONDS / max(seconds, 1e-9))))


@dataclass(frozen=True)
class Measured:
    """What the source made of the evaluation set: how many of its samples were run, and the accuracies if labelled."""

    evaluation_samples: int = 0
    accuracies: tuple[Accuracy, ...] = ()

    def added_to(self, trace: Trace) -> Trace:
        return replace(
            trace,
            evaluation_samples=self.evaluation_samples,
            source_accuracy=next(iter(self.accuracies), None),
            source_accuracies=self.accuracies,
        )


def write_references(
    job: Job, signature: Signature, evaluation: EvaluationSet | None, infer: Infer, ranges: Ranges
) -> Measured:
    """Write golden inputs, and what the source itself makes of them and of the evaluation set."""
    golden = golden_inputs(signature.inputs, evaluation, ranges)
    on_golden = batched(infer, golden)
    require_sensible(on_golden, SOURCE_NOT_FINITE)
    require_stateless(infer, golden, on_golden)
    _save(job.output / GOLDEN_FILE, golden)
    named = {f"golden/{name}": array for name, array in on_golden.items()}
    measured = Measured()
    if evaluation is not None:
        used = evaluation.take(affordable_samples(infer, golden))
        outputs = batched(infer, used.inputs)
        require_sensible(outputs, SOURCE_NOT_FINITE)
        named.update({f"evaluation/{name}": array for name, array in outputs.items()})
        measured = Measured(len(used), evaluated(outputs, used, outputs).accuracies)
    _save(job.output / REFERENCE_FILE, named)
    return measured


def _save(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def require_sensible(outputs: Mapping[str, Array], not_finite: str = NOT_FINITE) -> None:
    """Raises WorkerError for outputs that hold nothing, or NaN or infinity."""
    for name, array in outputs.items():
        if array.size == 0:
            raise WorkerError("empty_output", f"expected values in output {name!r}; got shape {array.shape[1:]}")
        if not np.isfinite(array).all():
            raise WorkerError(not_finite, f"expected finite values in output {name!r}; got NaN or infinity")


def require_stateless(infer: Infer, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
    """Raises WorkerError where the first sample, run again after the others, gives something else.

    A model that keeps state between inferences, or draws random numbers, has no outputs to be compared by.
    """
    again = infer({name: array[:1] for name, array in inputs.items()})
    for name, array in outputs.items():
        before = array[0].astype(np.float64)
        difference = float(np.abs(again[name].reshape(before.shape) - before).max())
        if difference > SAME_OUTPUT * max(1.0, float(np.abs(before).max())):
            expected = f"expected the same output {name!r} of the same inputs"
            raise WorkerError("stateful", f"{expected}; got a difference of {difference:g}: the model keeps state")


def trace_report(job: Job, trace: Trace, notes: tuple[str, ...] = ()) -> Report:
    trace.write(job.output)
    return Report(
        state="succeeded",
        files=produced_below(job.output, job.output, "trace"),
        entry=TRACE_FILE,
        converter_versions=trace.converter_versions,
        accuracy=trace.source_accuracy,
        accuracies=trace.source_accuracies,
        signature=trace.signature,
        notes=notes,
    )
