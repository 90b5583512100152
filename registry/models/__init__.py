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
from registry.models.conversions import ConversionJob, JobState
from registry.models.versions import Artifact, ModelVersion, RegisteredModel, Upload, Variant, VariantFile

__all__ = [
    "ApiToken",
    "Application",
    "Artifact",
    "AuditEntry",
    "Channel",
    "ConversionJob",
    "DeviceClass",
    "IdempotencyKey",
    "JobState",
    "Membership",
    "ModelVersion",
    "PublishRequest",
    "RegisteredModel",
    "Role",
    "Upload",
    "Variant",
    "VariantFile",
]
