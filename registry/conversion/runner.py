"""Runs conversions as confined subprocesses and reports what became of them.

Nothing here imports a converter, and no end a job can come to raises: a crash, a timeout, too much memory and a bad
model are states of the report. What does raise is the caller's `on_heartbeat`, to cancel; the job is killed first.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from registry.conversion.recipes import ADOPTION_STEPS, TRACE, Recipe, recipe_named, trace_named
from registry.conversion.report import Report, merged
from registry.conversion.supervision import RECIPE_LIMITS, TRACE_LIMITS, Limits, OnHeartbeat, Progress, supervise
from registry.conversion.worker.job import Job

__all__ = [
    "RECIPE_LIMITS",
    "TRACE_LIMITS",
    "Limits",
    "OnHeartbeat",
    "Progress",
    "build_variant",
    "run_recipe",
    "run_trace",
]

SourceFormat = Literal["keras", "saved_model", "tflite", "coreml", "onnx"]


def run_trace(
    *,
    trace: str = TRACE,
    source: Path,
    source_format: SourceFormat,
    source_signature: str = "",
    evaluation_set: Path | None,
    training_set: Path | None = None,
    main: Path | None = None,
    output: Path,
    limits: Limits = TRACE_LIMITS,
    on_heartbeat: OnHeartbeat,
    workspace: Path | None = None,
) -> Report:
    """Write what recipes start from into `output`: float files, golden inputs and the source's own outputs.

    Another trace than the main one writes only what differs from the folder `main`, which holds the main one's files;
    its recipes need both, laid over each other. `source_signature` names one of several a SavedModel has.
    """
    known = trace_named(trace)
    output.mkdir(parents=True, exist_ok=True)

    def job(scratch: Path) -> Job:
        return Job(
            step=ADOPTION_STEPS.get(source_format, known.step) if trace == TRACE else known.step,
            output=output.resolve(),
            scratch=scratch,
            source=source.resolve(),
            source_format=source_format,
            source_signature=source_signature,
            trace_recipe=trace,
            trace=main.resolve() if main else None,
            evaluation_set=evaluation_set.resolve() if evaluation_set else None,
            training_set=training_set.resolve() if training_set else None,
        )

    return supervise(job, limits=limits, on_heartbeat=on_heartbeat, workspace=workspace)


# Of the two processes of a recipe, what share of its progress each one's own percent stands for.
OPTIMISE_PERCENT, VERIFY_PERCENT = range(60), range(60, 100)


def run_recipe(
    *,
    recipe: str,
    trace: Path,
    evaluation_set: Path | None,
    metadata: Path | None = None,
    output: Path,
    limits: Limits = RECIPE_LIMITS,
    on_heartbeat: OnHeartbeat,
    workspace: Path | None = None,
) -> Report:
    """Build one variant from a trace's output directory and verify it in a process of its own."""
    build = build_variant(
        recipe=recipe,
        trace=trace,
        evaluation_set=evaluation_set,
        metadata=metadata,
        output=output,
        limits=limits,
        on_heartbeat=_within(OPTIMISE_PERCENT, on_heartbeat),
        workspace=workspace,
    )
    if build.state != "succeeded":
        return build
    verify = _recipe_job("verify", recipe, trace, evaluation_set, metadata, output)
    beat = _within(VERIFY_PERCENT, on_heartbeat)
    verified = supervise(verify, limits=limits, on_heartbeat=beat, workspace=workspace)
    return _of_recipe(merged(build, verified), recipe_named(recipe))


def build_variant(
    *,
    recipe: str,
    trace: Path,
    evaluation_set: Path | None,
    metadata: Path | None = None,
    output: Path,
    limits: Limits = RECIPE_LIMITS,
    on_heartbeat: OnHeartbeat,
    workspace: Path | None = None,
) -> Report:
    """The first half of `run_recipe`: a file that nobody has looked at yet, not to be published."""
    output.mkdir(parents=True, exist_ok=True)
    optimise = _recipe_job("optimise", recipe, trace, evaluation_set, metadata, output)
    built = supervise(optimise, limits=limits, on_heartbeat=on_heartbeat, workspace=workspace)
    return _of_recipe(built, recipe_named(recipe))


def _recipe_job(
    step: str, recipe: str, trace: Path, evaluation_set: Path | None, metadata: Path | None, output: Path
) -> Callable[[Path], Job]:
    def job(scratch: Path) -> Job:
        return Job(
            step=step,
            output=output.resolve(),
            scratch=scratch,
            recipe=recipe,
            trace=trace.resolve(),
            evaluation_set=evaluation_set.resolve() if evaluation_set else None,
            metadata=metadata.resolve() if metadata else None,
        )

    return job


def _within(share: range, on_heartbeat: OnHeartbeat) -> OnHeartbeat:
    """Pass on a process's own 0..100 percent as its share of the whole."""

    def beat(progress: Progress) -> None:
        percent = share.start + len(share) * progress.percent // 100
        on_heartbeat(replace(progress, percent=percent))

    return beat


def _of_recipe(report: Report, recipe: Recipe) -> Report:
    """What the file itself needs, where it tells, counts before what the recipe expects."""
    return replace(report, min_runtime_version=report.min_runtime_version or recipe.min_runtime_version)
