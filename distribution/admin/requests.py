"""Requests for approval: one page each, where somebody else says yes."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.safestring import SafeString

from distribution import approvals, services
from distribution.models import ReleaseRequest
from registry.admin import access
from registry.admin.shared import MemberAdmin, refusals_told
from registry.errors import Stale
from registry.models import Role
from registry.services import require_role
from registry.templatetags.aerogram import state


@admin.register(ReleaseRequest)
class ReleaseRequestAdmin(MemberAdmin):
    list_display = ["what", "channel", "how", "publish_at", "requested_by", "requested_at"]
    list_filter = ["channel__application", "channel", "state"]
    application_path = "channel__application"
    empty_words = (
        "Nobody has asked for anything",
        "A release that others must approve, or that waits for its time, and the lifting of a kill switch stand here.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReleaseRequest]:
        return super().get_queryset(request).select_related("channel__application", "model", "version__model")

    @admin.display(description="request")
    def what(self, row: ReleaseRequest) -> str:
        return str(row)

    @admin.display(description="state", ordering="state")
    def how(self, row: ReleaseRequest) -> SafeString:
        return state("waiting for approval" if row.state == ReleaseRequest.State.WAITING else row.state)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        row: ReleaseRequest = self.find(request, object_id)
        if request.method == "POST":
            self._act(request, row)
            return redirect("admin:distribution_releaserequest_change", row.pk)
        settings = services.settings_of(row.channel)
        lifts = row.action == ReleaseRequest.Action.LIFT_KILL_SWITCH
        username = request.user.get_username()
        return self.page(
            request,
            "distribution/release_request.html",
            str(row),
            row=row,
            how=self.how(row),
            needed=settings.lift_approvals_required if lifts else settings.approvals_required,
            approvers=row.approvers(),
            can_release=access.holds(request, Role.RELEASER, row.channel.application_id),
            may_approve=username not in row.authors and username not in row.approvers(),
        )

    def _act(self, request: HttpRequest, row: ReleaseRequest) -> None:
        """Approve or cancel the state that the page showed."""
        require_role(request.user, row.channel.application, Role.RELEASER)
        told: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
        with refusals_told(request):
            if request.POST.get("row_version") != str(row.row_version):
                raise Stale("expected the request as it is now, it was changed since the page was opened")
            if request.POST.get("do") == "cancel":
                approvals.cancel(request=row, **told)
                messages.success(request, f"{row} is cancelled.")
            else:
                approvals.approve(request=row, **told)
                messages.success(request, f"You approved {row}.")
