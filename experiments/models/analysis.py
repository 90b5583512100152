"""What was concluded, when, from what. Rows never change; a trigger refuses it."""

from datetime import datetime, timedelta
from typing import Self

from django.db import models

from experiments.models.experiments import Experiment
from experiments.models.phases import Phase

# Of two workers.
CLOCKS_APART = timedelta(minutes=1)


class AnalysisRunQuerySet(models.QuerySet["AnalysisRun"]):
    def of(self, experiment: Experiment) -> Self:
        """Newest first."""
        return self.filter(experiment=experiment).order_by("-as_of", "-pk")

    def until(self, now: datetime) -> Self:
        """Without looks of the future: what a clock that ran ahead has dated would be the latest until then."""
        return self.filter(as_of__lte=now + CLOCKS_APART)


class AnalysisRun(models.Model):
    """One look at an experiment. Equal inputs have an equal `inputs_hash`, and so an equal verdict.

    `verdict` is an action of `experiments.policy`, `classes` those it halts, `units` those of the smallest arm of the
    phase in classes that are not halted. `results` is what `experiments.measuring.results` made of the counts. `error`
    is set when the look failed.
    """

    experiment = models.ForeignKey(Experiment, models.PROTECT, related_name="analyses")
    phase = models.ForeignKey(Phase, models.PROTECT, related_name="analyses")
    as_of = models.DateTimeField()
    inputs_hash = models.CharField(max_length=64, blank=True)
    verdict = models.CharField(max_length=20)
    reasons = models.JSONField(default=list)
    classes = models.JSONField(default=list)
    units = models.PositiveIntegerField(default=0)
    results = models.JSONField(default=dict)
    error = models.TextField(blank=True)

    objects = AnalysisRunQuerySet.as_manager()

    class Meta:
        ordering = ["-as_of", "-id"]
        indexes = [models.Index(fields=["experiment", "as_of"], name="analysis_by_experiment")]

    def __str__(self) -> str:
        return f"{self.verdict} for {self.experiment} at {self.as_of:%Y-%m-%dT%H:%M:%SZ}"
