"""Writing an experiment down, and changing what is not served yet."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from experiments import services
from experiments.admin.asks import releasable
from experiments.admin.choosing import Pair, chosen, pairs
from experiments.admin.design_forms import Design
from experiments.admin.verbs import meanwhile, seen
from experiments.lifecycle import Kind, Verb, verbs_of
from experiments.models import Experiment
from registry.admin import access
from registry.admin.shared import MemberAdmin
from registry.errors import DomainError, Stale
from registry.models import ModelVersion, Role
from registry.services import require_role

SHOWN = 5  # experiments on a version's page
KINDS = {
    Kind.ROLLOUT: "a rollout: a new version to more and more devices",
    Kind.AB: "A/B: versions side by side",
    Kind.AA: "A/A: the same version twice, to test the measuring",
    Kind.HOLDBACK: "a holdback experiment: what if some had stayed",
}


class DesignPages(MemberAdmin):
    """For the admin of experiments: adding one, and editing it."""

    add_role = Role.EDITOR

    def get_urls(self) -> list[URLPattern]:
        edit = self.admin_site.admin_view(self.edit_view)
        return [path("<int:pk>/edit/", edit, name="experiments_experiment_edit"), *super().get_urls()]

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        found = pairs(request, Role.EDITOR)
        pair = chosen(request, found, Role.EDITOR)
        kind = request.GET.get("kind", "")
        kind = kind if kind in KINDS else Kind.ROLLOUT
        if pair is None:
            return self._shown(request, "Design an experiment", None, found=found, kind=kind)
        require_role(request.user, pair.channel.application, Role.EDITOR)
        data = request.POST if request.method == "POST" else None
        design = Design(kind, pair, data=data, version=request.GET.get("version", ""))
        if _is_sent(request) and design.is_valid():
            try:
                made = self._create(request, pair, design)
            except DomainError as error:
                design.refuse(str(error), error.field)
            else:
                messages.success(request, f"{made} is a draft. Submit it once it says what you mean.")
                return redirect("admin:experiments_experiment_change", made.pk)
        return self._shown(request, "Design an experiment", design, found=found, pair=pair, kind=kind)

    def edit_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        row: Experiment = self.find(request, pk, Role.EDITOR)
        data = request.POST if request.method == "POST" else None
        context: dict[str, Any] = {"row": row, "back": reverse("admin:experiments_experiment_change", args=[row.pk])}
        design = Design(row.kind, Pair(row.channel, row.model), row, data)
        if _is_sent(request) and design.is_valid():
            try:
                self._edit(request, row, design)
            except Stale:
                row.refresh_from_db()
                context |= {"meanwhile": meanwhile(row, design.form.cleaned_data["entry"]), "seen": seen(row)}
            except DomainError as error:
                design.refuse(str(error), error.field)
            else:
                messages.success(request, f"{row} is a draft again; what was approved before is void.")
                return redirect("admin:experiments_experiment_change", row.pk)
        if Verb.EDIT not in verbs_of(row.state):
            context["refused"] = f"expected a design that is not served yet, {row} is {row.state.replace('_', ' ')}"
        if request.method != "POST":
            context["seen"] = seen(row)
        return self._shown(request, f"Edit {row}", design, **context)

    def _create(self, request: HttpRequest, pair: Pair, design: Design) -> Experiment:
        return services.create(
            channel=pair.channel,
            model=pair.model,
            kind=design.kind,
            actor=request.user.get_username(),
            now=timezone.now(),
            **design.wanted(),
        )

    def _edit(self, request: HttpRequest, row: Experiment, design: Design) -> None:
        row_version = design.form.cleaned_data["row_version"]
        if row_version is None:
            raise Stale("expected the version of the design that the page showed, got none")
        actor, now = request.user.get_username(), timezone.now()
        services.edit(experiment=row, actor=actor, now=now, row_version=row_version, **design.wanted())

    def _shown(self, request: HttpRequest, title: str, design: Design | None, **context: Any) -> HttpResponse:
        kinds = [(kind.value, told) for kind, told in KINDS.items()]
        return self.page(request, "experiments/design.html", title, design=design, kinds=kinds, **context)


def _is_sent(request: HttpRequest) -> bool:
    return request.method == "POST" and not _is_asked_for_more(request)


def _is_asked_for_more(request: HttpRequest) -> bool:
    return request.POST.get("do", "").startswith("more-")


def rollout_panel(request: HttpRequest, version: ModelVersion) -> SafeString:
    """On a version's page: which experiments try it, and the way to roll it out."""
    model = version.model
    channel = model.application.channels.order_by("slug").first()
    address = ""
    if channel and access.holds(request, Role.EDITOR, model.application_id) and version in releasable(model):
        address = f"{reverse('admin:experiments_experiment_add')}?what={channel.pk}:{model.pk}&version={version.number}"
    rows = model.experiments.filter(arms__contains=[{"version": version.number}])
    return render_to_string("experiments/design_panel.html", {"experiments": rows[:SHOWN], "address": address}, request)
