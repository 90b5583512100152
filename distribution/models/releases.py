"""What is meant for a channel's devices, and what stops it."""

from typing import Self

from django.db import models

from registry.models import Channel, ModelVersion, RegisteredModel


class ReleaseQuerySet(models.QuerySet["Release"]):
    def to_channel(self) -> Self:
        """Those meant for every device of their channel, not for arms of experiments alone."""
        return self.exclude(state=Release.State.ARM)


class Release(models.Model):
    """A model version meant for a channel. The newest one whose files the publisher has signed is what devices get.

    Releases are never edited. A rollback is a new release of an earlier version. `release_counter` belongs to the
    model version: the publisher's count of what may be installed, which a client compares with the model's minimum.
    """

    class State(models.TextChoices):
        WAITING = "waiting"  # for the publisher's signature or for publishing
        LIVE = "live"
        SUPERSEDED = "superseded"
        ARM = "arm"  # for arms of experiments alone, so that the publisher signs it; it is current nowhere

    channel = models.ForeignKey(Channel, models.PROTECT, related_name="releases")
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="releases")
    release_counter = models.PositiveIntegerField()
    # Names of the variants that the gates let through; null in a release of before there were gates: all of them.
    variants = models.JSONField(null=True, blank=True)
    # The same in all releases of a version: devices are never offered its files both encrypted and plain.
    is_protected = models.BooleanField(default=False, db_default=False)
    state = models.CharField(max_length=20, choices=State.choices, default=State.WAITING)
    is_rollback = models.BooleanField(default=False)
    reason = models.TextField(blank=True)
    released_by = models.CharField(max_length=150)
    released_at = models.DateTimeField()
    live_revision = models.PositiveIntegerField(null=True, blank=True)

    objects = ReleaseQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.model_version} on {self.channel.slug}"

    def holds(self, variant: str) -> bool:
        """Is a variant of this name part of the release?"""
        return self.variants is None or variant in self.variants


def released_variants(releases: models.QuerySet[Release]) -> dict[int, set[str]]:
    """Version id -> the variants that any of these releases holds; a version that was released whole is left out."""
    found: dict[int, set[str]] = {}
    whole: set[int] = set()
    for version_id, names in releases.values_list("model_version_id", "variants"):
        if names is None:
            whole.add(version_id)
        else:
            found.setdefault(version_id, set()).update(names)
    return {version_id: names for version_id, names in found.items() if version_id not in whole}


class KillSwitch(models.Model):
    """An immediate stop: devices of the channel are told to run the model embedded in their app."""

    channel = models.ForeignKey(Channel, models.PROTECT, related_name="kill_switches")
    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="kill_switches")
    reason = models.TextField()
    engaged_by = models.CharField(max_length=150)
    engaged_at = models.DateTimeField()
    lifted_by = models.CharField(max_length=150, blank=True)
    lifted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "kill switches"
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "model"],
                condition=models.Q(lifted_at__isnull=True),
                name="one_engaged_kill_switch_per_model",
            )
        ]

    def __str__(self) -> str:
        return f"{self.model} on {self.channel.slug}"
