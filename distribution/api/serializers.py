"""What is sent and answered about releases, stops and revisions."""

from typing import Any

from rest_framework import serializers

from distribution.decision import Outcome
from distribution.models import KillSwitch, Release, Revision
from experiments.services import kept_apart
from registry.api.pages import PageQuery
from registry.api.serializers import Body


class ReleaseRequest(Body):
    model = serializers.CharField(max_length=63)
    version = serializers.IntegerField(min_value=1)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1000, default="")


class RollbackRequest(Body):
    model = serializers.CharField(max_length=63)
    to_version = serializers.IntegerField(min_value=1, required=False, allow_null=True, default=None)
    reason = serializers.CharField(max_length=1000)


class ReleaseSerializer(serializers.ModelSerializer[Release]):
    channel = serializers.CharField(source="channel.slug")
    model = serializers.CharField(source="model_version.model.slug")
    version = serializers.IntegerField(source="model_version.number")
    variants = serializers.ListField(child=serializers.CharField(), allow_null=True)

    class Meta:
        model = Release
        fields = [
            "id",
            "channel",
            "model",
            "version",
            "variants",
            "release_counter",
            "state",
            "is_rollback",
            "reason",
            "released_by",
            "released_at",
            "live_revision",
        ]


class ReleasedSerializer(ReleaseSerializer):
    """The answer to whoever just released something."""

    warnings = serializers.SerializerMethodField(help_text="Units that do not get it: of experiments, and held back.")

    class Meta(ReleaseSerializer.Meta):
        fields = [*ReleaseSerializer.Meta.fields, "warnings"]

    def get_warnings(self, row: Release) -> list[str]:
        return kept_apart(row.channel, row.model_version)


class ReleaseQuery(PageQuery):
    model = serializers.CharField(max_length=63, required=False)
    state = serializers.ChoiceField(choices=Release.State.choices, required=False)


class KillSwitchSerializer(serializers.ModelSerializer[KillSwitch]):
    channel = serializers.CharField(source="channel.slug")
    model = serializers.CharField(source="model.slug")

    class Meta:
        model = KillSwitch
        fields = ["id", "channel", "model", "reason", "engaged_by", "engaged_at", "lifted_by", "lifted_at"]


class KillSwitchQuery(PageQuery):
    model = serializers.CharField(max_length=63, required=False)
    engaged = serializers.BooleanField(required=False, allow_null=True, default=None)


class LiftQuery(serializers.Serializer[Any]):
    reason = serializers.CharField(
        max_length=1000, required=False, help_text="Here or as the body's member of the same name."
    )


class RevisionSerializer(serializers.ModelSerializer[Revision]):
    class Meta:
        model = Revision
        fields = ["number", "reason", "prepared_at", "published_at"]


class RootSerializer(serializers.Serializer[Any]):
    """A TUF root as python-tuf writes it."""

    signed = serializers.DictField()
    signatures = serializers.ListField(child=serializers.DictField())


class ExplainQuery(serializers.Serializer[Any]):
    """A poll's own query; `unit` may come in the header Aerogram-Unit, which no log keeps."""

    os = serializers.CharField(required=False, allow_blank=True)
    os_version = serializers.CharField(required=False, allow_blank=True)
    app_version = serializers.CharField(required=False, allow_blank=True)
    runtime = serializers.CharField(required=False, allow_blank=True)
    runtime_version = serializers.CharField(required=False, allow_blank=True)
    device = serializers.CharField(required=False, allow_blank=True, help_text="maker/model")
    soc = serializers.CharField(required=False, allow_blank=True)
    ram_mb = serializers.CharField(required=False, allow_blank=True, help_text="MiB")
    accelerators = serializers.CharField(required=False, allow_blank=True, help_text="A comma list: gpu,npu")
    current = serializers.CharField(required=False, allow_blank=True, help_text="model:version that it runs now")
    unit = serializers.CharField(required=False, allow_blank=True, help_text="Or in the header Aerogram-Unit.")


class StepSerializer(serializers.Serializer[Any]):
    rule = serializers.CharField()
    outcome = serializers.ChoiceField(choices=[outcome.value for outcome in Outcome])
    detail = serializers.CharField()
    name = serializers.CharField(allow_blank=True, help_text="The device class, experiment or variant.")


class ExplanationSerializer(serializers.Serializer[Any]):
    revision = serializers.IntegerField()
    decision = serializers.DictField()
    manifest = serializers.DictField(allow_null=True)
    steps = StepSerializer(many=True)
    first_failed = StepSerializer(allow_null=True)
    encryption = serializers.DictField(allow_null=True, help_text="Of a protected variant, which has no patches.")
