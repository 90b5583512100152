"""REST for what devices get: release, roll back, stop, and what became of it."""

from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from distribution import errors, services
from distribution.api.serializers import (
    KillSwitchQuery,
    KillSwitchSerializer,
    LiftQuery,
    ReleasedSerializer,
    ReleaseQuery,
    ReleaseRequest,
    ReleaseSerializer,
    RevisionSerializer,
    RollbackRequest,
)
from registry.api.access import find_channel, find_model, find_version
from registry.api.base import NounView, Verb
from registry.api.serializers import ReasonRequest
from registry.errors import NotFound
from registry.models import Role


class ReleasesView(NounView):
    verbs = {
        "GET": Verb(
            summary="The channel's releases, newest first",
            role=Role.VIEWER,
            query=ReleaseQuery,
            answer=ReleaseSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Publish a version",
            role=Role.RELEASER,
            body=ReleaseRequest,
            answer=ReleasedSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, channel: str) -> Response:
        wanted = self.query(request)
        columns = {"model": "model_version__model__slug", "state": "state"}
        conditions = {columns[name]: value for name, value in wanted.items() if name in columns}
        releases = find_channel(self.application, channel).releases.filter(**conditions)
        return self.page(request, releases.select_related("channel", "model_version__model"), by="-id")

    def post(self, request: Request, channel: str) -> Response:
        wanted = self.body(request)
        release = services.publish(
            channel=find_channel(self.application, channel),
            version=find_version(find_model(self.application, wanted["model"]), wanted["version"]),
            actor=self.actor(request),
            now=timezone.now(),
            reason=wanted["reason"],
        )
        return self.shown(request, release)


class ReleaseView(NounView):
    verbs = {"GET": Verb(summary="One release and its state", role=Role.VIEWER, answer=ReleaseSerializer)}

    def get(self, request: Request, channel: str, release: int) -> Response:
        found = find_channel(self.application, channel)
        row = found.releases.select_related("channel", "model_version__model").filter(pk=release).first()
        if row is None:
            raise errors.ReleaseNotFound(f"expected the id of a release on {found}, got {release}")
        return self.shown(request, row)


class RollbackView(NounView):
    verbs = {
        "POST": Verb(
            summary="Make an earlier version current again",
            role=Role.RELEASER,
            body=RollbackRequest,
            answer=ReleasedSerializer,
            status=201,
            idempotent=True,
        )
    }

    def post(self, request: Request, channel: str) -> Response:
        wanted = self.body(request)
        release = services.roll_back(
            channel=find_channel(self.application, channel),
            model=find_model(self.application, wanted["model"]),
            to_version=wanted["to_version"],
            actor=self.actor(request),
            now=timezone.now(),
            reason=wanted["reason"],
        )
        return self.shown(request, release)


class KillSwitchesView(NounView):
    verbs = {
        "GET": Verb(
            summary="Kill switches of the channel, engaged and lifted, newest first",
            role=Role.VIEWER,
            query=KillSwitchQuery,
            answer=KillSwitchSerializer,
            many=True,
        )
    }

    def get(self, request: Request, channel: str) -> Response:
        wanted = self.query(request)
        switches = find_channel(self.application, channel).kill_switches.select_related("channel", "model")
        if "model" in wanted:
            switches = switches.filter(model__slug=wanted["model"])
        if wanted["engaged"] is not None:
            switches = switches.filter(lifted_at__isnull=wanted["engaged"])
        return self.page(request, switches, by="-id")


class KillSwitchView(NounView):
    """Neither needs If-Match: a stop must work at once, and a second one is refused as it is."""

    verbs = {
        "GET": Verb(summary="The engaged kill switch of a model", role=Role.VIEWER, answer=KillSwitchSerializer),
        "POST": Verb(
            summary="Send devices to the model embedded in their app",
            role=Role.RELEASER,
            body=ReasonRequest,
            answer=KillSwitchSerializer,
            status=201,
            idempotent=True,
        ),
        "DELETE": Verb(summary="Serve the release again", role=Role.RELEASER, query=LiftQuery, status=204),
    }

    def get(self, request: Request, channel: str, model: str) -> Response:
        found = find_channel(self.application, channel)
        named = find_model(self.application, model)
        row = found.kill_switches.filter(model=named, lifted_at__isnull=True).first()
        if row is None:
            raise NotFound(f"expected an engaged kill switch for {named} on {found}, found none", field="model")
        return self.shown(request, row)

    def post(self, request: Request, channel: str, model: str) -> Response:
        wanted = self.body(request)
        switch = services.engage_kill_switch(reason=wanted["reason"], **self._turn(request, channel, model))
        return self.shown(request, switch)

    def delete(self, request: Request, channel: str, model: str) -> Response:
        sent = request.data if isinstance(request.data, dict) else {}
        body = ReasonRequest(data={**self.query(request), **sent})
        body.is_valid(raise_exception=True)
        services.lift_kill_switch(reason=body.validated_data["reason"], **self._turn(request, channel, model))
        return Response(status=204)

    def _turn(self, request: Request, channel: str, model: str) -> dict[str, Any]:
        return {
            "channel": find_channel(self.application, channel),
            "model": find_model(self.application, model),
            "actor": self.actor(request),
            "now": timezone.now(),
        }


class RevisionsView(NounView):
    verbs = {
        "GET": Verb(
            summary="Revisions of the signed tree, newest first",
            role=Role.VIEWER,
            answer=RevisionSerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        return self.page(request, self.application.revisions.all(), by="-number")


class RevisionView(NounView):
    verbs = {"GET": Verb(summary="One revision", role=Role.VIEWER, answer=RevisionSerializer)}

    def get(self, request: Request, revision: int) -> Response:
        row = self.application.revisions.filter(number=revision).first()
        if row is None:
            raise NotFound(f"expected the number of a revision of {self.application}, got {revision}")
        return self.shown(request, row)
