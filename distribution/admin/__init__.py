"""The admin's pages of what devices get: release, roll back, stop, through the same services as REST."""

from distribution.admin.kill_switches import KillSwitchAdmin
from distribution.admin.panels import release_panel
from distribution.admin.patches import EmbeddedModelAdmin, PatchAdmin, patch_panel
from distribution.admin.pins import PinAdmin, TestDeviceAdmin
from distribution.admin.protection import KeyCallAdmin, ModelProtectionAdmin
from distribution.admin.releases import ReleaseAdmin
from distribution.admin.requests import ReleaseRequestAdmin
from distribution.admin.rules import ChannelSettingsAdmin, DeliveryRulesAdmin
from distribution.admin.shown import RevisionAdmin, SignedDocumentAdmin
from distribution.admin.trust import TrustRoleAdmin
from registry.admin import shared

shared.version_panels.extend([release_panel, patch_panel])

__all__ = [
    "ChannelSettingsAdmin",
    "DeliveryRulesAdmin",
    "EmbeddedModelAdmin",
    "KeyCallAdmin",
    "KillSwitchAdmin",
    "ModelProtectionAdmin",
    "PatchAdmin",
    "PinAdmin",
    "ReleaseAdmin",
    "ReleaseRequestAdmin",
    "RevisionAdmin",
    "SignedDocumentAdmin",
    "TestDeviceAdmin",
    "TrustRoleAdmin",
]
