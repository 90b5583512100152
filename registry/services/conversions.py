"""Conversion jobs: ask for them, run one, and find those whose worker was lost.

    request_conversions ─► trace: queued ──run_job──► succeeded ─► recipes: waiting → queued ──run_job──► variant
                                              └──► failed ─► recipes: failed, naming the trace

The rows decide; a message in the queue only says where to look. A message that is lost is sent again by the sweep, one
that comes twice finds the job taken.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

from django.conf import settings
from django.db import transaction

from registry import errors
from registry.blob_store import blob_store
from registry.conversion import runner
from registry.conversion.plan import plan
from registry.conversion.recipes import RECIPES, TRACE
from registry.conversion.report import ProducedFile, Report
from registry.digests import sha256_of_file, tree_digest
from registry.inspection import SourceInspection
from registry.models import Artifact, ConversionJob, JobState, ModelVersion, Variant, VariantFile
from registry.models.conversions import UNFINISHED
from registry.services import workspaces

Clock = Callable[[], datetime]
# A deployment's settings may say otherwise: AEROGRAM_JOB_SILENCE_SECONDS, AEROGRAM_JOB_REQUEUE_SECONDS.
SILENCE_SECONDS = 30  # a worker that runs a job says so every second
REQUEUE_SECONDS = 60  # a queued job that nobody took for so long may have lost its message
MEDIA_TYPES = {".tflite": "application/vnd.tflite", ".json": "application/json", ".txt": "text/plain"}


class LeaseLost(Exception):
    """The job was given to somebody else while this worker was silent."""


def request_conversions(
    *, version: ModelVersion, inspected: SourceInspection, recipes: Sequence[str] | None, now: datetime
) -> None:
    """Plan the recipes of a new version and queue its trace. Raises `UnknownRecipe`."""
    unknown = sorted(set(recipes or ()) - set(RECIPES))
    if unknown:
        known = ", ".join(RECIPES)
        raise errors.UnknownRecipe(f"expected recipes among {known}; got {', '.join(unknown)}", field="recipes")
    planned = plan(inspected, has_evaluation_set=version.evaluation_set is not None, requested=recipes)
    for step in planned.steps:
        state = JobState.QUEUED if step == TRACE else JobState.WAITING
        ConversionJob.objects.create(version=version, recipe=step, state=state, queued_at=now)
    for recipe, reason in planned.not_applicable.items():
        report = {"state": JobState.NOT_APPLICABLE, "error": {"code": "not_applicable", "detail": reason}}
        ConversionJob.objects.create(
            version=version, recipe=recipe, state=JobState.NOT_APPLICABLE, report=report, finished_at=now
        )
    _enqueue_on_commit(version.jobs.get(recipe=TRACE))


def run_job(*, job_id: int, clock: Clock) -> None:
    """Run one queued job to its report. Does nothing when it is taken or done."""
    job = ConversionJob.objects.select_related("version__model", "version__source").get(pk=job_id)
    if not job.claim(clock()):
        return
    beat = workspaces.every_second(lambda: _beat(job, clock()), clock)
    with workspaces.workspace(f"job-{job.pk}-") as workspace, suppress(LeaseLost):
        report = _with_labels(_convert(job, workspace, beat), job, workspace / "output")
        artifacts = _keep_files(workspace / "output", report.files, clock(), beat)
        _record(job, report, artifacts, clock())


def _beat(job: ConversionJob, now: datetime) -> None:
    if not job.beat(now):
        raise LeaseLost(f"{job} was given to another worker")


def sweep_lost_jobs(*, now: datetime) -> int:
    """Queue again what a lost worker or a lost message left behind. Returns how many jobs it touched."""
    touched = 0
    for job in ConversionJob.objects.silent_since(now - _patience("SILENCE", SILENCE_SECONDS)):
        with transaction.atomic():
            if job.give_back(now):
                _enqueue_on_commit(job)
            else:
                job.refresh_from_db()
                _close_trace(job, now)
        touched += 1
    for job in ConversionJob.objects.unclaimed_since(now - _patience("REQUEUE", REQUEUE_SECONDS)):
        if ConversionJob.objects.filter(pk=job.pk, state=JobState.QUEUED).update(queued_at=now):
            _enqueue_on_commit(job)
            touched += 1
    workspaces.remove_abandoned()
    return touched


def _patience(name: str, default_seconds: int) -> timedelta:
    return timedelta(seconds=getattr(settings, f"AEROGRAM_JOB_{name}_SECONDS", default_seconds))


def _convert(job: ConversionJob, workspace: Path, beat: workspaces.Beat) -> Report:
    def heartbeat(_: runner.Progress) -> None:
        beat()

    version = job.version
    evaluation_set = _materialise_evaluation_set(version, workspace, beat)
    output = workspace / "output"
    output.mkdir()
    if job.recipe == TRACE:
        source = workspace / f"source{Path(version.source_file_name).suffix}"
        blob_store().copy_to(version.source.sha256, source, on_chunk=beat)
        return runner.run_trace(
            source=source,
            source_format=cast("runner.SourceFormat", version.source_format),
            evaluation_set=evaluation_set,
            output=output,
            limits=_limits(
                runner.TRACE_LIMITS, settings.AEROGRAM_TRACE_TIMEOUT_SECONDS, settings.AEROGRAM_TRACE_MEMORY_MIB
            ),
            on_heartbeat=heartbeat,
            workspace=workspace,
        )
    return runner.run_recipe(
        recipe=job.recipe,
        trace=_materialise_trace(version, workspace, beat),
        evaluation_set=evaluation_set,
        output=output,
        limits=_limits(
            runner.RECIPE_LIMITS, settings.AEROGRAM_RECIPE_TIMEOUT_SECONDS, settings.AEROGRAM_RECIPE_MEMORY_MIB
        ),
        on_heartbeat=heartbeat,
        workspace=workspace,
    )


def _with_labels(report: Report, job: ConversionJob, output: Path) -> Report:
    """Ship the version's labels beside the model, so that they switch together."""
    if job.recipe == TRACE or report.state != "succeeded" or not job.version.labels:
        return report
    path = output / "labels.txt"
    path.write_text("".join(f"{label}\n" for label in job.version.labels))
    sha256, size_bytes = sha256_of_file(path)
    return replace(report, files=(*report.files, ProducedFile(path.name, "labels", size_bytes, sha256)))


