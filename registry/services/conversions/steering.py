"""What people may do to jobs that are there already: stop them, try them again, put one before the others."""

from datetime import datetime

from django.db import transaction

from registry import errors
from registry.models import AuditEntry, ConversionJob, JobState, ModelVersion
from registry.models.conversions import (
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    UNFINISHED,
    UNSUCCESSFUL,
    cancelled_report,
)
from registry.services.conversions import following


def cancel_job(*, job: ConversionJob, actor: str, now: datetime) -> None:
    """Stop a job: at once where it waits, at its worker's next beat where it runs. Raises `JobFinished`."""
    with transaction.atomic():
        held = _locked(job)
        if held.state not in UNFINISHED:
            raise errors.JobFinished(f"expected a conversion that is not done, got {held}")
        before = held.state
        _cancel(held, now)
        _record(held, "cancel_job", actor, now, before={"state": before})


def cancel_version(*, version: ModelVersion, actor: str, now: datetime) -> None:
    """Stop everything of a version that is not done. Raises `JobFinished` when nothing is open."""
    with transaction.atomic():
        held = list(version.jobs.select_for_update().order_by("pk"))
        open_jobs = [job for job in held if job.state in UNFINISHED]
        if not open_jobs:
            raise errors.JobFinished(f"expected conversions of {version} that are not done, found none")
        for job in open_jobs:
            job.refresh_from_db()  # a trace that was cancelled before it in this loop took it along
            if job.state in UNFINISHED:
                _cancel(job, now)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="cancel_version",
            subject=str(version),
            application=version.model.application,
            after={"cancelled": [job.recipe for job in open_jobs]},
        )


def retry_job(*, job: ConversionJob, actor: str, now: datetime) -> None:
    """Run a job again that did not succeed, its trace before it where that failed, and what failed with the trace.

    Raises `JobNotRetryable`.
    """
    with transaction.atomic():
        held = {row.recipe: row for row in job.version.jobs.select_for_update().order_by("pk")}[job.recipe]
        if held.state not in UNSUCCESSFUL:
            raise errors.JobNotRetryable(f"expected a conversion that ended without success, got {held}")
        before = held.state
        _again(held, now)
        _record(held, "retry_job", actor, now, before={"state": before})


def prioritise_job(*, job: ConversionJob, priority: int, actor: str, now: datetime) -> None:
    """Let a job run before (above 0) or after others. Raises `Invalid` out of range, `JobFinished`."""
    if not LOWEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        expected = f"a priority of {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}"
        raise errors.Invalid(f"expected {expected}, got {priority}", field="priority")
    with transaction.atomic():
        held = _locked(job)
        if held.state not in UNFINISHED:
            raise errors.JobFinished(f"expected a conversion that is not done, got {held}")
        before, held.priority = held.priority, priority
        held.save(update_fields=["priority"])
        _record(held, "prioritise_job", actor, now, before={"priority": before}, after={"priority": priority})


def _cancel(job: ConversionJob, now: datetime) -> None:
    job.cancel_requested_at = now
    if job.state == JobState.RUNNING:
        job.save(update_fields=["cancel_requested_at"])
        return
    job.state, job.finished_at, job.report = JobState.CANCELLED, now, cancelled_report()
    job.save(update_fields=["state", "finished_at", "report", "cancel_requested_at"])
    following.settle_followers(job, now)


def _again(job: ConversionJob, now: datetime) -> None:
    base = job.version.jobs.filter(recipe=job.base_name).first() if job.base_name else None
    if base is not None and base.state in UNSUCCESSFUL:
        _again(base, now)  # which takes along what failed with it
        job.refresh_from_db()
    if job.state in UNSUCCESSFUL:
        _renew(job)
        following.start(job, now)
    for follower in following.left_behind(job) if job.is_trace else ():
        _again(follower, now)


def _renew(job: ConversionJob) -> None:
    job.attempts, job.report, job.progress, job.log_tail = 0, {}, {}, ""
    job.started_at = job.heartbeat_at = job.finished_at = job.cancel_requested_at = None
    job.state = JobState.WAITING
    job.save()


def _locked(job: ConversionJob) -> ConversionJob:
    held: ConversionJob = (
        ConversionJob.objects.select_for_update(of=("self",)).select_related("version__model").get(pk=job.pk)
    )
    return held


def _record(
    job: ConversionJob,
    verb: str,
    actor: str,
    now: datetime,
    *,
    before: dict[str, object],
    after: dict[str, object] | None = None,
) -> None:
    AuditEntry.record(
        now=now,
        actor=actor,
        verb=verb,
        subject=f"{job.version} {job.recipe}",
        application=job.version.model.application,
        before=before,
        after=after or {"state": job.state},
    )
