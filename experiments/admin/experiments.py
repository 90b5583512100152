"""The list of experiments and rollouts, and the page of one: what it compares, how it stands, what it waits for."""

from http import HTTPStatus
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString

from experiments.admin import showing
from experiments.admin.design import DesignPages
from experiments.admin.lines import with_standing
from experiments.admin.overrides import OverridePages
from experiments.admin.verbs import VerbPages
from experiments.models import Experiment
from experiments.words import number, percent, state, verdict
from registry.templatetags.aerogram import since


@admin.register(Experiment)
class ExperimentAdmin(VerbPages, DesignPages, OverridePages):
    """Rows are changed by verbs only, each a page of its own."""

    list_display = ["name", "kind", "model", "channel", "how", "percent", "plan", "concluded", "units", "moment"]
    list_display_links = ["name"]
    list_filter = ["kind", "state", "model", "channel", "application"]
    search_fields = ["slug"]
    empty_words = (
        "No experiment yet",
        "Try a version on a few devices before all have it, here or with aerogram rollout create.",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Everything that a line tells comes with it: one line or a hundred, as many queries."""
        rows = super().get_queryset(request).select_related("application", "model__application", "channel__application")
        return with_standing(rows)

    @admin.display(description="name", ordering="slug")
    def name(self, row: Experiment) -> str:
        return str(row.slug)

    @admin.display(description="state", ordering="state")
    def how(self, row: Experiment) -> SafeString:
        return state(row.state)

    @admin.display(description="percent", ordering="percent_bp")
    def percent(self, row: Any) -> str:
        return percent(row.percent_bp)

    @admin.display(description="step")
    def plan(self, row: Any) -> str:
        return f"{0 if row.step_position is None else row.step_position + 1} of {row.plan_steps or 0}"

    @admin.display(description="latest verdict")
    def concluded(self, row: Any) -> SafeString | str:
        return verdict(row.last_verdict) if row.last_verdict else "–"

    @admin.display(description="units", ordering="last_units")
    def units(self, row: Any) -> str:
        return number(row.last_units)

    @admin.display(description="since", ordering="id")
    def moment(self, row: Experiment) -> str:
        return since(row.ended_at or row.step_since or row.started_at or row.created_at)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/standing/", wrap(self.standing_view), name="experiments_experiment_standing"),
            *super().get_urls(),
        ]

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        row: Experiment = self.find(request, object_id)
        return self.page(request, "experiments/experiment.html", str(row), **showing.told(request, row, timezone.now()))

    def standing_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that changes by itself; nothing where it is as the page has it."""
        row, now = self.find(request, pk), timezone.now()
        if request.GET.get("seen") == showing.fingerprint(row, now):
            return HttpResponse(status=HTTPStatus.NO_CONTENT)
        return self.page(request, "experiments/_standing.html", "", **showing.told(request, row, now))
