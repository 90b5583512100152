"""The signed tree in rows: who signs it, which documents it holds, and which state of it is the newest."""

from django.db import models

from registry.models import Application, Channel, RegisteredModel


class MinimumReleaseCounter(models.Model):
    """The publisher's word on a model: clients refuse files below this counter, whoever offers them. It only rises."""

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