def _limits(base: runner.Limits, timeout_seconds: int, memory_mib: int) -> runner.Limits:
    return replace(base, wall_seconds=timeout_seconds, resident_bytes=memory_mib << 20)


def _materialise_evaluation_set(version: ModelVersion, workspace: Path, beat: workspaces.Beat) -> Path | None:
    if version.evaluation_set is None:
        return None
    path = workspace / "evaluation_set.npz"
    blob_store().copy_to(version.evaluation_set.sha256, path, on_chunk=beat)
    return path


def _materialise_trace(version: ModelVersion, workspace: Path, beat: workspaces.Beat) -> Path:
    folder = workspace / "trace"
    for entry in version.jobs.get(recipe=TRACE).report["files"]:
        blob_store().copy_to(entry["sha256"], folder / entry["path"], on_chunk=beat)
    return folder


def _keep_files(
    output: Path, files: Sequence[ProducedFile], now: datetime, beat: workspaces.Beat
) -> dict[str, Artifact]:
    artifacts = {}
    for produced in files:
        staged = blob_store().put_file(output / produced.path, on_chunk=beat)
        artifacts[produced.path], _ = Artifact.objects.get_or_create(
            sha256=staged.sha256, defaults={"size_bytes": staged.size_bytes, "created_at": now}
        )
    return artifacts


def _record(job: ConversionJob, report: Report, artifacts: dict[str, Artifact], now: datetime) -> None:
    """The job's end, its variant and what waited for it: all in one transaction, or none of it."""
    with transaction.atomic():
        if not job.finish(state=report.state, report=report.to_json(), now=now):
            raise LeaseLost(f"{job} was given to another worker")
        job.refresh_from_db()
        if job.recipe == TRACE:
            _close_trace(job, now)
        elif report.state == "succeeded":
            _create_variant(job, report, artifacts, now)


def _close_trace(job: ConversionJob, now: datetime) -> None:
    """Let the recipes go on after the trace, or tell them why they cannot."""
    if job.recipe != TRACE or job.state in UNFINISHED:
        return
    waiting = job.version.jobs.filter(state=JobState.WAITING)
    if job.state == JobState.SUCCEEDED:
        for follower in waiting:
            follower.state, follower.queued_at = JobState.QUEUED, now
            follower.save(update_fields=["state", "queued_at"])
            _enqueue_on_commit(follower)
        return
    cause = (job.report.get("error") or {}).get("detail", "")
    error = {"code": "trace_failed", "detail": f"the trace ended as {job.state}: {cause}"}
    waiting.update(state=JobState.FAILED, finished_at=now, report={"state": JobState.FAILED, "error": error})


def _create_variant(job: ConversionJob, report: Report, artifacts: dict[str, Artifact], now: datetime) -> None:
    recipe = RECIPES[job.recipe]
    shipped = [produced for produced in report.files if produced.role != "trace"]
    variant = Variant.objects.create(
        version=job.version,
        name=job.recipe,
        runtime=recipe.runtime,
        min_runtime_version=report.min_runtime_version,
        entry=report.entry,
        tree_digest=tree_digest({produced.path: produced.sha256 for produced in shipped}),
        size_bytes=sum(produced.size_bytes for produced in shipped if produced.role == "model"),
        recipe_digest=recipe.digest,
        report=report.to_json(),
        created_at=now,
    )
    VariantFile.objects.bulk_create(
        VariantFile(
            variant=variant,
            path=produced.path,
            role=produced.role,
            media_type=MEDIA_TYPES.get(Path(produced.path).suffix, "application/octet-stream"),
            artifact=artifacts[produced.path],
        )
        for produced in shipped
    )


def _enqueue_on_commit(job: ConversionJob) -> None:
    from registry import tasks  # noqa: PLC0415 - tasks call services, so the name is bound late

    queue = "convert" if job.recipe == TRACE and job.version.source_format != "tflite" else "light"
    tasks.enqueue_on_commit(tasks.run_conversion_job, job.pk, queue=queue)
