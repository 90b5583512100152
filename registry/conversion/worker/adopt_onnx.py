"""A ready `.onnx` becomes a trace: it is its own float file, and its own reference."""

import shutil

from registry.conversion.report import Report
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, installed_versions
from registry.conversion.worker.onnx_files import TRACED_FILE, read_model
from registry.conversion.worker.onnx_model import OnnxModel
from registry.conversion.worker.trace_files import Trace, trace_report, write_references

VERSIONS_OF = ("onnx", "onnxruntime", "numpy", "protobuf")


def run(job: Job) -> Report:
    assert job.source is not None
    read_model(job.source)
    target = job.output / TRACED_FILE
    shutil.copyfile(job.source, target)
    model = OnnxModel(target)
    evaluation = evaluation_of(job.evaluation_set, model.signature.inputs)
    trace = Trace(
        source_format="onnx",
        signature=model.signature,
        coreml_error="a ready .onnx cannot be converted to Core ML",
        onnx=TRACED_FILE,
        converter_versions=installed_versions(VERSIONS_OF),
    )
    measured = write_references(job, model.signature, evaluation, model.infer, {})
    return trace_report(job, measured.added_to(trace))
