"""The trace behind the onnx family: the same function as an ONNX file of float32, by tf2onnx."""

import logging
from dataclasses import replace
from typing import Any

from registry.conversion.report import Report, Signature
from registry.conversion.worker.job import Job, WorkerError, installed_versions
from registry.conversion.worker.onnx_files import TRACED_FILE, canonical, require_standard, write_model
from registry.conversion.worker.progress import tell
from registry.conversion.worker.source_model import traced
from registry.conversion.worker.trace_files import Trace, trace_report

# The newest set of operations that tf2onnx writes; every ONNX Runtime since 1.14 runs it.
OPSET = 18
VERSIONS_OF = ("tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "numpy", "protobuf")


def run(job: Job) -> Report:
    assert job.trace is not None
    main = Trace.read(job.trace)
    made = traced(job)
    tell(job.scratch, "converting", 50)
    write_model(canonical(convert(made.function, main.signature)), job.output / TRACED_FILE)
    return trace_report(job, replace(main, onnx=TRACED_FILE, converter_versions=installed_versions(VERSIONS_OF)))


class _Traced:
    """tf2onnx asks a function for its concrete one; this one was made already, with every name in it."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def get_concrete_function(self, *_: Any) -> Any:
        return self._function


def convert(function: Any, signature: Signature) -> Any:
    """An ONNX model with the signature's names. Raises WorkerError naming what ONNX cannot express."""
    import tf2onnx  # noqa: PLC0415 the extra is optional, and its absence a reason of its own

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    try:
        model, _ = tf2onnx.convert.from_function(_Traced(function), input_signature=(), opset=OPSET)
    except Exception as error:
        raise WorkerError("onnx_conversion", f"ONNX cannot express this model: {error}"[:2000]) from error
    require_standard(model)
    _require_named(model, signature)
    return model


def _require_named(model: Any, signature: Signature) -> None:
    for side, values, specs in (
        ("inputs", model.graph.input, signature.inputs),
        ("outputs", model.graph.output, signature.outputs),
    ):
        got, wanted = sorted(value.name for value in values), sorted(spec.name for spec in specs)
        if got != wanted:
            raise WorkerError("onnx_conversion", f"expected {side} {wanted}; got {got}")
