"""What a device gets: releases and stops, a channel's own rules, and the signed revisions that were made of them."""

from distribution.models.channels import Approval, ChannelSettings, DeliveryRules, Pin, ReleaseRequest, TestDevice
from distribution.models.firebase import FirebaseModel, FirebaseObject, FirebaseOperation, FirebaseUploadSession
from distribution.models.patches import EmbeddedModel, Patch
from distribution.models.protection import (
    AppAttestKey,
    AttestationSettings,
    ContentKey,
    EncryptedFile,
    EncryptedVariant,
    KeyCall,
    ModelProtection,
)
from distribution.models.releases import KillSwitch, Release, released_variants
from distribution.models.signed_tree import ManifestSet, MinimumReleaseCounter, Revision, SignedDocument, TrustRole

__all__ = [
    "AppAttestKey",
    "Approval",
    "AttestationSettings",
    "ChannelSettings",
    "ContentKey",
    "DeliveryRules",
    "EmbeddedModel",
    "EncryptedFile",
    "EncryptedVariant",
    "FirebaseModel",
    "FirebaseObject",
    "FirebaseOperation",
    "FirebaseUploadSession",
    "KeyCall",
    "KillSwitch",
    "ManifestSet",
    "MinimumReleaseCounter",
    "ModelProtection",
    "Patch",
    "Pin",
    "Release",
    "ReleaseRequest",
    "Revision",
    "SignedDocument",
    "TestDevice",
    "TrustRole",
    "released_variants",
]
