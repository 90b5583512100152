import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from django.db import models

from registry.models.versions import ModelVersion


class JobState(models.TextChoices):
    WAITING = "waiting"  # for the trace
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    PARITY_MISSED = "parity_missed"
    NOT_APPLICABLE = "not_applicable"


UNFINISHED = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)


class ConversionJobQuerySet(models.QuerySet["ConversionJob"]):
    def unfinished(self) -> Self:
        return self.filter(state__in=UNFINISHED)

    def silent_since(self, moment: datetime) -> Self:
        """Running, but nobody has said so since `moment`."""
        return self.filter(state=JobState.RUNNING, heartbeat_at__lt=moment)

    def unclaimed_since(self, moment: datetime) -> Self:
        """Queued, but no worker has taken it since `moment`: its message may be lost."""
        return self.filter(state=JobState.QUEUED, queued_at__lt=moment)


class ConversionJob(models.Model):
    """One recipe run on one version. The row is the truth; a queue message only says that there is something to do.

    A worker owns the job while `lease` is its own. Whoever finds the lease gone has lost the job and must stop.
    """

    MAX_ATTEMPTS = 3

    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="jobs")
    recipe = models.CharField(max_length=63)
    state = models.CharField(max_length=20, choices=JobState.choices)
    attempts = models.PositiveSmallIntegerField(default=0)
    lease = models.UUIDField(null=True, blank=True)
    queued_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    report = models.JSONField(default=dict, blank=True)

    objects = ConversionJobQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["version", "recipe"], name="job_per_recipe_and_version")]

    def __str__(self) -> str:
        return f"{self.version} {self.recipe}: {self.state}"

    def claim(self, now: datetime) -> bool:
        """Take a queued job. False when somebody else has it, or it is done."""
        lease = uuid.uuid4()
        taken = ConversionJob.objects.filter(pk=self.pk, state=JobState.QUEUED).update(
            state=JobState.RUNNING,
            lease=lease,
            attempts=models.F("attempts") + 1,
            started_at=now,
            heartbeat_at=now,
        )
        self.refresh_from_db()
        return bool(taken) and self.lease == lease

    def beat(self, now: datetime) -> bool:
        """Say that the job is alive. False when the lease is gone."""
        return bool(self._mine().update(heartbeat_at=now))

    def finish(self, *, state: str, report: Mapping[str, Any], now: datetime) -> bool:
        """Close the job with its report. False when the lease is gone; then nothing was written."""
        return bool(self._mine().update(state=state, report=report, finished_at=now, lease=None))

    def give_back(self, now: datetime) -> bool:
        """After its worker was lost: queue it again, or close it when it has had its attempts.

        True when it was queued again. Conditional on the lease, so that a worker that came back keeps it.
        """
        if self.attempts < self.MAX_ATTEMPTS:
            return bool(self._mine().update(state=JobState.QUEUED, lease=None, queued_at=now))
        detail = f"the worker running this job was lost {self.attempts} times; expected it to finish within that"
        report = {"state": JobState.CRASHED, "error": {"code": "worker_lost", "detail": detail}}
        self.finish(state=JobState.CRASHED, report=report, now=now)
        return False

    def _mine(self) -> ConversionJobQuerySet:
        return ConversionJob.objects.filter(pk=self.pk, state=JobState.RUNNING, lease=self.lease)
