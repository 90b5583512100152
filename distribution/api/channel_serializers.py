"""What is sent and answered about a channel's own rules."""

from typing import Any

from rest_framework import serializers

from distribution.models import ChannelSettings, DeliveryRules, Pin, ReleaseRequest, TestDevice
from registry.api.serializers import Body


class SettingsRequest(Body):
    approvals_required = serializers.IntegerField(min_value=0, max_value=5, help_text="Other people, for a release.")
    lift_approvals_required = serializers.IntegerField(
        min_value=0, max_value=5, help_text="Other people, for serving again after a kill switch."
    )


class ChannelSettingsSerializer(serializers.ModelSerializer[ChannelSettings]):
    class Meta:
        model = ChannelSettings
        fields = ["approvals_required", "lift_approvals_required"]


class ReleaseRequestRequest(Body):
    action = serializers.ChoiceField(choices=ReleaseRequest.Action.choices, default="publish")
    model = serializers.CharField(max_length=63)
    version = serializers.IntegerField(min_value=1, required=False, allow_null=True, default=None)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1000, default="")
    publish_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class ReleaseRequestChange(Body):
    version = serializers.IntegerField(min_value=1, required=False)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1000)
    publish_at = serializers.DateTimeField(required=False, allow_null=True)


class RequestedReleaseSerializer(serializers.ModelSerializer[ReleaseRequest]):
    channel = serializers.CharField(source="channel.slug")
    model = serializers.CharField(source="model.slug")
    version = serializers.IntegerField(source="version.number", allow_null=True, default=None)
    approved_by = serializers.ListField(child=serializers.CharField(), source="approvers")
    release = serializers.IntegerField(source="release_id", allow_null=True)

    class Meta:
        model = ReleaseRequest
        fields = [
            "id",
            "channel",
            "action",
            "model",
            "version",
            "reason",
            "publish_at",
            "state",
            "edition",
            "requested_by",
            "requested_at",
            "edited_by",
            "approved_by",
            "release",
            "outcome",
        ]


class PromoteRequest(Body):
    model = serializers.CharField(max_length=63)
    from_channel = serializers.CharField(max_length=63)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1000, default="")


class FloorsSerializer(serializers.ModelSerializer[DeliveryRules]):
    floors = serializers.ListField(child=serializers.IntegerField(min_value=1), max_length=100)

    class Meta:
        model = DeliveryRules
        fields = ["floors"]


class PinRequest(Body):
    version = serializers.IntegerField(min_value=1)
    unit = serializers.CharField(max_length=128, required=False, allow_null=True, default=None)
    test_device = serializers.IntegerField(min_value=1, required=False, allow_null=True, default=None)
    label = serializers.CharField(max_length=100, required=False, allow_blank=True, default="")  # type: ignore[assignment]


class PinSerializer(serializers.ModelSerializer[Pin]):
    version = serializers.IntegerField(source="version.number")

    class Meta:
        model = Pin
        fields = ["id", "version", "unit_key", "label", "pinned_by", "pinned_at"]


class TestDeviceRequest(Body):
    __test__ = False
    name = serializers.CharField(max_length=100)


class TestDeviceSerializer(serializers.ModelSerializer[TestDevice]):
    __test__ = False

    class Meta:
        model = TestDevice
        fields = ["id", "name", "invited_by", "invited_at", "expires_at", "unit_key", "enrolled_at"]


class InvitationSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    token = serializers.CharField(help_text="Shown this once.")
    url = serializers.CharField(help_text="What the QR code says.")
    qr_svg = serializers.CharField()
    expires_at = serializers.DateTimeField()


class EnrolmentRequest(Body):
    token = serializers.CharField(max_length=100)
    unit = serializers.CharField(max_length=128, help_text="The installation's id; it is not stored.")


class EnrolmentSerializer(serializers.Serializer[Any]):
    application = serializers.CharField()
    channel = serializers.CharField(help_text="The one to poll from now on.")
    name = serializers.CharField()
    device_url = serializers.CharField()
