"""What becomes of the jobs that start from a trace when the trace comes to an end, or is tried again."""

from collections.abc import Iterator
from datetime import datetime

from registry.models import ConversionJob, JobState
from registry.models.conversions import UNFINISHED
from registry.services.conversions import queueing

TRACE_FAILED, TRACE_CANCELLED = "trace_failed", "trace_cancelled"
# What waits for a trace that did not fail, but did not succeed either, ends as it did.
_ENDINGS: dict[str, tuple[JobState, str]] = {
    JobState.CANCELLED: (JobState.CANCELLED, TRACE_CANCELLED),
    JobState.NOT_APPLICABLE: (JobState.NOT_APPLICABLE, "not_applicable"),
}


def settle_followers(trace: ConversionJob, now: datetime) -> None:
    """Let what waits for a trace go on, or tell it why it cannot. Call inside the transaction that closed the trace."""
    if not trace.is_trace or trace.state in UNFINISHED:
        return
    for follower in ConversionJob.objects.starting_from(trace).filter(state=JobState.WAITING).order_by("pk"):
        if trace.state == JobState.SUCCEEDED:
            queue(follower, now)
        else:
            _close_with(trace, follower, now)
            settle_followers(follower, now)


def queue(job: ConversionJob, now: datetime) -> None:
    job.state, job.queued_at = JobState.QUEUED, now
    job.save(update_fields=["state", "queued_at"])
    queueing.send_on_commit(job)


def left_behind(trace: ConversionJob) -> Iterator[ConversionJob]:
    """The jobs that never ran, because this trace came to no good end."""
    for follower in ConversionJob.objects.starting_from(trace).order_by("pk"):
        if (follower.report.get("error") or {}).get("code") in (TRACE_FAILED, TRACE_CANCELLED):
            yield follower


def start(job: ConversionJob, now: datetime) -> None:
    """Give a new job, or one that is tried again, the state that its base allows. Locks nothing itself."""
    base = job.version.jobs.filter(recipe=job.base_name).first() if job.base_name else None
    if base is None or base.state == JobState.SUCCEEDED:
        queue(job, now)
    elif base.state in UNFINISHED:
        job.state = JobState.WAITING
        job.save(update_fields=["state"])
    else:
        _close_with(base, job, now)


def _close_with(trace: ConversionJob, follower: ConversionJob, now: datetime) -> None:
    cause = (trace.report.get("error") or {}).get("detail", "")
    state, code = _ENDINGS.get(trace.state, (JobState.FAILED, TRACE_FAILED))
    error = {"code": code, "detail": f"the {trace.recipe} it starts from ended as {trace.state}: {cause}"}
    follower.state = state
    follower.report, follower.finished_at = {"state": follower.state, "error": error}, now
    follower.save(update_fields=["state", "report", "finished_at"])
