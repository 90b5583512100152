"""Which part of a model's devices an experiment may use, and which part none may."""

import uuid

from django.db import models

from registry.models import Channel, ModelVersion, RegisteredModel
from registry.models.applications import RowVersionField, SlugField

DEFAULT_LAYER = "default"


class Layer(models.Model):
    """10 000 buckets of one model's devices on one channel. Live experiments of a layer share none of them.

    `epoch` is part of the salt: counting it up draws all buckets anew, for which the layer must be free.
    """

    channel = models.ForeignKey(Channel, models.PROTECT, related_name="layers")
    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="layers")
    slug = SlugField(default=DEFAULT_LAYER)
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    epoch = models.PositiveIntegerField(default=1)
    row_version = RowVersionField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "model", "slug"], name="layer_slug_per_channel_and_model")
        ]

    def __str__(self) -> str:
        return f"{self.model} on {self.channel}: {self.slug}"

    @property
    def salt(self) -> str:
        return f"layer:{self.uuid}:{self.epoch}"


class LayerAllocation(models.Model):
    """The half-open range [first_bucket, end_bucket) of a layer that a live experiment holds.

    While `released_at` is empty, PostgreSQL refuses another row of the layer that overlaps (`allocation_exclusive`, an
    exclusion constraint on int4range, migration 0002).
    """

    layer = models.ForeignKey(Layer, models.PROTECT, related_name="allocations")
    experiment = models.ForeignKey("experiments.Experiment", models.PROTECT, related_name="allocations")
    first_bucket = models.PositiveIntegerField()
    end_bucket = models.PositiveIntegerField()
    claimed_at = models.DateTimeField()
    released_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["first_bucket", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(first_bucket__lt=models.F("end_bucket"), end_bucket__lte=10_000),
                name="allocation_within_10000_buckets",
            )
        ]

    def __str__(self) -> str:
        return f"[{self.first_bucket}, {self.end_bucket}) of {self.layer}"


class Holdback(models.Model):
    """A slice of a model's devices that stays on one version, whatever is released, while `lifted_at` is empty.

    Its salt survives releases and experiments, so that the same devices are held back. Lifting needs one person: a
    security fix must reach everybody. A yanked version holds nobody back.
    """

    channel = models.ForeignKey(Channel, models.PROTECT, related_name="holdbacks")
    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="holdbacks")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    epoch = models.PositiveIntegerField(default=1)
    percent_bp = models.PositiveIntegerField(default=200)
    until = models.DateTimeField(null=True, blank=True)
    lifted_at = models.DateTimeField(null=True, blank=True)
    row_version = RowVersionField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["channel", "model"], name="holdback_per_channel_and_model"),
            models.CheckConstraint(
                condition=models.Q(percent_bp__gte=1, percent_bp__lte=10_000), name="holdback_1_to_10000_bp"
            ),
        ]

    def __str__(self) -> str:
        return f"holdback of {self.model} on {self.channel}"

    @property
    def salt(self) -> str:
        return f"holdback:{self.uuid}:{self.epoch}"

    @property
    def span(self) -> tuple[int, int]:
        """The half-open bucket range that is held back."""
        return (0, self.percent_bp)
