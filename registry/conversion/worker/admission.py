"""The last look at a source before a runtime opens it, and before TensorFlow costs its six seconds and 600 MB."""

from registry.conversion.worker.confine import Isolation
from registry.conversion.worker.job import Job, WorkerError
from registry.inspection.errors import InspectionError
from registry.inspection.keras_file import inspect_keras
from registry.inspection.saved_model import GRAPH_FILE, allowed_operations, inspect_saved_model
from registry.inspection.tflite_file import inspect_tflite


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
    if job.source_format == "tflite":
        inspect_tflite(job.source)
    elif job.source_format == "keras":
        inspect_keras(job.source)
        # Late import: HDF5 comes with Keras, and neither is there where only ready files are adopted.
        from registry.conversion.worker.keras_weights import require_plain_weights  # noqa: PLC0415

        require_plain_weights(job.source, job.scratch)
    elif job.source.is_dir():
        allowed_operations(memoryview((job.source / GRAPH_FILE).read_bytes()))
    else:
        inspect_saved_model(job.source)
