"""What goes another way than by an experiment's buckets, and who holds those: overrides, holdbacks, layers."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from experiments import services
from experiments.api.access import find_experiment, find_layer
from experiments.api.actions import WritingView
from experiments.api.serializers import (
    ArmOverrideSerializer,
    ExperimentSerializer,
    HoldbackBody,
    HoldbackSerializer,
    LayerMapSerializer,
    LayerSerializer,
    OverrideBody,
    PreviewSerializer,
    ReasonWriteQuery,
    SliceQuery,
    WriteQuery,
)
from experiments.models import Holdback
from registry.api.access import find_channel, find_model
from registry.api.base import NounView, Verb, require_match
from registry.api.pages import PageQuery
from registry.models import Role


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


class SliceListView(NounView):
    """Rows of a channel and a model, filtered by either."""

    def found(self, request: Request, rows: "QuerySet[Any]") -> Response:
        wanted = self.query(request)
        conditions = {f"{name}__slug": wanted[name] for name in ("channel", "model") if name in wanted}
        return self.page(request, rows.filter(**conditions), by="-id")


class HoldbacksView(SliceListView):
    verbs = {
        "GET": Verb(
            summary="Slices that stay on one version",
            role=Role.VIEWER,
            query=SliceQuery,
            answer=HoldbackSerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        return self.found(request, services.holdbacks(self.application))


class HoldbackView(WritingView):
    """If-Match: the ETag of the holdback in force, or `*` where there is none."""

    verbs = {
        "GET": Verb(summary="The slice that stays on one version", role=Role.VIEWER, answer=HoldbackSerializer),
        "PUT": Verb(
            summary="Keep a slice of the model's devices on one version",
            role=Role.RELEASER,
            body=HoldbackBody,
            query=WriteQuery,
            answer=HoldbackSerializer,
            conditional=True,
            idempotent=True,
        ),
        "DELETE": Verb(
            summary="Let everybody have what is released, at once",
            role=Role.RELEASER,
            query=ReasonWriteQuery,
            answer=HoldbackSerializer,
            conditional=True,
            idempotent=True,
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
            return self.kept(request, services.set_holdback, **found, **wanted)
        with self.unchanged(request, row):
            return self.kept(request, services.set_holdback, **found, **wanted)

    def delete(self, request: Request, channel: str, model: str) -> Response:
        found = find_channel(self.application, channel), find_model(self.application, model)
        with self.unchanged(request, services.holdback_of(*found)) as row:
            reason = self.query(request)["reason"]
            return self.kept(request, services.lift_holdback, channel=row.channel, model=row.model, reason=reason)

    def kept(self, request: Request, verb: Callable[..., Holdback], **told: Any) -> Response:
        """Do it, or try it: then without an ETag, as there is no such state."""
        now = timezone.now()

        def deed() -> Holdback:
            return verb(**told, actor=self.actor(request), now=now)

        if not self.is_trial(request):
            return self.shown(request, deed())
        row, preview = services.preview_holdback(deed, channel=told["channel"], model=told["model"], now=now)
        shown = HoldbackSerializer(row, context={"request": request}).data
        return Response(shown | {"preview": PreviewSerializer(preview).data})


class LayersView(SliceListView):
    verbs = {
        "GET": Verb(
            summary="Layers: the buckets of one model's devices on one channel",
            role=Role.VIEWER,
            query=SliceQuery,
            answer=LayerSerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        return self.found(request, services.layers(self.application))


class LayerMapView(NounView):
    verbs = {
        "GET": Verb(summary="Who holds which buckets, and which are free", role=Role.VIEWER, answer=LayerMapSerializer)
    }

    def get(self, request: Request, layer: int) -> Response:
        return self.shown(request, services.layer_map(find_layer(self.application, layer)))
