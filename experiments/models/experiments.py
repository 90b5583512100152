"""An experiment: what it compares, how it is to be ramped, and how far it is."""

import uuid
from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models.expressions import Value

from experiments.lifecycle import LIVE, SERVED, Kind, State
from experiments.models.layers import Layer
from registry.models import Application, Channel, RegisteredModel
from registry.models.applications import RowVersionField, SlugField

if TYPE_CHECKING:
    from experiments.models.phases import Phase


class ExperimentQuerySet(models.QuerySet["Experiment"]):
    def live(self) -> Self:
        """Those that hold a part of their layer."""
        return self.filter(state__in=LIVE)

    def served(self) -> Self:
        """Those that devices are told of."""
        return self.filter(state__in=SERVED)

    def rollouts(self) -> Self:
        return self.filter(kind=Kind.ROLLOUT)


class Experiment(models.Model):
    """A comparison of versions of one model on one channel. A rollout's control is the current release.

    `arms`: [{"name", "version" (number, null: the model embedded in the app), "control", "share_bp"}] as designed; what
    is served stands in the arms of the present phase. `edition` counts what has to be approved: an approval is of one
    edition, so that an edit voids it. `awaiting` names what the present edition asks approval for.
    """

    class Awaiting(models.TextChoices):
        NOTHING = "", "nothing"
        START = "start"
        RESUME = "resume"
        STEP = "step"

    application = models.ForeignKey(Application, models.PROTECT, related_name="experiments")
    channel = models.ForeignKey(Channel, models.PROTECT, related_name="experiments")
    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="experiments")
    slug = SlugField()
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    kind = models.CharField(max_length=20, choices=[(kind.value, kind.value) for kind in Kind])
    state = models.CharField(
        max_length=20, choices=[(state.value, state.value) for state in State], default=State.DRAFT.value
    )
    hypothesis = models.TextField(blank=True)
    arms = models.JSONField(default=list)
    policy = models.JSONField(default=dict, blank=True, db_default=Value({}, models.JSONField()))
    layer = models.ForeignKey(Layer, models.PROTECT, related_name="experiments")
    layer_first = models.PositiveIntegerField(default=0)
    layer_end = models.PositiveIntegerField(default=10_000)
    seed = models.PositiveIntegerField(default=1)
    starts_at = models.DateTimeField(null=True, blank=True)

    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    edited_by = models.CharField(max_length=150, blank=True)
    # Everybody who ever changed the design; `edited_by` also names who asked last to go on after a halt.
    editors = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    edition = models.PositiveIntegerField(default=1)
    awaiting = models.CharField(max_length=20, choices=Awaiting.choices, blank=True, default=Awaiting.NOTHING)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    # The step of the plan that the present percentage came from, and since when: null before the start.
    step_position = models.PositiveIntegerField(null=True, blank=True)
    step_since = models.DateTimeField(null=True, blank=True)
    halted_classes = models.JSONField(default=list, blank=True, db_default=Value([], models.JSONField()))
    state_reason = models.TextField(blank=True)
    row_version = RowVersionField()

    objects = ExperimentQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["application", "slug"], name="experiment_slug_per_application"),
            models.CheckConstraint(
                condition=models.Q(layer_first__lt=models.F("layer_end"), layer_end__lte=10_000),
                name="experiment_within_10000_buckets",
            ),
        ]

    def __str__(self) -> str:
        return str(self.slug)

    @property
    def arm_salt(self) -> str:
        """Independent of the layer's: membership must not tell the arm."""
        return f"arm:{self.uuid}:{self.seed}"

    @property
    def authors(self) -> set[str]:
        """Whoever had a hand in what the present edition says; none of them may approve it."""
        return {self.created_by, self.edited_by, *self.editors} - {""}

    @property
    def phase(self) -> "Phase | None":
        """The open one, None before the start and after the end."""
        return self.phases.filter(closed_at__isnull=True).first()

    @property
    def step(self) -> "Step | None":
        return None if self.step_position is None else self.steps.filter(position=self.step_position).first()

    @property
    def next_step(self) -> "Step | None":
        return self.steps.filter(position__gt=-1 if self.step_position is None else self.step_position).first()

    def approvers(self) -> list[str]:
        """Of what the present edition asks for, first first."""
        found = self.approvals.filter(edition=self.edition, purpose=self.awaiting)
        return list(found.values_list("approved_by", flat=True))


class Step(models.Model):
    """One step of the plan, left only when all hold: the time, the sample, no hold, and the approval it asks for.

    `monitored` false: the sample and the verdict do not matter, only the time does.
    """

    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="steps")
    position = models.PositiveIntegerField()
    percent_bp = models.PositiveIntegerField()
    hold_seconds = models.PositiveIntegerField(default=0)
    min_units = models.PositiveIntegerField(default=0)
    needs_approval = models.BooleanField(default=False)
    monitored = models.BooleanField(default=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["experiment", "position"], name="step_position_per_experiment"),
            models.CheckConstraint(condition=models.Q(percent_bp__lte=10_000), name="step_up_to_10000_bp"),
        ]

    def __str__(self) -> str:
        return f"{self.experiment} step {self.position}: {self.percent_bp / 100:g} %"


class Approval(models.Model):
    """One person's yes to one edition."""

    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="approvals")
    edition = models.PositiveIntegerField()
    purpose = models.CharField(max_length=20)
    approved_by = models.CharField(max_length=150)
    approved_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["experiment", "edition", "purpose", "approved_by"], name="experiment_approval_once_per_person"
            )
        ]

    def __str__(self) -> str:
        return f"{self.approved_by}: {self.purpose} of {self.experiment}"


class Override(models.Model):
    """One unit that gets one arm whatever its bucket. It enters no analysis.

    `unit_key` is what the catalog publishes, SHA-256(salt:unit): the unit itself is never stored.
    """

    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="overrides")
    unit_key = models.CharField(max_length=64)
    arm = SlugField()
    reason = models.TextField(blank=True)
    set_by = models.CharField(max_length=150)
    set_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["experiment", "unit_key"], name="one_override_per_unit")]

    def __str__(self) -> str:
        return f"{self.unit_key[:12]}: {self.arm} of {self.experiment}"
