"""Webhooks of an application and what was sent to them."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from registry import errors
from registry.api.base import NounView, Verb
from registry.api.webhook_serializers import (
    DeliveryQuery,
    DeliverySerializer,
    NewWebhookSerializer,
    SecretSerializer,
    WebhookChange,
    WebhookDisabling,
    WebhookRequest,
    WebhookSerializer,
)
from registry.models import Role, Webhook, WebhookDelivery
from registry.services import webhooks


class WebhooksView(NounView):
    verbs = {
        "GET": Verb(summary="Who is told of events", role=Role.ADMINISTRATOR, answer=WebhookSerializer, many=True),
        "POST": Verb(
            summary="Tell an address of events; the secret is shown this once",
            role=Role.ADMINISTRATOR,
            body=WebhookRequest,
            answer=NewWebhookSerializer,
            status=201,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.page(request, self.application.webhooks.all(), by="name")

    def post(self, request: Request) -> Response:
        if "Idempotency-Key" in request.headers:
            # The kept answer would hold the secret.
            raise errors.Invalid("expected no Idempotency-Key, for a secret is never kept", field="Idempotency-Key")
        wanted = self.body(request)
        row, secret = webhooks.create_webhook(
            application=self.application, actor=self.actor(request), now=timezone.now(), **wanted
        )
        row.secret = secret  # never saved: only shown
        return self.shown(request, row)


class OneWebhookView(NounView):
    """What addresses below one webhook share."""

    def found(self, name: str) -> Webhook:
        row = self.application.webhooks.filter(name=name).first()
        if row is None:
            raise errors.NotFound(f"expected a webhook of {self.application}, got {name!r}", field="webhook")
        return row

    def delivery(self, name: str, pk: int) -> WebhookDelivery:
        row = self.found(name).deliveries.filter(pk=pk).first()
        if row is None:
            raise errors.NotFound(f"expected the id of a delivery to {name}, got {pk}", field="delivery")
        return row


class WebhookView(OneWebhookView):
    verbs = {
        "GET": Verb(summary="One webhook", role=Role.ADMINISTRATOR, answer=WebhookSerializer),
        "PUT": Verb(
            summary="Change where it goes and of what; enables one that was disabled",
            role=Role.ADMINISTRATOR,
            body=WebhookChange,
            answer=WebhookSerializer,
            conditional=True,
        ),
        "DELETE": Verb(
            summary="Delete a webhook and its deliveries", role=Role.ADMINISTRATOR, status=204, conditional=True
        ),
    }

    def get(self, request: Request, webhook: str) -> Response:
        return self.shown(request, self.found(webhook))

    def put(self, request: Request, webhook: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, self.found(webhook)) as row:
            webhooks.change_webhook(webhook=row, actor=self.actor(request), now=timezone.now(), **wanted)
            row.refresh_from_db()
        return self.shown(request, row)

    def delete(self, request: Request, webhook: str) -> Response:
        with self.unchanged(request, self.found(webhook)) as row:
            webhooks.delete_webhook(webhook=row, actor=self.actor(request), now=timezone.now())
        return Response(status=204)


class DisableWebhookView(OneWebhookView):
    verbs = {
        "POST": Verb(
            summary="Tell it nothing any more, nor what waits, until it is changed",
            role=Role.ADMINISTRATOR,
            body=WebhookDisabling,
            answer=WebhookSerializer,
        )
    }

    def post(self, request: Request, webhook: str) -> Response:
        row, wanted = self.found(webhook), self.body(request)
        webhooks.disable_webhook(webhook=row, actor=self.actor(request), now=timezone.now(), **wanted)
        return self.shown(request, row)


class RotateSecretView(OneWebhookView):
    verbs = {
        "POST": Verb(
            summary="Make a new secret, shown this once; for a day messages are signed with both",
            role=Role.ADMINISTRATOR,
            answer=SecretSerializer,
        )
    }

    def post(self, request: Request, webhook: str) -> Response:
        secret = webhooks.rotate_secret(webhook=self.found(webhook), actor=self.actor(request), now=timezone.now())
        return self.shown(request, {"secret": secret})


class TestView(OneWebhookView):
    verbs = {
        "POST": Verb(
            summary="Send a message of the type webhook.test",
            role=Role.ADMINISTRATOR,
            answer=DeliverySerializer,
            status=201,
        )
    }

    def post(self, request: Request, webhook: str) -> Response:
        made = webhooks.send_test(webhook=self.found(webhook), actor=self.actor(request), now=timezone.now())
        return self.shown(request, made)


class DeliveriesView(OneWebhookView):
    verbs = {
        "GET": Verb(
            summary="What was sent and what came back, newest first; kept for 30 days",
            role=Role.ADMINISTRATOR,
            query=DeliveryQuery,
            answer=DeliverySerializer,
            many=True,
        )
    }

    def get(self, request: Request, webhook: str) -> Response:
        rows = self.found(webhook).deliveries.all()
        state = self.query(request).get("state")
        return self.page(request, rows.filter(state=state) if state else rows, by="-id")


class DeliveryView(OneWebhookView):
    verbs = {"GET": Verb(summary="One delivery", role=Role.ADMINISTRATOR, answer=DeliverySerializer)}

    def get(self, request: Request, webhook: str, delivery: int) -> Response:
        return self.shown(request, self.delivery(webhook, delivery))


class RedeliverView(OneWebhookView):
    verbs = {
        "POST": Verb(
            summary="Send the same message again, with the same id",
            role=Role.ADMINISTRATOR,
            answer=DeliverySerializer,
        )
    }

    def post(self, request: Request, webhook: str, delivery: int) -> Response:
        row = self.delivery(webhook, delivery)
        webhooks.redeliver(delivery=row, actor=self.actor(request), now=timezone.now())
        row.refresh_from_db()
        return self.shown(request, row)
