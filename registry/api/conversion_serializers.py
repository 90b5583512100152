"""What is sent and answered about steering conversions, gates, measurements and second builds."""

from typing import Any

from rest_framework import serializers

from registry.api.serializers import Body
from registry.api.version_serializers import ErrorSerializer
from registry.models import ConversionProfile, DeviceBenchmark, GateOverride, RegisteredModel, Reproduction
from registry.models.applications import slug_validator
from registry.models.conversions import HIGHEST_PRIORITY, LOWEST_PRIORITY

LARGEST = 2**31 - 1


class PriorityRequest(Body):
    priority = serializers.IntegerField(min_value=LOWEST_PRIORITY, max_value=HIGHEST_PRIORITY)


class RebuildRequest(Body):
    notes = serializers.CharField(required=False, allow_blank=True, max_length=10_000, default="")


class MissSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    subject = serializers.CharField()
    expected = serializers.CharField()
    got = serializers.CharField()


class MatrixRowSerializer(serializers.Serializer[Any]):
    recipe = serializers.CharField()
    is_trace = serializers.BooleanField()
    base = serializers.CharField()
    state = serializers.CharField()
    priority = serializers.IntegerField()
    attempts = serializers.IntegerField()
    step = serializers.CharField()
    percent = serializers.IntegerField()
    log_tail = serializers.CharField()
    is_cancelling = serializers.BooleanField()
    can_cancel = serializers.BooleanField()
    can_retry = serializers.BooleanField()
    error = ErrorSerializer(allow_null=True)
    notes = serializers.ListField(child=serializers.CharField())
    seconds = serializers.FloatField(allow_null=True)
    peak_memory_bytes = serializers.IntegerField(allow_null=True)
    reused_from = serializers.CharField(allow_null=True)
    size_bytes = serializers.IntegerField(allow_null=True)
    compressed_size_bytes = serializers.IntegerField(allow_null=True)
    accuracy = serializers.DictField(allow_null=True)
    accuracy_lost = serializers.FloatField(allow_null=True)
    parity = serializers.DictField(allow_null=True)
    latency_host = serializers.DictField(allow_null=True)
    misses = MissSerializer(many=True)
    uncovered = MissSerializer(many=True)
    is_blocked = serializers.BooleanField()


class MatrixSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    version = serializers.IntegerField()
    is_open = serializers.BooleanField()
    rows = MatrixRowSerializer(many=True)


class ComparisonRowSerializer(serializers.Serializer[Any]):
    recipe = serializers.CharField()
    older = serializers.DictField(allow_null=True)
    newer = serializers.DictField(allow_null=True)
    difference = serializers.DictField(allow_null=True)


class ComparisonSerializer(serializers.Serializer[Any]):
    model = serializers.CharField()
    older = serializers.IntegerField()
    newer = serializers.IntegerField()
    rows = ComparisonRowSerializer(many=True)


class ProfileSerializer(serializers.ModelSerializer[ConversionProfile]):
    recipes = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ConversionProfile
        fields = ["name", "recipes", "is_default"]


class ProfileBody(Body):
    recipes = serializers.ListField(child=serializers.CharField(max_length=63), min_length=1, max_length=100)
    is_default = serializers.BooleanField(default=False)


class NewProfileBody(ProfileBody):
    name = serializers.CharField(validators=[slug_validator])


class GatesSerializer(serializers.ModelSerializer[RegisteredModel]):
    gates = serializers.DictField()

    class Meta:
        model = RegisteredModel
        fields = ["gates"]


class GatesBody(Body):
    """Members that are left out are no gate any more."""

    max_accuracy_loss = serializers.CharField(max_length=20, required=False, allow_null=True)
    max_bytes = serializers.IntegerField(min_value=1, max_value=2**53, required=False, allow_null=True)
    max_latency_us = serializers.DictField(
        child=serializers.IntegerField(min_value=1, max_value=LARGEST), required=False
    )
    required_recipes = serializers.ListField(child=serializers.CharField(max_length=63), max_length=100, required=False)


class OverrideSerializer(serializers.ModelSerializer[GateOverride]):
    misses = MissSerializer(many=True)

    class Meta:
        model = GateOverride
        fields = ["id", "reason", "actor", "at", "misses"]


class BenchmarkSerializer(serializers.ModelSerializer[DeviceBenchmark]):
    class Meta:
        model = DeviceBenchmark
        fields = ["id", "device_class", "device", "delegate", "p50_us", "p90_us", "runs", "reported_by", "at"]


class BenchmarkBody(Body):
    device_class = serializers.CharField(max_length=63)
    device = serializers.CharField(max_length=100)
    delegate = serializers.CharField(max_length=20, required=False, allow_blank=True, default="")
    p50_us = serializers.IntegerField(min_value=1, max_value=LARGEST)
    p90_us = serializers.IntegerField(min_value=1, max_value=LARGEST)
    runs = serializers.IntegerField(min_value=1, max_value=LARGEST)


class ComparedFileSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    expected = serializers.CharField(allow_null=True)
    got = serializers.CharField(allow_null=True)
    is_equal = serializers.BooleanField()


class ReproductionSerializer(serializers.ModelSerializer[Reproduction]):
    files = ComparedFileSerializer(many=True)
    converter_versions = serializers.DictField(help_text="Those that differ: name → {then, now}.")
    progress = serializers.DictField()

    class Meta:
        model = Reproduction
        fields = [
            "id",
            "state",
            "requested_by",
            "requested_at",
            "started_at",
            "finished_at",
            "progress",
            "files",
            "converter_versions",
            "detail",
        ]
