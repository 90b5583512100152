"""Who signs, until when, and what somebody should do about it."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from distribution.models import TrustRole
from distribution.trust.status import trust_status
from registry.admin import access
from registry.admin.shared import MemberAdmin


@admin.register(TrustRole)
class TrustRoleAdmin(MemberAdmin):
    """One page instead of a list: what counts is in the tree, the rows are only what the server was told."""

    empty_words = ("No keys yet", "The server makes its own with the first publishing.")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # noqa: ARG002
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = timezone.now()
        found = [(application, trust_status(application, now)) for application in access.applications(request)]
        return self.page(request, "distribution/trust.html", "Trust", found=found)
