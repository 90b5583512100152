"""A version's conversion matrix: a row for every trace and recipe, from its place in the queue to what it cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from registry.conversion.gates import accuracy_lost
from registry.models import ConversionJob, JobState, ModelVersion
from registry.models.conversions import UNFINISHED, UNSUCCESSFUL
from registry.services.gates import Verdict, verdicts


@dataclass(frozen=True)
class MatrixRow:
    """Sizes are bytes, shares lie in 0..1, `_us` are microseconds. None where nothing was measured.

    `percent` is 100 when the job is done. `log_tail` is the live one while it runs, the report's afterwards. `misses`
    are of the model's gates; `uncovered` those of them that no override covers.
    """

    recipe: str
    is_trace: bool
    base: str
    state: str
    priority: int
    attempts: int
    step: str
    percent: int
    log_tail: str
    is_cancelling: bool
    can_cancel: bool
    can_retry: bool
    error: Mapping[str, str] | None
    notes: list[str]
    seconds: float | None
    peak_memory_bytes: int | None
    reused_from: str | None
    size_bytes: int | None
    compressed_size_bytes: int | None
    accuracy: Mapping[str, Any] | None
    accuracy_lost: float | None
    parity: Mapping[str, Any] | None
    latency_host: Mapping[str, Any] | None
    misses: list[dict[str, str]]
    uncovered: list[dict[str, str]]

    @property
    def is_blocked(self) -> bool:
        return bool(self.uncovered)

    @property
    def state_shown(self) -> str:
        """The state, or that a running job is being stopped."""
        return "stopping" if self.is_cancelling else self.state

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "is_blocked": self.is_blocked}


def matrix(version: ModelVersion) -> list[MatrixRow]:
    """Traces first, then recipes in the order in which they were asked for."""
    jobs = list(version.jobs.select_related("reused_from__version__model").order_by("pk"))
    by_name = {verdict.variant.name: verdict for verdict in verdicts(version)}
    rows = [_row(job, by_name.get(job.recipe)) for job in jobs]
    return sorted(rows, key=lambda row: (not row.is_trace, row.state == JobState.NOT_APPLICABLE))


def _row(job: ConversionJob, verdict: Verdict | None) -> MatrixRow:
    report = verdict.variant.report if verdict else job.report
    lost = accuracy_lost(report.get("accuracy") or {})
    is_open = job.state in UNFINISHED
    return MatrixRow(
        recipe=job.recipe,
        is_trace=job.is_trace,
        base=job.base_name,
        state=job.state,
        priority=job.priority,
        attempts=job.attempts,
        step=job.progress.get("step", ""),
        percent=job.progress.get("percent", 0) if is_open else 100,
        log_tail=job.log_tail if is_open else job.report.get("log_tail") or "",
        is_cancelling=is_open and job.cancel_requested_at is not None,
        can_cancel=is_open and job.cancel_requested_at is None,
        can_retry=job.state in UNSUCCESSFUL,
        error=job.report.get("error"),
        notes=list(report.get("notes") or ()),
        seconds=report.get("seconds"),
        peak_memory_bytes=report.get("peak_memory_bytes"),
        reused_from=str(job.reused_from.version) if job.reused_from else None,
        size_bytes=verdict.variant.size_bytes if verdict else None,
        compressed_size_bytes=report.get("compressed_size_bytes") or None,
        accuracy=report.get("accuracy"),
        accuracy_lost=None if lost is None else float(lost),
        parity=report.get("parity"),
        latency_host=report.get("latency_host"),
        misses=[miss.to_json() for miss in verdict.misses] if verdict else [],
        uncovered=[miss.to_json() for miss in verdict.uncovered] if verdict else [],
    )
