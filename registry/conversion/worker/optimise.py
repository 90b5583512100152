"""Builds one variant from a trace's files, without TensorFlow."""

import shutil
from typing import Any

from registry.conversion.recipes import Recipe, recipe_named
from registry.conversion.report import Report
from registry.conversion.worker.job import Job, WorkerError, installed_versions, produced_below
from registry.conversion.worker.trace_files import Trace

VERSIONS_OF = ("ai-edge-quantizer", "ai-edge-litert", "coremltools", "numpy")


def run(job: Job) -> Report:
    assert job.trace is not None
    recipe = recipe_named(job.recipe)
    trace = Trace.read(job.trace)
    STEPS[recipe.step](job, recipe, trace)
    return Report(
        state="succeeded",
        files=produced_below(job.output, job.output / recipe.entry, "model"),
        entry=recipe.entry,
        converter_versions={**trace.converter_versions, **installed_versions(VERSIONS_OF)},
    )


def copy_tflite(job: Job, recipe: Recipe, trace: Trace) -> None:
    assert job.trace is not None
    shutil.copyfile(job.trace / trace.tflite, job.output / recipe.entry)


STEPS: dict[str, Any] = {"copy_tflite": copy_tflite}
