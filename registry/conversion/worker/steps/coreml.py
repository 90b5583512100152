"""Steps of the `coreml` family: each writes the recipe's package into the job's output."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from registry.conversion.recipes import Recipe
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.package_files import copy_package
from registry.conversion.worker.progress import tell
from registry.conversion.worker.trace_files import Trace

VERSIONS_OF = ("coremltools", "numpy", "protobuf")


def copy_coreml(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    if trace.source_format != "coreml":  # the trace wrote the package itself, in our own form
        copy_package(_package(job, trace), job.output / recipe.entry)
        return ()
    from registry.conversion.worker.coreml import write_package  # noqa: PLC0415 half a second that copying spares

    write_package(_traced(job, trace), job.output / recipe.entry)
    return ()


def publish_as_is(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    assert job.trace is not None
    if trace.source_format != "coreml":
        raise WorkerError("not_applicable", f"expected a ready Core ML source; got {trace.source_format}")
    copy_package(job.trace / trace.coreml, job.output / recipe.entry)
    return ()


def compress_coreml(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    from registry.conversion.worker import coreml, coreml_compression  # noqa: PLC0415

    model, threshold = _traced(job, trace), recipe.parameters["weight_threshold"]
    tell(job.scratch, "compressing weights", 20)
    version = recipe.parameters["specification_version"]
    compressed = coreml_compression.compress(model, list(recipe.parameters["compression"]), version, threshold)
    tell(job.scratch, "checking weights", 80)
    notes = coreml_compression.require_compressed(compressed, threshold)
    coreml.write_package(compressed, job.output / recipe.entry)
    return (*notes, *_size_notes(job, recipe, trace))


def _traced(job: Job, trace: Trace) -> Any:
    import coremltools as ct  # noqa: PLC0415

    return ct.models.MLModel(str(_package(job, trace)), skip_model_load=True)


def _package(job: Job, trace: Trace) -> Path:
    assert job.trace is not None
    if trace.not_evaluated:
        raise WorkerError("not_applicable", f"expected a source that can be compared with; {trace.not_evaluated}")
    if not trace.coreml:
        raise WorkerError(
            "no_coreml", f"expected the trace to hold a Core ML package; got {trace.coreml_error or 'none'}"
        )
    return job.trace / trace.coreml


# The program (operations, names, shapes) stays as large as it is, whatever its weights shrink to.
PROGRAM_BYTES = 64 * 1024
LEFT_AS_IT_WAS = 0.95


def _size_notes(job: Job, recipe: Recipe, trace: Trace) -> tuple[str, ...]:
    """Raises WorkerError for a package no smaller than the one it was made from; a note when larger than expected."""
    assert job.trace is not None
    before, after = _bytes_below(job.trace / trace.coreml), _bytes_below(job.output / recipe.entry)
    if before >= PROGRAM_BYTES and after > LEFT_AS_IT_WAS * before:
        raise WorkerError("not_compressed", f"expected a package well below {before} bytes; got {after}")
    # Both ratios count from float32; the package it is made from holds float16.
    expected = round(2 * recipe.expected_size_ratio * before) + PROGRAM_BYTES
    if after <= expected:
        return ()
    return (f"expected at most {expected} bytes of {before}, got {after}: some weights were not compressed",)


def _bytes_below(package: Path) -> int:
    return sum(path.stat().st_size for path in package.rglob("*") if path.is_file())


STEPS: Mapping[str, Callable[[Job, Recipe, Trace], tuple[str, ...]]] = MappingProxyType(
    {"copy_coreml": copy_coreml, "compress_coreml": compress_coreml, "publish_as_is": publish_as_is}
)
