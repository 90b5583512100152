"""What devices reported."""

from django.db import models


class DeviceEvent(models.Model):
    """One thing that happened on one device. The device made `event_id`; the same id counts once."""

    event_id = models.UUIDField(primary_key=True)
    application = models.CharField(max_length=63)
    unit = models.CharField(max_length=200, blank=True)
    received_at = models.DateTimeField()
    at = models.DateTimeField()
    stage = models.CharField(max_length=20)
    outcome = models.CharField(max_length=20)
    model = models.CharField(max_length=63)
    version = models.PositiveIntegerField(null=True)
    variant = models.CharField(max_length=63, blank=True)
    duration_ms = models.PositiveBigIntegerField(null=True)
    size_bytes = models.PositiveBigIntegerField(null=True)
    error = models.CharField(max_length=200, blank=True)
    histogram = models.JSONField(null=True)
    profile = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["application", "model", "received_at"], name="event_by_model_and_time")]

    def __str__(self) -> str:
        return f"{self.stage} {self.outcome} {self.model}:{self.version}"
