"""Webhooks and their deliveries."""

import uuid
from datetime import datetime

from django.db import models

from registry.models.applications import Application, RowVersionField, SlugField


class Webhook(models.Model):
    """An address of another system that is told of events. Its secrets are sealed with Django's secret key.

    While one secret replaces another, both sign; `previous_secret` falls away at `previous_until`.
    """

    application = models.ForeignKey(Application, models.CASCADE, related_name="webhooks")
    name = SlugField()
    url = models.CharField(max_length=2000)
    event_types = models.JSONField(default=list)  # none: all of them
    secret = models.TextField()
    previous_secret = models.TextField(blank=True)
    previous_until = models.DateTimeField(null=True, blank=True)
    # Why nothing is sent there any more; empty while it works.
    disabled_reason = models.CharField(max_length=200, blank=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    row_version = RowVersionField()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["application", "name"], name="webhook_name_per_application")]

    def __str__(self) -> str:
        return str(self.name)

    def wants(self, event_type: str) -> bool:
        return not self.disabled_reason and (not self.event_types or event_type in self.event_types)


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def due(self, now: datetime) -> "WebhookDeliveryQuerySet":
        return self.filter(state=WebhookDelivery.State.WAITING, next_attempt_at__lte=now)


class WebhookDelivery(models.Model):
    """One message to one webhook: written with what it tells of, then sent until it is taken or given up.

    `subject` names what happened; the same one is told to the same webhook once, however often its writer runs.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    message_id = models.UUIDField(default=uuid.uuid4)
    event_type = models.CharField(max_length=63)
    subject = models.CharField(max_length=255)
    body = models.TextField()
    state = models.CharField(max_length=20, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField()
    # Until then a message of the queue is thought to be on its way to a worker.
    enqueued_until = models.DateTimeField(null=True, blank=True)
    attempted_at = models.DateTimeField(null=True, blank=True)
    answer_status = models.PositiveSmallIntegerField(null=True, blank=True)
    answer = models.TextField(blank=True)  # its beginning, or why there was none

    objects = WebhookDeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["webhook", "event_type", "subject"], name="one_message_per_subject")
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], name="delivery_waiting", condition=models.Q(state="waiting"))
        ]

    def __str__(self) -> str:
        return f"{self.event_type} to {self.webhook}"
