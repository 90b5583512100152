"""Bytes by digest, models, their immutable versions, and the variants that conversions made of those."""

from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models.expressions import Value

from registry.models.applications import Application, RowVersionField, SlugField


class Artifact(models.Model):
    """Immutable bytes known by digest. One row however many versions use them; a trigger refuses changes."""

    sha256 = models.CharField(max_length=64, unique=True)
    size_bytes = models.PositiveBigIntegerField()
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.sha256


class Upload(models.Model):
    """Bytes that a caller sent to an application, waiting to become part of a version."""

    application = models.ForeignKey(Application, models.CASCADE, related_name="uploads")
    artifact = models.ForeignKey(Artifact, models.PROTECT)
    file_name = models.CharField(max_length=255)
    uploaded_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    uploaded_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.file_name


class RegisteredModel(models.Model):
    """A named line of work that owns versions."""

    application = models.ForeignKey(Application, models.PROTECT, related_name="registered_models")
    slug = SlugField()
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    gates = models.JSONField(default=dict, blank=True, db_default=Value({}, models.JSONField()))
    row_version = RowVersionField()

    class Meta:
        ordering = ["slug"]
        verbose_name = "model"
        constraints = [models.UniqueConstraint(fields=["application", "slug"], name="model_slug_per_application")]

    def __str__(self) -> str:
        return str(self.slug)


class ModelVersion(models.Model):
    """One immutable trained result. After registration only a yank may be added; a trigger refuses all else."""

    model = models.ForeignKey(RegisteredModel, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    source = models.ForeignKey(Artifact, models.PROTECT, related_name="+")
    source_format = models.CharField(max_length=20)
    source_file_name = models.CharField(max_length=255)
    source_signature = models.CharField(max_length=200, blank=True, default="", db_default="")
    evaluation_set = models.ForeignKey(Artifact, models.PROTECT, related_name="+", null=True, blank=True)
    training_set = models.ForeignKey(Artifact, models.PROTECT, related_name="+", null=True, blank=True)
    labels = models.JSONField(default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True, db_default=Value({}, models.JSONField()))
    profile = models.CharField(max_length=63, blank=True, default="", db_default="")
    rebuilt_from = models.ForeignKey("self", models.PROTECT, related_name="rebuilds", null=True, blank=True)
    inspection = models.JSONField(default=dict)
    notes = models.TextField(blank=True)
    registered_by = models.CharField(max_length=150)
    registered_at = models.DateTimeField()
    yanked_at = models.DateTimeField(null=True, blank=True)
    yank_reason = models.TextField(blank=True)

    class Meta:
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["model", "number"], name="version_number_per_model")]

    def __str__(self) -> str:
        return f"{self.model.slug}:{self.number}"


class VersionFile(models.Model):
    """An extra file of a version: every variant of it holds this too, and they switch together."""

    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="files")
    path = models.CharField(max_length=200)
    role = models.CharField(max_length=20)
    media_type = models.CharField(max_length=100)
    artifact = models.ForeignKey(Artifact, models.PROTECT, related_name="+")

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["version", "path"], name="file_path_per_version")]

    def __str__(self) -> str:
        return self.path


class VersionPart(models.Model):
    """Another model's version whose files every variant of this one holds below `name`: a decoder for its encoder."""

    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="parts")
    name = models.CharField(max_length=63)
    part = models.ForeignKey(ModelVersion, models.PROTECT, related_name="part_of")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["version", "name"], name="part_name_per_version")]

    def __str__(self) -> str:
        return f"{self.name}: {self.part}"


class VariantQuerySet(models.QuerySet["Variant"]):
    def with_parts_in_use(self) -> Self:
        """Without those that hold a part of a version that was yanked."""
        yanked = VariantPart.objects.filter(part__version__yanked_at__isnull=False)
        return self.exclude(pk__in=yanked.values("variant_id"))


class Variant(models.Model):
    """A version built for one format and precision, with what the conversion cost.

    `packages` maps each package directory among its files to {"tree_sha256", "archive": path of its zip}.
    """

    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="variants")
    name = models.CharField(max_length=63)
    runtime = models.CharField(max_length=20)
    min_runtime_version = models.CharField(max_length=20, blank=True)
    entry = models.CharField(max_length=255)
    tree_digest = models.CharField(max_length=64)
    size_bytes = models.PositiveBigIntegerField()
    recipe_digest = models.CharField(max_length=64)
    report = models.JSONField()
    packages = models.JSONField(default=dict, blank=True, db_default=Value({}, models.JSONField()))
    created_at = models.DateTimeField()

    objects: ClassVar[Any] = VariantQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["version", "name"], name="variant_name_per_version")]

    def __str__(self) -> str:
        return f"{self.version} {self.name}"


class VariantFile(models.Model):
    variant = models.ForeignKey(Variant, models.PROTECT, related_name="files")
    path = models.CharField(max_length=255)
    role = models.CharField(max_length=20)
    media_type = models.CharField(max_length=100)
    artifact = models.ForeignKey(Artifact, models.PROTECT, related_name="+")

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["variant", "path"], name="file_path_per_variant")]

    def __str__(self) -> str:
        return self.path


class VariantPart(models.Model):
    """The variant of a part whose files stand in this variant below its name."""

    variant = models.ForeignKey(Variant, models.PROTECT, related_name="parts")
    name = models.CharField(max_length=63)
    part = models.ForeignKey(Variant, models.PROTECT, related_name="part_of")

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["variant", "name"], name="part_name_per_variant")]

    def __str__(self) -> str:
        return f"{self.name}: {self.part}"
