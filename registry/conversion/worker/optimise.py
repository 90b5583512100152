"""Builds one variant from a trace's files, without TensorFlow."""

import importlib

from registry.conversion.recipes import recipe_named
from registry.conversion.report import Report
from registry.conversion.worker.job import Job, installed_versions, produced_below
from registry.conversion.worker.trace_files import Trace


def run(job: Job) -> Report:
    assert job.trace is not None
    recipe = recipe_named(job.recipe)
    trace = Trace.read(job.trace)
    # One family's libraries are large and of no use to the others.
    family = importlib.import_module(f"registry.conversion.worker.steps.{recipe.family}")
    notes = family.STEPS[recipe.step](job, recipe, trace)
    return Report(
        state="succeeded",
        files=produced_below(job.output, job.output / recipe.entry, "model"),
        entry=recipe.entry,
        converter_versions={**trace.converter_versions, **installed_versions(family.VERSIONS_OF)},
        notes=notes,
    )
