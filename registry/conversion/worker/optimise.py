"""Builds one variant from a trace's files, without TensorFlow."""

import importlib
import json

from registry.conversion.metadata import Metadata, MetadataError
from registry.conversion.recipes import Recipe, recipe_named
from registry.conversion.report import Report
from registry.conversion.worker.job import Job, WorkerError, installed_versions, produced_below
from registry.conversion.worker.trace_files import Trace

FAMILIES_WITH_METADATA = frozenset({"tflite", "coreml", "onnx"})


def run(job: Job) -> Report:
    assert job.trace is not None
    recipe = recipe_named(job.recipe)
    trace = Trace.read(job.trace)
    # One family's libraries are large and of no use to the others.
    family = importlib.import_module(f"registry.conversion.worker.steps.{recipe.family}")
    notes = family.STEPS[recipe.step](job, recipe, trace)
    embed_metadata(job, recipe, trace)
    return Report(
        state="succeeded",
        files=produced_below(job.output, job.output / recipe.entry, "model"),
        entry=recipe.entry,
        converter_versions={**trace.converter_versions, **installed_versions(family.VERSIONS_OF)},
        notes=notes,
    )


def embed_metadata(job: Job, recipe: Recipe, trace: Trace) -> None:
    """Write what the version says of itself into the variant, before it is verified. Raises WorkerError."""
    if job.metadata is None or recipe.family not in FAMILIES_WITH_METADATA:
        return
    entry = job.output / recipe.entry
    try:
        metadata = Metadata.from_json(json.loads(job.metadata.read_text("utf-8")), trace.signature)
        if recipe.family == "tflite":
            from registry.conversion.worker import tflite_metadata  # noqa: PLC0415 as the families themselves

            entry.write_bytes(tflite_metadata.embed(entry.read_bytes(), metadata, trace.signature))
        elif recipe.family == "onnx":
            from registry.conversion.worker import onnx_metadata  # noqa: PLC0415

            onnx_metadata.embed(entry, metadata, trace.signature)
        else:
            from registry.conversion.worker import coreml_metadata  # noqa: PLC0415

            coreml_metadata.embed(entry, metadata, trace.signature)
    except (MetadataError, ValueError) as error:
        raise WorkerError("metadata", str(error)) from error
