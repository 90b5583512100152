"""One conversion job in a worker: claimed, run with a heartbeat, and its end written down."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from django.db import transaction

from registry.blob_store import blob_store
from registry.bundles import BundleError
from registry.conversion import runner
from registry.conversion.extras import missing_extras
from registry.conversion.recipes import RECIPES, TRACE
from registry.conversion.report import Failure, ProducedFile, Report, not_applicable
from registry.models import Artifact, ConversionJob, JobState, Variant, VariantFile, VariantPart
from registry.models.conversions import cancelled_report
from registry.services import workspaces
from registry.services.conversions import bundling, reusing
from registry.services.conversions.building import Bench
from registry.services.conversions.bundling import Bundle
from registry.services.conversions.following import settle_followers

Clock = Callable[[], datetime]
LOG_CHARACTERS = 4_000  # written at every beat, so less than what the report keeps


class LeaseLost(Exception):
    """The job was given to somebody else while this worker was silent."""


class Cancelled(Exception):
    """Somebody asked for the job to be stopped while this worker ran it."""


def run_job(*, job_id: int, clock: Clock) -> None:
    """Run a queued job to its report: of those in the named one's queue, the first in order of priority."""
    named: ConversionJob = ConversionJob.objects.select_related("version").get(pk=job_id)
    job = _claim_next(named.queue, clock())
    if job is None:
        return
    with workspaces.workspace(f"job-{job.pk}-") as workspace, suppress(LeaseLost):
        try:
            _run(job, workspace, clock)
        except Cancelled:
            _record_cancelled(job, clock())


def _claim_next(queue: str, now: datetime) -> ConversionJob | None:
    """Take the queued job that should run next. None when there is none."""
    waiting = ConversionJob.objects.filter(state=JobState.QUEUED).in_queue(queue).next_first()
    related = waiting.select_related("version__model", "version__source", "version__evaluation_set")
    while (job := related.first()) is not None:
        if job.claim(now):
            return job
    return None


def _run(job: ConversionJob, workspace: Path, clock: Clock) -> None:
    if reason := _absent_extra(job) or bundling.missing_part(job):
        _record(job, not_applicable(reason), None, clock())
        return
    beat = workspaces.every_second(lambda: _beat(job, clock()), clock)
    key = reusing.reuse_key(job)
    earlier = reusing.earlier_with(key, job)
    if earlier is not None:
        report, bundle = _bundled(job, earlier.report, earlier.artifacts, workspace, clock(), beat)
        _record(job, report, bundle, clock(), reuse_key=key, reused_from=earlier.job)
        return
    bench = Bench(job.version, workspace, beat, lambda progress: _tell(job, progress, clock()))
    start = bench.base_folder(job.base_name) if job.base_name else None
    report = bench.build(job.recipe, start=start, output=workspace / "output")
    artifacts = _keep_files(workspace / "output", report.files, clock(), beat)
    report, bundle = _bundled(job, report, artifacts, workspace, clock(), beat)
    _record(job, report, bundle, clock(), reuse_key=key)


def _absent_extra(job: ConversionJob) -> str:
    """Why this worker cannot build a recipe, or a trace that no other recipe starts from; empty when it can.

    Asked here and not when the version is planned: the web server's installation is not the worker's.
    """
    missing = missing_extras()
    recipes = (
        ConversionJob.objects.starting_from(job).values_list("recipe", flat=True) if job.is_trace else [job.recipe]
    )
    reasons = [missing.get(RECIPES[name].family, "") for name in recipes if name in RECIPES]
    return reasons[0] if reasons and all(reasons) and job.recipe != TRACE else ""


def _beat(job: ConversionJob, now: datetime, **told: object) -> None:
    """Raises `Cancelled` or `LeaseLost`; then the worker's process is killed."""
    if not job.beat(now, **told):
        raise LeaseLost(f"{job} was given to another worker")
    if job.is_cancelled():
        raise Cancelled(str(job))


def _tell(job: ConversionJob, progress: runner.Progress, now: datetime) -> None:
    told = {"step": progress.step, "percent": progress.percent}
    _beat(job, now, progress=told, log_tail=progress.log_tail[-LOG_CHARACTERS:])


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


def _bundled(
    job: ConversionJob,
    report: Report,
    artifacts: Mapping[str, Artifact],
    workspace: Path,
    now: datetime,
    beat: workspaces.Beat,
) -> tuple[Report, Bundle | None]:
    """What the variant holds, where there is to be one; a failure where its files cannot stand beside each other."""
    if job.is_trace or report.state != "succeeded":
        return report, None
    try:
        return report, bundling.assemble(job, report, artifacts, workspace, now, beat)
    except BundleError as error:
        return replace(report, state="failed", error=Failure("bundle_refused", str(error))), None


def _record(job: ConversionJob, report: Report, bundle: Bundle | None, now: datetime, **origin: object) -> None:
    """The job's end, its variant and what waited for it: all in one transaction, or none of it."""
    with transaction.atomic():
        # Under the row's lock nobody can ask for it to be cancelled between the question and the end.
        ConversionJob.objects.select_for_update().get(pk=job.pk)
        if job.is_cancelled():
            raise Cancelled(str(job))
        if not job.finish(state=report.state, report=report.to_json(), now=now, **origin):
            raise LeaseLost(f"{job} was given to another worker")
        job.refresh_from_db()
        if job.is_trace:
            settle_followers(job, now)
        elif bundle is not None:
            _create_variant(job, report, bundle, now)


def _record_cancelled(job: ConversionJob, now: datetime) -> None:
    with transaction.atomic():
        if not job.finish(state=JobState.CANCELLED, report=cancelled_report(), now=now):
            raise LeaseLost(f"{job} was given to another worker")
        job.refresh_from_db()
        settle_followers(job, now)


def _create_variant(job: ConversionJob, report: Report, bundle: Bundle, now: datetime) -> None:
    recipe = RECIPES[job.recipe]
    variant = Variant.objects.create(
        version=job.version,
        name=job.recipe,
        runtime=recipe.runtime,
        min_runtime_version=bundle.min_runtime_version,
        entry=report.entry,
        tree_digest=bundle.tree_digest,
        size_bytes=bundle.size_bytes,
        recipe_digest=recipe.digest,
        report=report.to_json(),
        packages=dict(bundle.packages),
        created_at=now,
    )
    VariantFile.objects.bulk_create(
        VariantFile(variant=variant, path=file.path, role=file.role, media_type=file.media_type, artifact=file.artifact)
        for file in bundle.files
    )
    VariantPart.objects.bulk_create(
        VariantPart(variant=variant, name=name, part=part) for name, part in bundle.parts.items()
    )
