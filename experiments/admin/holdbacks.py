"""The slice of a model's devices that stays on one version: set, changed, and lifted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from experiments import services
from experiments.admin.asks import PercentField, releasable
from experiments.admin.choosing import Pair, chosen, pairs
from experiments.delivery import delivery
from experiments.models import Holdback
from experiments.services import Preview
from experiments.words import percent
from registry.admin import access
from registry.admin.forms import ReasonForm
from registry.admin.shared import MemberAdmin, refusals_in
from registry.errors import DomainError, Stale
from registry.models import Role
from registry.services import require_role
from registry.templatetags.aerogram import state

MOST_PERCENT = 50


class HoldbackForm(ReasonForm):
    version = forms.TypedChoiceField(
        coerce=int, widget=UnfoldAdminSelectWidget, help_text="One that has proved itself for long."
    )
    held = PercentField(
        label="Percent of the devices", initial="2", min_value=0.01, max_value=MOST_PERCENT,
        help_text="Two decimals at most.",
    )  # fmt: skip
    until = forms.DateTimeField(
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2027-06-01 08:00"}),
        help_text="UTC; empty: until it is lifted.",
    )
    row_version = forms.IntegerField(required=False, widget=forms.HiddenInput, min_value=1)
    field_order = ["version", "held", "until", "reason"]

    def offer(self, pair: Pair) -> None:
        choices = [(row.number, str(row)) for row in releasable(pair.model)]
        self.fields["version"].choices = choices  # type: ignore[attr-defined]


class LiftForm(ReasonForm):
    row_version = forms.IntegerField(widget=forms.HiddenInput, min_value=1)


@admin.register(Holdback)
class HoldbackAdmin(MemberAdmin):
    list_display = ["name", "channel", "how", "share", "version", "until"]
    list_display_links = ["name"]
    list_filter = ["channel__application", "channel"]
    application_path = "channel__application"
    add_role = Role.RELEASER
    empty_words = (
        "No holdback",
        "A small slice of the devices, always the same ones, stays on a proven version, whatever is released.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Holdback]:
        return super().get_queryset(request).select_related("model", "channel__application", "version__model")

    @admin.display(description="model", ordering="model__slug")
    def name(self, row: Holdback) -> str:
        return str(row.model)

    @admin.display(description="state")
    def how(self, row: Holdback) -> SafeString:
        return state("lifted" if row.lifted_at else "in force")

    @admin.display(description="held back", ordering="percent_bp")
    def share(self, row: Holdback) -> str:
        return percent(row.percent_bp)

    def get_urls(self) -> list[URLPattern]:
        lift = self.admin_site.admin_view(self.lift_view)
        return [path("<int:pk>/lift/", lift, name="experiments_holdback_lift"), *super().get_urls()]

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        found = pairs(request, Role.RELEASER)
        pair = chosen(request, found, Role.RELEASER)
        row = Holdback.objects.filter(channel=pair.channel, model=pair.model).first() if pair else None
        context: dict[str, Any] = {"found": found, "pair": pair, "row": row}
        if pair is not None:
            require_role(request.user, pair.channel.application, Role.RELEASER)
            form = HoldbackForm(request.POST or None, initial=_shown(row) if row else _proposed(pair))
            form.offer(pair)
            if request.method == "POST" and form.is_valid():
                try:
                    return self._set(request, pair, row, form)
                except DomainError as error:
                    named = {"percent_bp": "held"}.get(error.field or "", error.field)
                    form.add_error(named if named in form.fields else None, str(error))
            context["form"] = form
        return self.page(request, "experiments/holdback_set.html", "Hold devices back", **context)

    def _set(self, request: HttpRequest, pair: Pair, row: Holdback | None, form: HoldbackForm) -> HttpResponse:
        said = form.cleaned_data
        with _unchanged(row, said["row_version"]):
            made = services.set_holdback(
                channel=pair.channel,
                model=pair.model,
                version=said["version"],
                percent_bp=said["held"],
                until=said["until"],
                reason=said["reason"],
                actor=request.user.get_username(),
                now=timezone.now(),
            )
        messages.success(request, f"{percent(made.percent_bp)} of {pair} stay on {made.version}.")
        return redirect("admin:experiments_holdback_change", made.pk)

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        row: Holdback = self.find(request, object_id)
        can_release = access.holds(request, Role.RELEASER, row.channel.application_id)
        pair = Pair(row.channel, row.model)
        return self.page(request, "experiments/holdback.html", str(row), row=row, pair=pair, can_release=can_release)

    def lift_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row: Holdback = self.find(request, pk, Role.RELEASER)
        form = LiftForm(request.POST or None, initial={"row_version": row.row_version})
        if request.method == "POST" and form.is_valid():
            with refusals_in(form), _unchanged(row, form.cleaned_data["row_version"]):
                services.lift_holdback(
                    channel=row.channel,
                    model=row.model,
                    actor=request.user.get_username(),
                    now=timezone.now(),
                    reason=form.cleaned_data["reason"],
                )
                messages.success(request, f"Nobody is held back on {row.channel} any more.")
                return redirect("admin:experiments_holdback_change", row.pk)
        back = reverse("admin:experiments_holdback_change", args=[row.pk])
        title = f"Lift the {row}"
        return self.page(
            request, "experiments/holdback_lift.html", title, row=row, form=form, back=back, effect=_let_go(row)
        )


@contextmanager
def _unchanged(row: Holdback | None, seen: int | None) -> Iterator[None]:
    """Held as the page showed it; None: there was none. Raises `Stale`."""
    with transaction.atomic():
        locked = Holdback.objects.select_for_update().filter(pk=row.pk).first() if row is not None else None
        if (locked.row_version if locked else None) != seen:
            raise Stale("expected the holdback as the page showed it, somebody changed it meanwhile: look again")
        yield


def _let_go(row: Holdback) -> Preview | None:
    """What lifting it would do; None once it is lifted."""
    now, channel, model = timezone.now(), row.channel, row.model

    def deed() -> Holdback:
        return services.lift_holdback(channel=channel, model=model, actor="", now=now, reason="")

    try:
        _, found = services.preview_holdback(deed, channel=channel, model=model, now=now)
    except DomainError:
        return None
    return found


def _proposed(pair: Pair) -> dict[str, Any]:
    """What most devices have proved, not what is newest."""
    current = delivery().current_version(pair.channel, pair.model)
    return {"version": current.number} if current else {}


def _shown(row: Holdback) -> dict[str, Any]:
    until = row.until.strftime("%Y-%m-%d %H:%M") if row.until else ""
    held = f"{row.percent_bp / 100:g}"
    return {"version": row.version.number, "held": held, "until": until, "row_version": row.row_version}
