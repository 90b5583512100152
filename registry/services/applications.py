"""Applications and their channels, and what a new one starts with."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from registry import errors
from registry.models import Application, AuditEntry, Channel, DeviceClass, PublishRequest
from registry.models.applications import slug_validator

# What a new application starts with: of the variants that a version has, a device gets the first that runs on it. The
# smallest that lost nothing on most models come first, then what is larger, then what lost more. Variants that trade
# accuracy for bytes on purpose (pruned, clustered, of three bits and fewer) are offered by no class until somebody puts
# them there: no phone should get one because it happened to be built.
LITERT_VARIANTS = [
    "tflite-full-int8",
    "tflite-full-int8-float-io",
    "tflite-full-uint8",
    "tflite-dynamic-int8",
    "tflite-weight-int8",
    "tflite-float16",
    "tflite-float32",
    "tflite-mixed-int8-int4",
    "tflite-dynamic-int4",
    "tflite-weight-int4",
    "tflite-as-is",
    "tflite-repaired",
]
COREML_VARIANTS = [
    "coreml-linear-int8",
    "coreml-lut-8",
    "coreml-lut-6",
    "coreml-fp16",
    "coreml-fp32",
    "coreml-lut-4-grouped",
    "coreml-linear-int4-block32",
    "coreml-lut-4",
    "coreml-as-is",
]
ONNX_VARIANTS = ["ort-static-int8", "ort-dynamic-int8", "onnx-float32"]
DEFAULT_DEVICE_CLASSES: list[dict[str, Any]] = [
    {
        "name": "ios-coreml",
        "selector": {"os": ["ios"], "runtime": ["coreml"]},
        "variants": COREML_VARIANTS,
        "delegate_order": ["npu", "gpu", "cpu"],
    },
    {
        "name": "android-high",
        "selector": {"os": ["android"], "runtime": ["litert"], "ram_mb_min": 6144},
        "variants": ["tflite-float16", *LITERT_VARIANTS],
        "delegate_order": ["gpu", "xnnpack"],
    },
    {
        "name": "onnxruntime",
        "selector": {"runtime": ["onnxruntime"]},
        "variants": ONNX_VARIANTS,
        "delegate_order": ["xnnpack", "cpu"],
    },
    {"name": "everything-else", "selector": {}, "variants": LITERT_VARIANTS, "delegate_order": ["xnnpack"]},
]


def create_application(*, slug: str, name: str, actor: str, now: datetime) -> Application:
    """A new application with the channel `production` and device classes to start from. Raises `NameTaken`."""
    application = Application(slug=slug, name=name, created_at=now)
    require_slug(slug)
    with transaction.atomic():
        if Application.objects.filter(slug=slug).exists():
            raise errors.NameTaken(f"expected a new application name, got {slug!r}, which exists", field="slug")
        application.save()
        AuditEntry.record(now=now, actor=actor, verb="create_application", subject=slug, application=application)
        create_channel(application=application, slug="production", actor=actor, now=now)
        DeviceClass.objects.bulk_create(
            DeviceClass(application=application, position=position, **_unique_variants(rule))
            for position, rule in enumerate(DEFAULT_DEVICE_CLASSES)
        )
    return application


def rename_application(*, application: Application, name: str, actor: str, now: datetime) -> None:
    """Change the name that people read; the slug, which devices ask by, stays for ever."""
    with transaction.atomic():
        before = Application.objects.select_for_update().get(pk=application.pk).name
        Application.objects.filter(pk=application.pk).update(name=name)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="rename_application",
            subject=application.slug,
            application=application,
            before={"name": before},
            after={"name": name},
        )


def create_channel(*, application: Application, slug: str, actor: str, now: datetime) -> Channel:
    """A new stream of releases. Devices see it once the publisher has delegated to it. Raises `NameTaken`."""
    channel = Channel(application=application, slug=slug, created_at=now)
    require_slug(slug)
    with transaction.atomic():
        if application.channels.filter(slug=slug).exists():
            raise errors.NameTaken(f"expected a new channel name, got {slug!r}, which exists", field="slug")
        channel.save()
        AuditEntry.record(now=now, actor=actor, verb="create_channel", subject=str(channel), application=application)
        PublishRequest.objects.create(application=application, reason=f"channel {slug}", requested_at=now)
    return channel


def require_slug(slug: str, *, field: str = "slug") -> None:
    """Raises `Invalid` unless the name fits into addresses, paths of the signed tree and names of TUF roles."""
    try:
        slug_validator(slug)
    except ValidationError as error:
        raise errors.Invalid(f"{'; '.join(error.messages)}, got {slug!r}", field=field) from error


def _unique_variants(rule: dict[str, Any]) -> dict[str, Any]:
    return rule | {"variants": list(dict.fromkeys(rule["variants"]))}
