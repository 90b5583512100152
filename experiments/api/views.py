"""Experiments and rollouts: the same rows under two names."""

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import services
from experiments.api.access import find_experiment
from experiments.api.actions import WritingView
from experiments.api.serializers import (
    AnalysisRunSerializer,
    DetectableSerializer,
    EditBody,
    ExperimentQuery,
    ExperimentSerializer,
    NewExperimentBody,
    NewRolloutBody,
    ResultsQuery,
    StatusSerializer,
    UnitQuery,
    UnitSerializer,
    WriteQuery,
)
from experiments.lifecycle import Kind
from experiments.models import Experiment
from registry.api.access import find_channel, find_model
from registry.api.base import NounView, Verb
from registry.api.pages import PageQuery
from registry.api.serializers import AuditEntrySerializer
from registry.models import Role

COLUMNS = {"channel": "channel__slug", "model": "model__slug", "state": "state"}


class CollectionView(WritingView):
    """What both collections do."""

    def found(self, request: Request, rows: "QuerySet[Experiment]") -> Response:
        wanted = self.query(request)
        conditions = {COLUMNS[name]: value for name, value in wanted.items() if name in COLUMNS}
        return self.page(request, rows.filter(**conditions).select_related("channel", "model", "layer"), by="-id")

    def made(self, request: Request, wanted: dict[str, Any]) -> Response:
        channel = find_channel(self.application, wanted.pop("channel"))
        model = find_model(self.application, wanted.pop("model"))
        now = timezone.now()
        if "layer_range" in wanted:
            wanted["layer_range"] = tuple(wanted["layer_range"])

        def deed() -> Experiment:
            return services.create(channel=channel, model=model, actor=self.actor(request), now=now, **wanted)

        if not self.is_trial(request):
            return self.shown(request, deed())
        return self.tried(request, deed, channel, model, None)


class ExperimentsView(CollectionView):
    verbs = {
        "GET": Verb(
            summary="Experiments and rollouts, newest first",
            role=Role.VIEWER,
            query=ExperimentQuery,
            answer=ExperimentSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Write down an experiment: a draft",
            role=Role.EDITOR,
            body=NewExperimentBody,
            query=WriteQuery,
            answer=ExperimentSerializer,
            status=201,
            tried_status=200,
            idempotent=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.found(request, Experiment.objects.filter(application=self.application))

    def post(self, request: Request) -> Response:
        return self.made(request, self.body(request))


class RolloutsView(CollectionView):
    verbs = {
        "GET": Verb(
            summary="Rollouts, newest first",
            role=Role.VIEWER,
            query=ExperimentQuery,
            answer=ExperimentSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Write down a rollout: a draft",
            role=Role.EDITOR,
            body=NewRolloutBody,
            query=WriteQuery,
            answer=ExperimentSerializer,
            status=201,
            tried_status=200,
            idempotent=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.found(request, Experiment.objects.rollouts().filter(application=self.application))

    def post(self, request: Request) -> Response:
        return self.made(request, self.body(request) | {"kind": Kind.ROLLOUT})


class ExperimentView(WritingView):
    verbs = {
        "GET": Verb(summary="One experiment or rollout", role=Role.VIEWER, answer=ExperimentSerializer),
        "PATCH": Verb(
            summary="Change the design of one that is not served: a draft again, its approvals void",
            role=Role.EDITOR,
            body=EditBody,
            query=WriteQuery,
            answer=ExperimentSerializer,
            conditional=True,
            idempotent=True,
        ),
    }

    def get(self, request: Request, experiment: str) -> Response:
        return self.shown(request, find_experiment(self.application, experiment))

    def patch(self, request: Request, experiment: str) -> Response:
        wanted = self.body(request)
        if "layer_range" in wanted:
            wanted["layer_range"] = tuple(wanted["layer_range"])
        with self.unchanged(request, find_experiment(self.application, experiment)) as row:
            return self.done(request, "edit", row, **wanted)


class StatusView(NounView):
    verbs = {
        "GET": Verb(
            summary="How far it is, whether it goes on, and what is lacking", role=Role.VIEWER, answer=StatusSerializer
        )
    }

    def get(self, request: Request, experiment: str) -> Response:
        row = find_experiment(self.application, experiment)
        return self.shown(request, services.status(row, timezone.now()))


class UnitView(NounView):
    verbs = {
        "GET": Verb(
            summary="Which buckets a unit draws, and what they give it",
            role=Role.VIEWER,
            query=UnitQuery,
            answer=UnitSerializer,
        )
    }

    def get(self, request: Request, experiment: str) -> Response:
        unit = self.query(request)["unit"]
        return self.shown(request, services.explain(find_experiment(self.application, experiment), unit))


class ResultsView(NounView):
    verbs = {
        "GET": Verb(
            summary="What was measured and concluded, newest look first: funnel, split, each guardrail with its bounds",
            role=Role.VIEWER,
            query=ResultsQuery,
            answer=AnalysisRunSerializer,
            many=True,
        )
    }

    def get(self, request: Request, experiment: str) -> Response:
        phase = self.query(request).get("phase")
        return self.page(request, services.results(find_experiment(self.application, experiment), phase), by="-id")


class DetectableView(NounView):
    verbs = {
        "GET": Verb(
            summary="The least harm that each step would show, and the units that would show twice the margin",
            role=Role.VIEWER,
            answer=DetectableSerializer,
        )
    }

    def get(self, request: Request, experiment: str) -> Response:
        row = find_experiment(self.application, experiment)
        return self.shown(request, services.foresee(row, timezone.now()))


class ChangesView(NounView):
    verbs = {
        "GET": Verb(
            summary="Its entries of the audit log, newest first",
            role=Role.VIEWER,
            query=PageQuery,
            answer=AuditEntrySerializer,
            many=True,
        )
    }

    def get(self, request: Request, experiment: str) -> Response:
        return self.page(request, services.changes(find_experiment(self.application, experiment)), by="-id")
