"""What is sent and answered about uploads, models, their versions, and the jobs and variants of those."""

from typing import Any

from rest_framework import serializers

from registry.api.pages import PageQuery
from registry.api.serializers import Body
from registry.bundles import FILE_ROLES, MOST_FILES, MOST_PARTS, MOST_PATH_CHARACTERS
from registry.models import (
    ConversionJob,
    JobState,
    ModelVersion,
    RegisteredModel,
    Upload,
    Variant,
    VariantFile,
    VariantPart,
    VersionFile,
    VersionPart,
)
from registry.models.applications import slug_validator
from registry.services.lineage import lineage


class UploadSerializer(serializers.ModelSerializer[Upload]):
    sha256 = serializers.CharField(source="artifact.sha256")
    size_bytes = serializers.IntegerField(source="artifact.size_bytes")

    class Meta:
        model = Upload
        fields = ["id", "file_name", "sha256", "size_bytes", "uploaded_at"]


class UploadQuery(serializers.Serializer[Any]):
    """Documents what the view itself reads."""

    file_name = serializers.CharField(max_length=255)
    sha256 = serializers.RegexField("^[0-9a-f]{64}$", required=False)


class ModelSerializer(serializers.ModelSerializer[RegisteredModel]):
    versions = serializers.SerializerMethodField()

    class Meta:
        model = RegisteredModel
        fields = ["slug", "name", "created_at", "versions"]

    def get_versions(self, model: RegisteredModel) -> int:
        return model.versions.count()


class ModelRequest(Body):
    slug = serializers.CharField(validators=[slug_validator])
    name = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class ExtraFileRequest(Body):
    upload = serializers.IntegerField(min_value=1)
    role = serializers.ChoiceField(choices=FILE_ROLES)
    path = serializers.CharField(
        max_length=MOST_PATH_CHARACTERS, required=False, help_text="In the bundle; the upload's file name if none."
    )


class PartRequest(Body):
    name = serializers.CharField(max_length=63)
    model = serializers.CharField(max_length=63)
    version = serializers.IntegerField(min_value=1)


class VersionRequest(Body):
    """What a push sends after its uploads."""

    source = serializers.IntegerField(min_value=1)  # type: ignore[assignment]
    source_signature = serializers.CharField(
        max_length=200, required=False, allow_blank=True, help_text="Which of a SavedModel's; serving_default if none."
    )
    evaluation_set = serializers.IntegerField(min_value=1, required=False, allow_null=True)
    training_set = serializers.IntegerField(min_value=1, required=False, allow_null=True)
    metadata = serializers.DictField(required=False, help_text="docs/conversion.md lists its members.")
    labels = serializers.ListField(child=serializers.CharField(max_length=200), max_length=100_000, required=False)
    files = serializers.ListField(
        child=ExtraFileRequest(), max_length=MOST_FILES, required=False, help_text="Every variant holds them too."
    )
    parts = serializers.ListField(
        child=PartRequest(), max_length=MOST_PARTS, required=False, help_text="Versions of models that switch with it."
    )
    notes = serializers.CharField(required=False, allow_blank=True, max_length=10_000)
    recipes = serializers.ListField(child=serializers.CharField(max_length=63), max_length=100, required=False)
    profile = serializers.CharField(max_length=63, required=False, help_text="In place of recipes.")


class RecipesRequest(Body):
    recipes = serializers.ListField(
        child=serializers.CharField(max_length=63), min_length=1, max_length=100, required=False
    )
    profile = serializers.CharField(max_length=63, required=False, help_text="In place of recipes.")


class VersionQuery(PageQuery):
    yanked = serializers.BooleanField(required=False, allow_null=True, default=None)
    source_format = serializers.CharField(max_length=20, required=False)


class ErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()


class ProgressSerializer(serializers.Serializer[Any]):
    """How far a running job is; empty before and after."""

    step = serializers.CharField(default="")
    percent = serializers.IntegerField(default=0)


class JobSerializer(serializers.ModelSerializer[ConversionJob]):
    error = ErrorSerializer(source="report.error", default=None, allow_null=True)
    progress = ProgressSerializer()

    class Meta:
        model = ConversionJob
        fields = [
            "recipe",
            "base",
            "state",
            "priority",
            "progress",
            "attempts",
            "queued_at",
            "started_at",
            "finished_at",
            "cancel_requested_at",
            "error",
        ]


