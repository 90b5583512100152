"""What is sent and answered about webhooks."""

from typing import Any

from rest_framework import serializers

from registry.api.pages import PageQuery
from registry.api.serializers import Body
from registry.models import Webhook, WebhookDelivery
from registry.models.applications import slug_validator
from registry.webhooks.egress import MOST_URL_CHARACTERS
from registry.webhooks.messages import EVENT_TYPES


class WebhookChange(Body):
    url = serializers.CharField(max_length=MOST_URL_CHARACTERS)
    event_types = serializers.ListField(
        child=serializers.ChoiceField(choices=sorted(EVENT_TYPES)),
        default=list,
        max_length=len(EVENT_TYPES),
        help_text="none: all of them",
    )


class WebhookRequest(WebhookChange):
    name = serializers.CharField(max_length=63, validators=[slug_validator])


class WebhookDisabling(Body):
    reason = serializers.CharField(max_length=200)


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    class Meta:
        model = Webhook
        fields = ["name", "url", "event_types", "disabled_reason", "created_by", "created_at"]


class NewWebhookSerializer(WebhookSerializer):
    secret = serializers.CharField(help_text="`whsec_…`, shown this once")

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]


class DeliveryQuery(PageQuery):
    state = serializers.ChoiceField(choices=WebhookDelivery.State.choices, required=False)


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    body = serializers.CharField(help_text="the text that is signed and sent")

    class Meta:
        model = WebhookDelivery
        fields = [
            "id", "message_id", "event_type", "subject", "state", "attempts", "created_at", "attempted_at",
            "next_attempt_at", "answer_status", "answer", "body",
        ]  # fmt: skip


class SecretSerializer(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="`whsec_…`, shown this once; the former one signs too for a day")
