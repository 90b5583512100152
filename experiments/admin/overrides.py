"""Single units of an experiment: which of them get an arm by name, and what one of them would get and why."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from experiments import services
from experiments.admin.effects import version
from experiments.admin.verbs import meanwhile, seen
from experiments.lifecycle import ENDED
from experiments.models import Experiment
from registry.admin import access
from registry.admin.shared import MemberAdmin, refusals_in
from registry.errors import DomainError, Stale
from registry.models import Role
from registry.services import require_role

SHOWN = 200
OUTCOMES = {
    "kill_switch": "The model's kill switch is engaged: every device runs the model embedded in its app.",
    "override": "Its override decides: it gets the arm “{override}”, whatever its buckets say.",
    "holdback": "The holdback decides: it stays on the version that is held back.",
    "outside_layer": "It lies outside the experiment's part of the layer, and gets what it would without it.",
    "outside_arms": "It takes part, but its bucket has no arm at the present percentage: it gets the current release.",
    "in_arm": "Its bucket decides: it gets the arm “{arm}”, if its device can run every arm's version.",
    "not_served": "The experiment is not served: it gets what it would without it.",
}


class UnitForm(forms.Form):
    unit = forms.CharField(
        max_length=128,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="The id of an installation. Only its salted SHA-256 is stored.",
    )


class OverrideForm(UnitForm):
    arm = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    expires_at = forms.DateTimeField(
        required=False,
        label="Until",
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "2026-12-01 08:00"}),
        help_text="UTC; empty: until it is removed.",
    )
    reason = forms.CharField(
        required=False, max_length=1000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Stands in the audit log.",
    )  # fmt: skip
    row_version = forms.IntegerField(widget=forms.HiddenInput, min_value=1)
    entry = forms.IntegerField(widget=forms.HiddenInput, min_value=0, required=False)

    def offer(self, row: Experiment) -> None:
        named = [(arm["name"], f"{arm['name']}, {version(arm['version'])}") for arm in row.arms if arm["version"]]
        self.fields["arm"].choices = named  # type: ignore[attr-defined]


class RemovalForm(forms.Form):
    unit_key = forms.CharField(max_length=64)
    row_version = forms.IntegerField(min_value=1)
    entry = forms.IntegerField(min_value=0, required=False)


class OverridePages(MemberAdmin):
    """For the admin of experiments."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/overrides/", wrap(self.overrides_view), name="experiments_experiment_overrides"),
            path("<int:pk>/unit/", wrap(self.unit_view), name="experiments_experiment_unit"),
            *super().get_urls(),
        ]

    def overrides_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row: Experiment = self.find(request, pk)
        context: dict[str, Any] = {}
        removal = RemovalForm(request.POST) if request.POST.get("do") == "remove" else None
        is_set = request.method == "POST" and removal is None
        form = OverrideForm(request.POST if is_set else None, initial=seen(row))
        form.offer(row)
        if request.method == "POST":
            require_role(request.user, row.application, Role.RELEASER)
            try:
                if removal is not None and removal.is_valid():
                    return self._remove(request, row, removal)
                if removal is None and form.is_valid():
                    return self._set(request, row, form)
            except Stale:
                row.refresh_from_db()
                context["meanwhile"] = meanwhile(row, (removal or form).cleaned_data["entry"])
                form.data = {**request.POST.dict(), **seen(row)}
            except DomainError as error:
                form.add_error(error.field if error.field in form.fields else None, str(error))
        return self.page(
            request, "experiments/act_overrides.html", f"Overrides of {row}", row=row, form=form, seen=seen(row),
            overrides=row.overrides.all()[:SHOWN], count=row.overrides.count(), shown=SHOWN,
            may_change=access.holds(request, Role.RELEASER, row.application_id) and row.state not in ENDED,
            back=reverse("admin:experiments_experiment_change", args=[row.pk]), **context,
        )  # fmt: skip

    def _set(self, request: HttpRequest, row: Experiment, form: OverrideForm) -> HttpResponse:
        said = {name: value for name, value in form.cleaned_data.items() if name != "entry"}
        made = services.set_override(experiment=row, actor=request.user.get_username(), now=timezone.now(), **said)
        messages.success(request, f"{made.unit_key[:12]}… gets {made.arm} with the next revision.")
        return redirect("admin:experiments_experiment_overrides", row.pk)

    def _remove(self, request: HttpRequest, row: Experiment, removal: RemovalForm) -> HttpResponse:
        said = {name: value for name, value in removal.cleaned_data.items() if name != "entry"}
        services.clear_override(experiment=row, actor=request.user.get_username(), now=timezone.now(), **said)
        messages.success(request, f"{said['unit_key'][:12]}… goes by its bucket again.")
        return redirect("admin:experiments_experiment_overrides", row.pk)

    def unit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Changes nothing; sent as a form, so that no unit stands in an address or in a server's log."""
        row: Experiment = self.find(request, pk)
        form = UnitForm(request.POST or None)
        told: dict[str, Any] | None = None
        if form.is_valid():
            with refusals_in(form):
                told = services.explain(row, form.cleaned_data["unit"])
        words = told and OUTCOMES[told["outcome"]].format(
            override=told["override"], arm=told["arm"] and told["arm"]["name"]
        )
        back = reverse("admin:experiments_experiment_change", args=[row.pk])
        title = f"What a unit gets of {row}"
        return self.page(
            request, "experiments/act_explain.html", title, row=row, form=form, told=told, words=words, back=back
        )
