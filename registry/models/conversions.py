"""Conversion jobs, and second builds that prove a variant."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models.expressions import Value

from registry.conversion.recipes import ADOPTION_STEPS, TRACE, TRACES
from registry.models.leases import Leased, LeasedQuerySet
from registry.models.versions import ModelVersion, Variant

CONVERT, LIGHT = "convert", "light"  # the queues; what needs TensorFlow goes to the first
READY_FORMATS = tuple(ADOPTION_STEPS)  # their main trace adopts a file and needs none
LOWEST_PRIORITY, HIGHEST_PRIORITY = -10, 10
EMPTY = Value({}, models.JSONField())


class JobState(models.TextChoices):
    WAITING = "waiting"  # for its base
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    PARITY_MISSED = "parity_missed"
    NOT_APPLICABLE = "not_applicable"
    CANCELLED = "cancelled"


UNFINISHED = (JobState.WAITING, JobState.QUEUED, JobState.RUNNING)
# What may be tried again: it came to an end, and that end was no success.
UNSUCCESSFUL = (
    JobState.FAILED,
    JobState.TIMED_OUT,
    JobState.OUT_OF_MEMORY,
    JobState.CRASHED,
    JobState.PARITY_MISSED,
    JobState.CANCELLED,
)


class ConversionJobQuerySet(LeasedQuerySet["ConversionJob"]):
    def unfinished(self) -> Self:
        return self.filter(state__in=UNFINISHED)

    def in_queue(self, name: str) -> Self:
        """Those that the workers of a queue run."""
        adopts = models.Q(recipe=TRACE, version__source_format__in=READY_FORMATS)
        heavy = models.Q(recipe__in=list(TRACES)) & ~adopts
        return self.filter(heavy if name == CONVERT else ~heavy)

    def next_first(self) -> Self:
        """In the order in which they should run."""
        return self.order_by("-priority", "pk")

    def starting_from(self, base: "ConversionJob") -> Self:
        """The version's jobs that need this one's files."""
        # A server of before this column wrote none: its recipes all start from the main trace.
        names = [base.recipe, ""] if base.recipe == TRACE else [base.recipe]
        return self.filter(version=base.version_id, base__in=names).exclude(recipe=TRACE)


class ConversionJob(Leased):
    """One recipe, or one trace, run on one version.

    `base` is the trace whose files it starts from, empty for the main trace. `reuse_key` stands for everything its
    outcome depends on: a job with the key of one that succeeded need not run.
    """

    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="jobs")
    recipe = models.CharField(max_length=63)
    state = models.CharField(max_length=20, choices=JobState.choices)
    report = models.JSONField(default=dict, blank=True)
    base = models.CharField(max_length=63, blank=True, default="", db_default="")
    priority = models.SmallIntegerField(default=0, db_default=0)
    progress = models.JSONField(default=dict, blank=True, db_default=EMPTY)
    log_tail = models.TextField(blank=True, default="", db_default="")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    reuse_key = models.CharField(max_length=64, blank=True, default="", db_default="", db_index=True)
    reused_from = models.ForeignKey("self", models.PROTECT, related_name="+", null=True, blank=True)

    objects: ClassVar[Any] = ConversionJobQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["version", "recipe"], name="job_per_recipe_and_version")]

    def __str__(self) -> str:
        return f"{self.version} {self.recipe}: {self.state}"

    @property
    def is_trace(self) -> bool:
        return self.recipe in TRACES

    @property
    def queue(self) -> str:
        adopts = self.recipe == TRACE and self.version.source_format in READY_FORMATS
        return CONVERT if self.is_trace and not adopts else LIGHT

    @property
    def base_name(self) -> str:
        """The recipe of the job whose files this one starts from; empty for the main trace."""
        return "" if self.recipe == TRACE else self.base or TRACE

    def finish(self, *, state: str, report: Mapping[str, Any], now: datetime, **outcome: Any) -> bool:
        """Close the job with its report. False when the lease is gone; then nothing was written."""
        return self.end(state=state, now=now, report=report, log_tail="", progress={}, **outcome)

    def is_cancelled(self) -> bool:
        """Did somebody ask to stop what this worker still holds?"""
        return bool(self._mine().filter(cancel_requested_at__isnull=False).exists())

    def give_back(self, now: datetime) -> bool:
        """As of any leased row; a job whose cancelling was asked for is not queued again."""
        if self.cancel_requested_at is None:
            return super().give_back(now)
        self.finish(state=JobState.CANCELLED, report=cancelled_report(), now=now)
        return False

    def as_lost(self, detail: str) -> Mapping[str, Any]:
        report = {"state": JobState.CRASHED, "error": {"code": "worker_lost", "detail": detail}}
        return {"state": JobState.CRASHED, "report": report, "log_tail": "", "progress": {}}


def cancelled_report() -> dict[str, Any]:
    error = {"code": "cancelled", "detail": "somebody asked for this conversion to be stopped; retry runs it again"}
    return {"state": JobState.CANCELLED, "error": error}


class Reproduction(Leased):
    """A variant built a second time from its stored source, and how the bytes compare."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        EQUAL = "equal"
        DIFFERENT = "different"
        FAILED = "failed"  # could not be built again

    variant = models.ForeignKey(Variant, models.PROTECT, related_name="reproductions")
    state = models.CharField(max_length=20, choices=State.choices, default=State.QUEUED)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    progress = models.JSONField(default=dict, blank=True)
    files = models.JSONField(default=list, blank=True)
    converter_versions = models.JSONField(default=dict, blank=True)
    detail = models.TextField(blank=True)

    objects: ClassVar[Any] = LeasedQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.variant}: {self.state}"

    @property
    def queue(self) -> str:
        return LIGHT if self.variant.version.source_format in READY_FORMATS else CONVERT

    def as_lost(self, detail: str) -> Mapping[str, Any]:
        return {"state": self.State.FAILED, "detail": detail, "progress": {}}
