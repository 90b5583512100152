"""What was served from when to when. Rows never change but for a phase's end; a trigger refuses all else."""

from typing import Any

from django.db import models

from experiments.models.experiments import Experiment
from experiments.ramps import size
from registry.models import ModelVersion
from registry.models.applications import SlugField


class Phase(models.Model):
    """A time during which nothing altered the split: results and the sample ratio test are per phase.

    `eligibility`: {"versions": {number: [variant names]}, "device_classes": {name: [variant names]}, "class_rules":
    [whole classes in their order, as published]} as they were when it opened; phases of earlier releases lack the last.
    `layer_salt` and `arm_salt` are the ones devices are drawn with.
    """

    experiment = models.ForeignKey(Experiment, models.PROTECT, related_name="phases")
    number = models.PositiveIntegerField()
    cause = models.CharField(max_length=20)
    percent_bp = models.PositiveIntegerField()
    step_position = models.PositiveIntegerField(null=True)
    seed = models.PositiveIntegerField()
    layer_salt = models.CharField(max_length=200)
    layer_first = models.PositiveIntegerField()
    layer_end = models.PositiveIntegerField()
    arm_salt = models.CharField(max_length=200)
    eligibility = models.JSONField(default=dict)
    opened_by = models.CharField(max_length=150)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "number"], name="phase_number_per_experiment"),
            models.UniqueConstraint(
                fields=["experiment"], condition=models.Q(closed_at__isnull=True), name="one_open_phase_per_experiment"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.experiment} phase {self.number}"

    @property
    def ranges(self) -> dict[str, Any]:
        """Bucket ranges by arm."""
        return {arm.name: arm.ranges for arm in self.arms.all()}

    @property
    def expected_shares(self) -> dict[str, float]:
        """The part of all assigned units that each arm should have, by its buckets; adds up to 1."""
        sizes = {name: size(ranges) for name, ranges in self.ranges.items()}
        total = sum(sizes.values())
        return {name: count / total if total else 0.0 for name, count in sizes.items()}


class Arm(models.Model):
    """What the units of some buckets get. `model_version` None: the model embedded in the app."""

    phase = models.ForeignKey(Phase, models.PROTECT, related_name="arms")
    name = SlugField()
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+", null=True)
    is_control = models.BooleanField(default=False)
    # Half-open, [[first, end], …]; stored, never computed again.
    ranges = models.JSONField(default=list)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["phase", "name"], name="arm_name_per_phase")]

    def __str__(self) -> str:
        return f"{self.phase}: {self.name}"
