"""A ready `.tflite` becomes a trace: it is its own float file, and its own reference.

Where LiteRT would refuse it for a defect that can be mended, the mended file takes that part.
"""

import shutil
from pathlib import Path

from registry.conversion.report import Report
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, WorkerError, installed_versions
from registry.conversion.worker.litert import LiteRtModel
from registry.conversion.worker.trace_files import Trace, trace_report, write_references
from registry.inspection.tflite_file import inspect_tflite
from registry.inspection.tflite_repair import repaired_axes

TFLITE_FILE = "source.tflite"
VERSIONS_OF = ("ai-edge-litert", "numpy")


def run(job: Job) -> Report:
    assert job.source is not None
    warnings = inspect_tflite(job.source).details["warnings"]
    target = job.output / TFLITE_FILE
    if warnings:
        target.write_bytes(repaired_axes(job.source))
    else:
        shutil.copyfile(job.source, target)
    model = _loaded(target, warnings)
    evaluation = evaluation_of(job.evaluation_set, model.signature.inputs)
    trace = Trace(
        source_format="tflite",
        signature=model.signature,
        tflite=TFLITE_FILE,
        coreml_error="a ready .tflite cannot be converted to Core ML",
        converter_versions=installed_versions(VERSIONS_OF),
    )
    measured = write_references(job, model.signature, evaluation, model.infer, {})
    return trace_report(job, measured.added_to(trace))


def _loaded(path: Path, warnings: list[str]) -> LiteRtModel:
    try:
        return LiteRtModel(path)
    except WorkerError as error:
        raise WorkerError(error.code, "; ".join([*warnings, error.detail])) from error
