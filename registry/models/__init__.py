"""What exists: applications and who may touch them, models and their versions, variants, and the log of it all."""

from registry.models.applications import (
    ApiToken,
    Application,
    Channel,
    DeviceClass,
    IdempotencyKey,
    Membership,
    Role,
)
from registry.models.audit import AuditEntry, PublishRequest
from registry.models.conversions import ConversionJob, JobState, Reproduction
from registry.models.gates import ConversionProfile, DeviceBenchmark, GateOverride
from registry.models.versions import (
    Artifact,
    ModelVersion,
    RegisteredModel,
    Upload,
    Variant,
    VariantFile,
    VariantPart,
    VersionFile,
    VersionPart,
)
from registry.models.webhooks import Webhook, WebhookDelivery

__all__ = [
    "ApiToken",
    "Application",
    "Artifact",
    "AuditEntry",
    "Channel",
    "ConversionJob",
    "ConversionProfile",
    "DeviceBenchmark",
    "DeviceClass",
    "GateOverride",
    "IdempotencyKey",
    "JobState",
    "Membership",
    "ModelVersion",
    "PublishRequest",
    "RegisteredModel",
    "Reproduction",
    "Role",
    "Upload",
    "Variant",
    "VariantFile",
    "VariantPart",
    "VersionFile",
    "VersionPart",
    "Webhook",
    "WebhookDelivery",
]
