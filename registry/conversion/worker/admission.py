"""The last look at a source before a runtime opens it, and before TensorFlow costs its six seconds and 600 MB."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from registry.conversion.worker.confine import Isolation
from registry.conversion.worker.job import Job, WorkerError
from registry.inspection.coreml_file import inspect_coreml
from registry.inspection.errors import InspectionError
from registry.inspection.keras_file import inspect_keras
from registry.inspection.onnx_file import inspect_onnx
from registry.inspection.saved_model import inspect_saved_model
from registry.inspection.source import SourceInspection
from registry.inspection.tflite_file import inspect_tflite

INSPECTORS: Mapping[str, Callable[[Path], SourceInspection]] = MappingProxyType(
    {
        "tflite": inspect_tflite,
        "keras": inspect_keras,
        "saved_model": inspect_saved_model,
        "coreml": inspect_coreml,
        "onnx": inspect_onnx,
    }
)


def admit(job: Job, isolation: Isolation) -> None:
    """Raises WorkerError for a source that must not be loaded. What was inspected at upload may not be what is here."""
    if job.source is None:
        return
    if job.source_format == "saved_model" and not isolation.complete:
        raise WorkerError("no_isolation", "expected isolation for a SavedModel, which is code; " + _joined(isolation))
    try:
        _inspect(job)
    except (InspectionError, OSError) as error:
        raise WorkerError(getattr(error, "code", "unreadable_source"), str(error)) from error


def _joined(isolation: Isolation) -> str:
    return "; ".join(isolation.notes)


def _inspect(job: Job) -> None:
    assert job.source is not None
    INSPECTORS[job.source_format](job.source)
    if job.source_format == "keras":
        # Late import: HDF5 comes with Keras, and neither is there where only ready files are adopted.
        from registry.conversion.worker.keras_weights import require_plain_weights  # noqa: PLC0415

        require_plain_weights(job.source, job.scratch)
