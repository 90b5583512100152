from typing import Any

from rest_framework import serializers

from registry.models import Application, ConversionJob, ModelVersion, Role, Upload, Variant, VariantFile
from registry.models.applications import slug_validator


class ApplicationSerializer(serializers.ModelSerializer[Application]):
    channels = serializers.SlugRelatedField("slug", many=True, read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = Application
        fields = ["slug", "name", "created_at", "channels"]
        read_only_fields = ["created_at"]
        extra_kwargs = {"slug": {"validators": [slug_validator]}}


class ChannelRequest(serializers.Serializer[Any]):
    slug = serializers.CharField(validators=[slug_validator])


class UploadSerializer(serializers.ModelSerializer[Upload]):
    sha256 = serializers.CharField(source="artifact.sha256")
    size_bytes = serializers.IntegerField(source="artifact.size_bytes")

    class Meta:
        model = Upload
        fields = ["id", "file_name", "sha256", "size_bytes", "uploaded_at"]


class VersionRequest(serializers.Serializer[Any]):
    """What a push sends after its uploads."""

    source = serializers.IntegerField(min_value=1)  # type: ignore[assignment]
    evaluation_set = serializers.IntegerField(min_value=1, required=False, allow_null=True)
    labels = serializers.ListField(child=serializers.CharField(max_length=200), max_length=100_000, required=False)
    notes = serializers.CharField(required=False, allow_blank=True, max_length=10_000)
    recipes = serializers.ListField(child=serializers.CharField(max_length=63), max_length=100, required=False)


class JobSerializer(serializers.ModelSerializer[ConversionJob]):
    error = serializers.SerializerMethodField()

    class Meta:
        model = ConversionJob
        fields = ["recipe", "state", "attempts", "queued_at", "started_at", "finished_at", "error"]

    def get_error(self, job: ConversionJob) -> Any:
        return job.report.get("error")


class VariantFileSerializer(serializers.ModelSerializer[VariantFile]):
    sha256 = serializers.CharField(source="artifact.sha256")
    size_bytes = serializers.IntegerField(source="artifact.size_bytes")

    class Meta:
        model = VariantFile
        fields = ["path", "role", "media_type", "sha256", "size_bytes"]


class VariantSerializer(serializers.ModelSerializer[Variant]):
    files = VariantFileSerializer(many=True)

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
            "report",
            "created_at",
        ]


class VersionSerializer(serializers.ModelSerializer[ModelVersion]):
    model = serializers.CharField(source="model.slug")
    source_sha256 = serializers.CharField(source="source.sha256")
    evaluation_set_sha256 = serializers.CharField(source="evaluation_set.sha256", default=None)
    jobs = JobSerializer(many=True)
    variants = serializers.SlugRelatedField("name", many=True, read_only=True)  # type: ignore[var-annotated]

    class Meta:
        model = ModelVersion
        fields = [
            "model",
            "number",
            "source_format",
            "source_file_name",
            "source_sha256",
            "evaluation_set_sha256",
            "labels",
            "notes",
            "registered_by",
            "registered_at",
            "yanked_at",
            "yank_reason",
            "jobs",
            "variants",
        ]


class YankRequest(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=1000)


class DeviceClassRequest(serializers.Serializer[Any]):
    name = serializers.CharField(validators=[slug_validator])
    selector = serializers.DictField(required=False, default=dict)
    variants = serializers.ListField(child=serializers.CharField(max_length=63), min_length=1, max_length=50)
    delegate_order = serializers.ListField(child=serializers.CharField(max_length=20), required=False, default=list)


ROLE_NAMES = {role.label: role for role in Role}
