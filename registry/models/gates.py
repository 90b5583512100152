"""What is built of a model, which variants may be released although they miss a gate, and what devices measured."""

from django.db import models

from registry.models.applications import RowVersionField, SlugField
from registry.models.versions import RegisteredModel, Variant


class ConversionProfile(models.Model):
    """A named set of recipes: what a push produces that names the profile, or none and this is the default."""

    model = models.ForeignKey(RegisteredModel, models.CASCADE, related_name="profiles")
    name = SlugField()
    recipes = models.JSONField(default=list)
    is_default = models.BooleanField(default=False)
    row_version = RowVersionField()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["model", "name"], name="profile_name_per_model"),
            models.UniqueConstraint(
                fields=["model"], condition=models.Q(is_default=True), name="one_default_profile_per_model"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model}/{self.name}"


class GateOverride(models.Model):
    """A person's decision to release a variant that misses its model's gates. A trigger refuses changes.

    It covers the misses that were seen, not others that come later.
    """

    variant = models.ForeignKey(Variant, models.PROTECT, related_name="overrides")
    reason = models.TextField()
    actor = models.CharField(max_length=150)
    at = models.DateTimeField()
    misses = models.JSONField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.variant} by {self.actor}"


class DeviceBenchmark(models.Model):
    """What one inference of a variant takes on a real device, as somebody reported it. A trigger refuses changes."""

    variant = models.ForeignKey(Variant, models.PROTECT, related_name="benchmarks")
    device_class = SlugField()
    device = models.CharField(max_length=100)
    delegate = models.CharField(max_length=20, blank=True)
    p50_us = models.PositiveIntegerField()
    p90_us = models.PositiveIntegerField()
    runs = models.PositiveIntegerField()
    reported_by = models.CharField(max_length=150)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.variant} on {self.device}"
