"""The trace behind `coreml-fp32`: the same function as a Core ML package that computes in float32."""

from dataclasses import replace

from registry.conversion.report import Report
from registry.conversion.worker.coreml import FLOAT32, convert, write_package
from registry.conversion.worker.job import Job, installed_versions
from registry.conversion.worker.progress import tell
from registry.conversion.worker.source_model import traced
from registry.conversion.worker.trace_files import Trace, trace_report

COREML_PACKAGE = "fp32.mlpackage"
VERSIONS_OF = ("tensorflow", "tensorflow-cpu", "keras", "coremltools", "numpy", "protobuf")


def run(job: Job) -> Report:
    assert job.trace is not None
    main = Trace.read(job.trace)
    made = traced(job)
    tell(job.scratch, "converting", 50)
    write_package(convert(made.function, main.signature, FLOAT32), job.output / COREML_PACKAGE)
    versions = installed_versions(VERSIONS_OF)
    return trace_report(job, replace(main, coreml=COREML_PACKAGE, coreml_error="", converter_versions=versions))
