"""A channel's own rules: who must approve, and which versions may not be skipped."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from distribution import approvals, delivery_rules, services
from distribution.admin.choosing import choose_what_is_live
from distribution.models import ChannelSettings, DeliveryRules, Release
from registry.admin import access
from registry.admin.shared import MemberAdmin, refusals_in, unchanged
from registry.models import Channel, RegisteredModel, Role
from registry.services import require_role


def people_field(label: str, told: str) -> forms.IntegerField:
    return forms.IntegerField(
        min_value=0,
        max_value=approvals.MOST_APPROVALS,
        widget=UnfoldAdminIntegerFieldWidget,
        label=label,
        help_text=told,
    )


class ApprovalsForm(forms.Form):
    approvals_required = people_field(
        "Others who must approve a release", "0: whoever may release does so at once. Authors never approve their own."
    )
    lift_approvals_required = people_field(
        "Others who must approve the lifting of a kill switch", "Engaging it always needs one person alone."
    )


class FloorsForm(forms.Form):
    floors = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Versions that may not be skipped",
        help_text="A device below such a version gets it first, and what is released only after it ran that one.",
    )

    def numbers(self) -> list[int]:
        return [int(number) for number in self.cleaned_data["floors"]]


@admin.register(ChannelSettings)
class ChannelSettingsAdmin(MemberAdmin):
    """A channel has its row from the first look on."""

    list_display = ["channel", "application", "release", "lifting"]
    list_filter = ["channel__application"]
    application_path = "channel__application"
    empty_words = ("No channel", "Who must approve is said for each channel of an application.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ChannelSettings]:
        return super().get_queryset(request).select_related("channel__application")

    @admin.display(ordering="channel__application__slug")
    def application(self, row: ChannelSettings) -> str:
        return str(row.channel.application)

    @admin.display(description="a release needs", ordering="approvals_required")
    def release(self, row: ChannelSettings) -> str:
        return _others(row.approvals_required)

    @admin.display(description="lifting a kill switch needs", ordering="lift_approvals_required")
    def lifting(self, row: ChannelSettings) -> str:
        return _others(row.lift_approvals_required)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        missing = Channel.objects.filter(application__in=access.applications(request), settings__isnull=True)
        for channel in missing:
            services.settings_of(channel)
        return super().changelist_view(request, extra_context)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        row: ChannelSettings = self.find(request, object_id)
        may_change = access.holds(request, Role.ADMINISTRATOR, row.channel.application_id)
        shown = {name: getattr(row, name) for name in ApprovalsForm.base_fields}
        form = ApprovalsForm(request.POST or None, initial=shown)
        if request.method == "POST":
            require_role(request.user, row.channel.application, Role.ADMINISTRATOR)
            if form.is_valid():
                with refusals_in(form), unchanged(request, row) as fresh:
                    told: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
                    approvals.change_settings(settings=fresh, **form.cleaned_data, **told)
                    messages.success(request, f"{row.channel} has other rules; requests that are open follow them.")
                    return redirect("admin:distribution_channelsettings_changelist")
        for field in form.fields.values():
            field.disabled = not may_change
        return self.page(
            request,
            "distribution/rule.html",
            f"Approvals on {row.channel}",
            form=form,
            row=row,
            words="Two people see more than one: an edit voids what was approved before, and nobody approves twice.",
            button="Save" if may_change else "",
            back=reverse("admin:distribution_channelsettings_changelist"),
        )


@admin.register(DeliveryRules)
class DeliveryRulesAdmin(MemberAdmin):
    list_display = ["model", "channel", "floors_shown"]
    list_filter = ["channel__application", "channel"]
    application_path = "channel__application"
    add_role = Role.RELEASER
    empty_words = (
        "No floors",
        "A floor is a version that devices may not skip: one that migrates what the app keeps, for example.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeliveryRules]:
        return super().get_queryset(request).select_related("channel__application", "model")

    @admin.display(description="versions that may not be skipped")
    def floors_shown(self, row: DeliveryRules) -> str:
        return ", ".join(map(str, row.floors)) or "none"

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        choice = choose_what_is_live(request)
        if choice.channel is None or choice.model is None:
            nothing = "Nothing was ever live; a floor is a version that devices had."
            return self._page(request, "Floors", choice=choice, form=None, nothing=nothing)
        row, _new = DeliveryRules.objects.get_or_create(channel=choice.channel, model=choice.model)
        return self._floors(request, row, choice=choice)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        return self._floors(request, self.find(request, object_id))

    def _floors(self, request: HttpRequest, row: DeliveryRules, **context: Any) -> HttpResponse:
        may_change = access.holds(request, Role.RELEASER, row.channel.application_id)
        form = FloorsForm(request.POST or None, initial={"floors": [str(number) for number in row.floors]})
        form.fields["floors"].choices = _were_live(row.channel, row.model)  # type: ignore[attr-defined]
        if request.method == "POST":
            require_role(request.user, row.channel.application, Role.RELEASER)
            if form.is_valid():
                with refusals_in(form), unchanged(request, row) as fresh:
                    told: dict[str, Any] = {"actor": request.user.get_username(), "now": timezone.now()}
                    delivery_rules.set_floors(rules=fresh, floors=form.numbers(), **told)
                    messages.success(request, f"The floors of {row} are set; devices follow with the next revision.")
                    return redirect("admin:distribution_deliveryrules_changelist")
        form.fields["floors"].disabled = not may_change
        return self._page(request, f"Floors of {row}", form=form, row=row, may_change=may_change, **context)

    def _page(
        self, request: HttpRequest, title: str, *, form: forms.Form | None, may_change: bool = False, **context: Any
    ) -> HttpResponse:
        return self.page(
            request,
            "distribution/rule.html",
            title,
            form=form,
            words="Only versions that were live on the channel. A roll back passes no floor.",
            button="Save the floors" if may_change else "",
            back=reverse("admin:distribution_deliveryrules_changelist"),
            **context,
        )


def _were_live(channel: Channel, model: RegisteredModel) -> list[tuple[str, str]]:
    rows = Release.objects.filter(channel=channel, model_version__model=model, live_revision__isnull=False)
    numbers = rows.values_list("model_version__number", flat=True).distinct().order_by("-model_version__number")
    return [(str(number), f"version {number}") for number in numbers]


def _others(number: int) -> str:
    return {0: "nobody else", 1: "one other person"}.get(number, f"{number} other people")
