"""What a device gets: releases and stops, and the signed revisions that were made of them."""

from typing import Self

from django.db import models

from distribution.channel_models import (
    Approval,
    ChannelSettings,
    DeliveryRules,
    Pin,
    ReleaseRequest,
    TestDevice,
)
from distribution.firebase.models import FirebaseModel, FirebaseObject, FirebaseOperation, FirebaseUploadSession
from distribution.patch_models import EmbeddedModel, Patch
from distribution.protection_models import (
    AppAttestKey,
    AttestationSettings,
    ContentKey,
    EncryptedFile,
    EncryptedVariant,
    KeyCall,
    ModelProtection,
)
from registry.models import Application, Channel, ModelVersion, RegisteredModel

__all__ = [
    "AppAttestKey",
    "Approval",
    "AttestationSettings",
    "ChannelSettings",
    "ContentKey",
    "DeliveryRules",
    "EmbeddedModel",
    "EncryptedFile",
    "EncryptedVariant",
    "FirebaseModel",
    "FirebaseObject",
    "FirebaseOperation",
    "FirebaseUploadSession",
    "KeyCall",
    "KillSwitch",
    "ManifestSet",
    "MinimumReleaseCounter",
    "ModelProtection",
    "Patch",
    "Pin",
    "Release",
    "ReleaseRequest",
    "Revision",
    "SignedDocument",
    "TestDevice",
    "TrustRole",
]


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


class MinimumReleaseCounter(models.Model):
    """The publisher's floor for a model: clients refuse files below it, whoever offers them. It only rises."""

    model = models.OneToOneField(RegisteredModel, models.PROTECT, related_name="minimum_release_counter")
    value = models.PositiveIntegerField(default=1)

    def __str__(self) -> str:
        return f"{self.model} ≥ {self.value}"


class TrustRole(models.Model):
    """A TUF role of an application and the public key that signs for it. Private keys are never in the database."""

    application = models.ForeignKey(Application, models.PROTECT, related_name="trust_roles")
    name = models.CharField(max_length=80)
    keyid = models.CharField(max_length=64)
    public_key = models.JSONField()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["application", "name"], name="trust_role_per_application")]

    def __str__(self) -> str:
        return f"{self.application}: {self.name}"


class SignedDocument(models.Model):
    """A document of the signed tree: its version, its place and its end. The bytes are in the tree."""

    application = models.ForeignKey(Application, models.PROTECT, related_name="signed_documents")
    role = models.CharField(max_length=80)
    version = models.PositiveIntegerField()
    path = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    length = models.PositiveIntegerField()
    expires_at = models.DateTimeField()
    signed_at = models.DateTimeField()
    # Whoever brought it, when it was signed elsewhere. Once a root was, the server signs none itself.
    imported_by = models.CharField(max_length=150, blank=True, default="", db_default="")

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["application", "path"], name="signed_document_path")]

    def __str__(self) -> str:
        return f"{self.application}: {self.path}"


class ManifestSet(models.Model):
    """The current manifests of one model in one channel: their common version, and a fingerprint of what they say.

    While the fingerprint stays and expiry is far, the same signed bytes are used again.
    """

    channel = models.ForeignKey(Channel, models.PROTECT, related_name="manifest_sets")
    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="manifest_sets")
    version = models.PositiveIntegerField()
    fingerprint = models.CharField(max_length=64)
    references = models.JSONField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["channel", "model"], name="manifest_set_per_channel_and_model")]

    def __str__(self) -> str:
        return f"{self.channel}: {self.model} manifest {self.version}"


class Revision(models.Model):
    """One state of an application's signed tree. Its number is the version of `timestamp.json`.

    The row is committed before the timestamp is written: it fences off a publisher that stalled in between.
    """

    application = models.ForeignKey(Application, models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    reason = models.TextField(blank=True)
    prepared_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["application", "number"], name="revision_number")]

    def __str__(self) -> str:
        return f"{self.application} revision {self.number}"
