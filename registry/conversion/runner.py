"""Runs conversions as confined subprocesses and reports what became of them.

Nothing here imports a converter, and no end a job can come to raises: a crash, a timeout, too much memory and a bad
model are states of the report. What does raise is the caller's `on_heartbeat`, to cancel; the job is killed first.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from registry.conversion.recipes import Recipe, recipe_named
from registry.conversion.report import Report, merged
from registry.conversion.supervision import RECIPE_LIMITS, TRACE_LIMITS, Limits, supervise
from registry.conversion.worker.job import Job

__all__ = ["RECIPE_LIMITS", "TRACE_LIMITS", "Limits", "run_recipe", "run_trace"]

SourceFormat = Literal["keras", "saved_model", "tflite"]


def run_trace(
    *,
    source: Path,
    source_format: SourceFormat,
    evaluation_set: Path | None,
    output: Path,
    limits: Limits = TRACE_LIMITS,
    on_heartbeat: Callable[[], None],
) -> Report:
    """Write what every recipe starts from into `output`: float files, golden inputs and the source's own outputs."""
    step = "adopt" if source_format == "tflite" else "trace"
    output.mkdir(parents=True, exist_ok=True)

    def job(scratch: Path) -> Job:
        return Job(
            step=step,
            output=output.resolve(),
            scratch=scratch,
            source=source.resolve(),
            source_format=source_format,
            evaluation_set=evaluation_set.resolve() if evaluation_set else None,
        )

    return supervise(job, limits=limits, on_heartbeat=on_heartbeat)


def run_recipe(
    *,
    recipe: str,
    trace: Path,
    evaluation_set: Path | None,
    output: Path,
    limits: Limits = RECIPE_LIMITS,
    on_heartbeat: Callable[[], None],
) -> Report:
    """Build one variant from a trace's output directory and verify it in a process of its own."""
    known = recipe_named(recipe)
    output.mkdir(parents=True, exist_ok=True)

    def step(name: str) -> Report:
        def job(scratch: Path) -> Job:
            return Job(
                step=name,
                output=output.resolve(),
                scratch=scratch,
                recipe=recipe,
                trace=trace.resolve(),
                evaluation_set=evaluation_set.resolve() if evaluation_set else None,
            )

        return supervise(job, limits=limits, on_heartbeat=on_heartbeat)

    built = step("optimise")
    if built.state != "succeeded":
        return _of_recipe(built, known)
    return _of_recipe(merged(built, step("verify")), known)


def _of_recipe(report: Report, recipe: Recipe) -> Report:
    return replace(report, min_runtime_version=recipe.min_runtime_version)
