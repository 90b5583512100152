"""Stopping a model on a channel, and serving it again: each with a reason."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString

from distribution import approvals, preview, services
from distribution.admin.choosing import choose_what_to_stop
from distribution.admin.releases import RequiredReasonForm
from distribution.models import KillSwitch
from registry.admin import access
from registry.admin.shared import MemberAdmin, refusals_in
from registry.models import Role
from registry.services import require_role
from registry.templatetags.aerogram import state


@admin.register(KillSwitch)
class KillSwitchAdmin(MemberAdmin):
    list_display = ["what", "channel", "how", "reason", "engaged_by", "engaged_at", "lifted_at"]
    list_filter = ["channel__application", "channel"]
    application_path = "channel__application"
    add_role = Role.RELEASER
    empty_words = (
        "No kill switch was ever engaged",
        "It tells every device of a channel to run the model its app was built with, whatever is released.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[KillSwitch]:
        return super().get_queryset(request).select_related("model", "channel__application")

    @admin.display(description="model", ordering="model__slug")
    def what(self, switch: KillSwitch) -> str:
        return str(switch.model)

    @admin.display(description="state")
    def how(self, switch: KillSwitch) -> SafeString:
        return state("lifted" if switch.lifted_at else "engaged")

    def get_urls(self) -> list[URLPattern]:
        lift = self.admin_site.admin_view(self.lift_view)
        return [path("<int:pk>/lift/", lift, name="distribution_killswitch_lift"), *super().get_urls()]

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        choice = choose_what_to_stop(request)
        form = RequiredReasonForm(request.POST or None)
        if request.method == "POST" and choice.channel and choice.model and form.is_valid():
            require_role(request.user, choice.channel.application, Role.RELEASER)
            with refusals_in(form):
                made = services.engage_kill_switch(
                    channel=choice.channel,
                    model=choice.model,
                    actor=request.user.get_username(),
                    now=timezone.now(),
                    reason=form.cleaned_data["reason"],
                )
                messages.success(request, f"The kill switch of {choice.model} on {choice.channel} is engaged.")
                return redirect("admin:distribution_killswitch_change", made.pk)
        live = preview.live_release(choice.channel, choice.model) if choice.channel and choice.model else None
        return self.page(
            request, "distribution/engage.html", "Engage a kill switch", choice=choice, form=form, live=live
        )

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        switch: KillSwitch = self.find(request, object_id)
        can_release = access.holds(request, Role.RELEASER, switch.channel.application_id)
        live = preview.live_release(switch.channel, switch.model)
        title = f"Kill switch of {switch.model}"
        return self.page(
            request, "distribution/kill_switch.html", title, switch=switch, can_release=can_release, live=live
        )

    def lift_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        switch: KillSwitch = self.find(request, pk, Role.RELEASER)
        form = RequiredReasonForm(request.POST or None)
        form.fields["reason"].help_text = "What has changed, for those who read the audit log later."
        if request.method == "POST" and form.is_valid():
            told = {"actor": request.user.get_username(), "now": timezone.now(), "reason": form.cleaned_data["reason"]}
            with refusals_in(form):
                return self._lift(request, switch, told)
        live = preview.live_release(switch.channel, switch.model)
        return self.page(request, "distribution/lift.html", "Lift the kill switch", switch=switch, form=form, live=live)

    def _lift(self, request: HttpRequest, switch: KillSwitch, told: dict[str, Any]) -> HttpResponse:
        """At once where nobody need approve, else by a request for somebody else."""
        if services.settings_of(switch.channel).lift_approvals_required:
            asked = approvals.request_lift(channel=switch.channel, model=switch.model, **told)
            messages.info(request, "Somebody else must approve it before devices are served again.")
            return redirect("admin:distribution_releaserequest_change", asked.pk)
        services.lift_kill_switch(channel=switch.channel, model=switch.model, **told)
        messages.success(request, f"{switch.channel} serves {switch.model} again.")
        return redirect("admin:distribution_killswitch_change", switch.pk)
