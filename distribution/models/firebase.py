"""Rows of the Firebase-compatible admin API: what it says of a model beyond what the registry knows."""

import hashlib

from django.db import models

from registry.models import Application, ModelVersion, Upload
from registry.models.applications import SlugField


class FirebaseModel(models.Model):
    """A model as the Firebase ML admin API shows it. Its bytes and releases are those of a registered model.

    `slug` is that registered model; devices ask by `display_name`. `published` is what its owner wants; what devices
    get follows once the version is converted, released and signed.
    """

    application = models.ForeignKey(Application, models.PROTECT, related_name="firebase_models")
    model_id = models.CharField(max_length=60)
    display_name = models.CharField(max_length=32)
    slug = SlugField()
    tags = models.JSONField(default=list)
    gcs_uri = models.CharField(max_length=1200, blank=True)
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+", null=True)
    validation_error = models.JSONField(null=True)
    published = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["application", "model_id"], name="firebase_model_id"),
            models.UniqueConstraint(fields=["application", "display_name"], name="firebase_display_name"),
            models.UniqueConstraint(fields=["application", "slug"], name="firebase_slug"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return f"projects/{self.application.slug}/models/{self.model_id}"

    @property
    def etag(self) -> str:
        return hashlib.sha256(f"{self.pk}:{self.updated_at.isoformat()}".encode()).hexdigest()[:32]


class FirebaseOperation(models.Model):
    """A long-running operation on a model: open until what it asked for is at devices, or cannot be.

    `acted_at`: when the release was asked for; it is at devices once no older request to publish is left.
    """

    model = models.ForeignKey(FirebaseModel, models.CASCADE, related_name="operations")
    actor = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    acted_at = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True)
    error = models.JSONField(null=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return f"projects/{self.model.application.slug}/operations/{self.pk}"


class FirebaseObject(models.Model):
    """An upload under the name that `gs://<application>/<name>` gives it. A second one of the name takes its place."""

    application = models.ForeignKey(Application, models.PROTECT, related_name="firebase_objects")
    name = models.CharField(max_length=1024)
    upload = models.ForeignKey(Upload, models.CASCADE, related_name="+")
    crc32c = models.CharField(max_length=8)
    md5 = models.CharField(max_length=24)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["application", "name"], name="firebase_object_name")]

    def __str__(self) -> str:
        return f"gs://{self.application.slug}/{self.name}"


class FirebaseUploadSession(models.Model):
    """A resumable upload on its way: the staging keys of the pieces that have come, in order."""

    application = models.ForeignKey(Application, models.PROTECT, related_name="+")
    token = models.CharField(max_length=64, unique=True)
    object_name = models.CharField(max_length=1024)
    parts = models.JSONField(default=list)
    received_bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.object_name}, {self.received_bytes} bytes so far"
