"""The admin's pages of what devices get: release, roll back, stop, through the same services as REST."""

from distribution.admin.kill_switches import KillSwitchAdmin
from distribution.admin.panels import release_panel
from distribution.admin.releases import ReleaseAdmin
from distribution.admin.requests import ReleaseRequestAdmin
from distribution.admin.shown import RevisionAdmin, SignedDocumentAdmin
from distribution.admin.trust import TrustRoleAdmin
from registry.admin import shared

shared.version_panels.append(release_panel)

__all__ = [
    "KillSwitchAdmin",
    "ReleaseAdmin",
    "ReleaseRequestAdmin",
    "RevisionAdmin",
    "SignedDocumentAdmin",
    "TrustRoleAdmin",
]
