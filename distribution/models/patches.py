"""Rows about patches: which there are, and which bases beside published versions an app has."""

from django.db import models

from registry.models import Application, Artifact, RegisteredModel


class EmbeddedModel(models.Model):
    """A model file that an app of this application ships with: the first update can be a patch of it."""

    application = models.ForeignKey(Application, models.PROTECT, related_name="embedded_models")
    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="embedded_models")
    artifact = models.ForeignKey(Artifact, models.PROTECT, related_name="+")
    file_name = models.CharField(max_length=255)
    registered_by = models.CharField(max_length=150)
    registered_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["model", "artifact"], name="embedded_artifact_per_model")]

    def __str__(self) -> str:
        return f"{self.model}: {self.file_name} in the app"


class Patch(models.Model):
    """How an application's devices get from one file to another. Offered only once it was applied and worth it."""

    class State(models.TextChoices):
        WAITING = "waiting"  # to be made
        OFFERED = "offered"
        NOT_WORTH_IT = "not_worth_it"  # too near the full file's size
        TOO_LARGE = "too_large"  # base or target above the cap
        FAILED = "failed"  # memory, time, or a result that was not the target

    application = models.ForeignKey(Application, models.PROTECT, related_name="patches")
    target = models.ForeignKey(Artifact, models.PROTECT, related_name="+")
    base = models.ForeignKey(Artifact, models.PROTECT, related_name="+")
    algorithm = models.CharField(max_length=30)
    state = models.CharField(max_length=20, choices=State.choices, default=State.WAITING)
    length = models.PositiveBigIntegerField(null=True, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    detail = models.TextField(blank=True)
    requested_at = models.DateTimeField()
    made_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "patches"
        constraints = [
            models.UniqueConstraint(fields=["application", "target", "base", "algorithm"], name="patch_per_pair")
        ]

    def __str__(self) -> str:
        return f"{self.base.sha256[:12]} → {self.target.sha256[:12]}"