class PlacedJobSerializer(JobSerializer):
    """A job as it stands among those of all versions."""

    model = serializers.CharField(source="version.model.slug")
    version = serializers.IntegerField(source="version.number")

    class Meta(JobSerializer.Meta):
        fields = ["id", "model", "version", *JobSerializer.Meta.fields]


class JobReportSerializer(JobSerializer):
    report = serializers.DictField()

    class Meta(JobSerializer.Meta):
        fields = [*JobSerializer.Meta.fields, "log_tail", "report"]


class JobQuery(PageQuery):
    state = serializers.ChoiceField(choices=JobState.choices, required=False)
    model = serializers.CharField(max_length=63, required=False)
    recipe = serializers.CharField(max_length=63, required=False)


class VariantFileSerializer(serializers.ModelSerializer[VariantFile]):
    sha256 = serializers.CharField(source="artifact.sha256")
    size_bytes = serializers.IntegerField(source="artifact.size_bytes")

    class Meta:
        model = VariantFile
        fields = ["path", "role", "media_type", "sha256", "size_bytes"]


class VariantPartSerializer(serializers.ModelSerializer[VariantPart]):
    model = serializers.CharField(source="part.version.model.slug")
    version = serializers.IntegerField(source="part.version.number")
    variant = serializers.CharField(source="part.name")

    class Meta:
        model = VariantPart
        fields = ["name", "model", "version", "variant"]


class VariantSerializer(serializers.ModelSerializer[Variant]):
    files = VariantFileSerializer(many=True)
    parts = VariantPartSerializer(many=True)
    packages = serializers.DictField()
    report = serializers.DictField()
    lineage = serializers.SerializerMethodField()

    class Meta:
        model = Variant
        fields = [
            "name",
            "runtime",
            "min_runtime_version",
            "entry",
            "size_bytes",
            "tree_digest",
            "recipe_digest",
            "files",
            "packages",
            "parts",
            "report",
            "lineage",
            "created_at",
        ]

    def get_lineage(self, variant: Variant) -> dict[str, Any]:
        return lineage(variant)


class BriefReportField(serializers.DictField):
    """A report without the outcome of every sample, which is for comparing and grows with the evaluation set."""

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        brief = {name: member for name, member in value.items() if name != "outcomes"}
        found: dict[str, Any] = super().to_representation(brief)
        return found


class ListedVariantSerializer(VariantSerializer):
    """A variant among others."""

    report = BriefReportField()


class VersionFileSerializer(serializers.ModelSerializer[VersionFile]):
    sha256 = serializers.CharField(source="artifact.sha256")
    size_bytes = serializers.IntegerField(source="artifact.size_bytes")

    class Meta:
        model = VersionFile
        fields = ["path", "role", "media_type", "sha256", "size_bytes"]


class VersionPartSerializer(serializers.ModelSerializer[VersionPart]):
    model = serializers.CharField(source="part.model.slug")
    version = serializers.IntegerField(source="part.number")

    class Meta:
        model = VersionPart
        fields = ["name", "model", "version"]


class VersionSerializer(serializers.ModelSerializer[ModelVersion]):
    model = serializers.CharField(source="model.slug")
    source_sha256 = serializers.CharField(source="source.sha256")
    evaluation_set_sha256 = serializers.CharField(source="evaluation_set.sha256", default=None, allow_null=True)
    training_set_sha256 = serializers.CharField(source="training_set.sha256", default=None, allow_null=True)
    rebuilt_from = serializers.IntegerField(source="rebuilt_from.number", default=None, allow_null=True)
    metadata = serializers.DictField()
    labels = serializers.ListField(child=serializers.CharField())
    files = VersionFileSerializer(many=True)
    parts = VersionPartSerializer(many=True)
    jobs = JobSerializer(many=True)
    variants = serializers.SlugRelatedField("name", many=True, read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = ModelVersion
        fields = [
            "model",
            "number",
            "source_format",
            "source_file_name",
            "source_signature",
            "source_sha256",
            "evaluation_set_sha256",
            "training_set_sha256",
            "labels",
            "metadata",
            "files",
            "parts",
            "profile",
            "rebuilt_from",
            "notes",
            "registered_by",
            "registered_at",
            "yanked_at",
            "yank_reason",
            "jobs",
            "variants",
        ]
