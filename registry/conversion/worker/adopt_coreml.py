"""A ready Core ML model becomes a trace: its own package, and its own reference where its program can be evaluated.

Programs are evaluated as every variant's is. The older kinds of model (neural networks, trees, pipelines) have no
public evaluator outside Apple's systems: what inspection found out about them is all there is to check.
"""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from registry.conversion.report import Report, Signature
from registry.conversion.worker import coreml
from registry.conversion.worker.golden import evaluation_of
from registry.conversion.worker.job import Job, WorkerError, installed_versions
from registry.conversion.worker.mil_interpreter import CoreMlModel, signature_of, translated
from registry.conversion.worker.package_files import normalise_modes
from registry.conversion.worker.trace_files import Trace, trace_report, write_references
from registry.inspection.coreml_file import inspect_coreml
from registry.inspection.coreml_package import opened_package
from registry.inspection.source import SourceInspection

PACKAGE = "source.mlpackage"
VERSIONS_OF = ("coremltools", "numpy", "protobuf")
NUMBERS = ("float16", "float32", "float64", "int32")


def run(job: Job) -> Report:
    assert job.source is not None
    inspected = inspect_coreml(job.source)
    package = job.output / PACKAGE
    _write_package(job.source, package)
    model, reason = _evaluable(package, inspected)
    trace = Trace(
        source_format="coreml",
        signature=model.signature if model else _described(package),
        coreml=PACKAGE,
        not_evaluated=f"not evaluated on Linux: {reason}" if reason else "",
        converter_versions=installed_versions(VERSIONS_OF),
    )
    if model is None:
        return trace_report(job, trace, (trace.not_evaluated,))
    evaluation = evaluation_of(job.evaluation_set, model.signature.inputs)
    measured = write_references(job, model.signature, evaluation, model.infer, {})
    return trace_report(job, measured.added_to(trace))


def _write_package(source: Path, package: Path) -> None:
    """The files as they are, with modes that depend on nobody's umask; a lone specification gets a package around it.

    Inspection has been through every name and size by now.
    """
    with source.open("rb") as stream:
        is_package = source.is_dir() or stream.read(2) == b"PK"
    if not is_package:
        coreml.wrap(source.read_bytes(), package)
        return
    with opened_package(source) as opened:
        for name in opened.sizes():
            target = package.joinpath(*PurePosixPath(name).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(name) as member, target.open("wb") as stream:
                shutil.copyfileobj(member, stream)
    normalise_modes(package)


def _evaluable(package: Path, inspected: SourceInspection) -> tuple[CoreMlModel | None, str]:
    """The model, or why there is nothing here that runs it."""
    kind = inspected.details["model_type"]
    if kind != "mlProgram":
        return None, f"a model of the kind {kind}; only ML programs can be evaluated"
    others = [f"{tensor.name} ({tensor.dtype})" for tensor in inspected.inputs if tensor.dtype not in NUMBERS]
    others += [f"{tensor.name} ({tensor.dtype})" for tensor in inspected.outputs if tensor.dtype not in NUMBERS]
    if others:
        return None, f"inputs or outputs that are no arrays of numbers: {', '.join(others)}"
    if any(None in (tensor.shape or ()) for tensor in inspected.inputs) or inspected.details["states"]:
        return None, "inputs of open size, or states"
    try:
        return CoreMlModel(package), ""
    except WorkerError as error:
        if error.code != "unknown_operation":
            raise
        return None, error.detail


def _described(package: Path) -> Signature:
    import coremltools as ct  # noqa: PLC0415

    with translated("not_loadable", "a package that coremltools reads"):
        spec: Any = ct.utils.load_spec(str(package))
    return signature_of(spec.description)
