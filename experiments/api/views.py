"""Experiments and rollouts: the same rows under two names."""

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import services
from experiments.api.access import find_experiment, find_layer
from experiments.api.actions import WritingView
from experiments.api.serializers import (
    AnalysisRunSerializer,
    ArmOverrideSerializer,
    EditBody,
    ExperimentQuery,
    ExperimentSerializer,
    HoldbackBody,
    HoldbackSerializer,
    LayerMapSerializer,
    NewExperimentBody,
    NewRolloutBody,
    OverrideBody,
    ReasonQuery,
    ReasonWriteQuery,
    ResultsQuery,
    StatusSerializer,
    UnitQuery,
    UnitSerializer,
    WriteQuery,
)
from experiments.lifecycle import Kind
from experiments.models import Experiment, Holdback
from registry.api.access import find_channel, find_model
from registry.api.base import NounView, Verb, require_match
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


class OverridesView(WritingView):
    """If-Match names the state of the experiment."""

    verbs = {
        "GET": Verb(
            summary="Units that get an arm by name",
            role=Role.VIEWER,
            query=PageQuery,
            answer=ArmOverrideSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Give a unit one arm",
            role=Role.RELEASER,
            body=OverrideBody,
            query=WriteQuery,
            answer=ExperimentSerializer,
            conditional=True,
            idempotent=True,
        ),
    }

    def get(self, request: Request, experiment: str) -> Response:
        return self.page(request, find_experiment(self.application, experiment).overrides.all(), by="-id")

    def post(self, request: Request, experiment: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, find_experiment(self.application, experiment)) as row:
            return self.done(request, "set_override", row, **wanted)


class OverrideView(WritingView):
    verbs = {
        "DELETE": Verb(
            summary="Let the unit go by its bucket again",
            role=Role.RELEASER,
            query=ReasonWriteQuery,
            answer=ExperimentSerializer,
            conditional=True,
            idempotent=True,
        )
    }

    def delete(self, request: Request, experiment: str, unit_key: str) -> Response:
        with self.unchanged(request, find_experiment(self.application, experiment)) as row:
            reason = self.query(request)["reason"]
            return self.done(request, "clear_override", row, unit_key=unit_key, reason=reason)


class HoldbackView(NounView):
    """If-Match: the ETag of the holdback in force, or `*` where there is none."""

    verbs = {
        "GET": Verb(summary="The slice that stays on one version", role=Role.VIEWER, answer=HoldbackSerializer),
        "PUT": Verb(
            summary="Keep a slice of the model's devices on one version",
            role=Role.RELEASER,
            body=HoldbackBody,
            answer=HoldbackSerializer,
            conditional=True,
            idempotent=True,
        ),
        "DELETE": Verb(
            summary="Let everybody have what is released, at once",
            role=Role.RELEASER,
            query=ReasonQuery,
            status=204,
            conditional=True,
        ),
    }

    def get(self, request: Request, channel: str, model: str) -> Response:
        found = find_channel(self.application, channel), find_model(self.application, model)
        return self.shown(request, services.holdback_of(*found))

    def put(self, request: Request, channel: str, model: str) -> Response:
        wanted = self.body(request)
        found = {
            "channel": find_channel(self.application, channel),
            "model": find_model(self.application, model),
        }
        row = Holdback.objects.filter(**found).first()
        if row is None:
            require_match(request, "*")
        told = {**found, **wanted, "actor": self.actor(request), "now": timezone.now()}
        if row is None:
            return self.shown(request, services.set_holdback(**told))
        with self.unchanged(request, row):
            return self.shown(request, services.set_holdback(**told))

    def delete(self, request: Request, channel: str, model: str) -> Response:
        found = find_channel(self.application, channel), find_model(self.application, model)
        with self.unchanged(request, services.holdback_of(*found)) as row:
            services.lift_holdback(
                channel=row.channel,
                model=row.model,
                actor=self.actor(request),
                now=timezone.now(),
                reason=self.query(request)["reason"],
            )
        return Response(status=204)


class LayerMapView(NounView):
    verbs = {
        "GET": Verb(summary="Who holds which buckets, and which are free", role=Role.VIEWER, answer=LayerMapSerializer)
    }

    def get(self, request: Request, layer: int) -> Response:
        return self.shown(request, services.layer_map(find_layer(self.application, layer)))
