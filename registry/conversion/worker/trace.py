"""The main trace: a Keras file or a SavedModel becomes the files that variants are made from, and its own reference."""

from registry.conversion.report import Report, Signature
from registry.conversion.worker.float_files import COREML_PACKAGE, TFLITE_FILE, write_float_files
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, installed_versions
from registry.conversion.worker.progress import tell
from registry.conversion.worker.source_model import inference_of, outputs_of, traced
from registry.conversion.worker.trace_files import Trace, trace_report, write_references

VERSIONS_OF = ("tensorflow", "tensorflow-cpu", "keras", "coremltools", "numpy", "protobuf")


def run(job: Job) -> Report:
    made = traced(job)
    source, function = made.source, made.function
    signature = Signature(source.inputs, outputs_of(function))
    evaluation = evaluation_of(job.evaluation_set, source.inputs)
    tell(job.scratch, "converting", 50)
    coreml_error = write_float_files(function, source.module, signature, job.output)
    trace = Trace(
        source_format=job.source_format,
        signature=signature,
        tflite=TFLITE_FILE,
        coreml="" if coreml_error else COREML_PACKAGE,
        coreml_error=coreml_error,
        converter_versions=installed_versions(VERSIONS_OF),
    )
    tell(job.scratch, "measuring the source", 80)
    measured = write_references(job, signature, evaluation, inference_of(function), source.ranges)
    notes = (f"Core ML is not available: {coreml_error}",) if coreml_error else ()
    return trace_report(job, measured.added_to(trace), notes)
