"""REST for what devices get: release, roll back, stop, and what became of it."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from distribution import errors, services
from distribution.models import Release, Revision
from distribution.trust.tree import SignedTree
from registry.api.access import find_application, find_channel, find_model, find_version
from registry.blob_store import blob_store
from registry.models import Role


class ReleaseRequest(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=63)
    version = serializers.IntegerField(min_value=1)
    reason = serializers.CharField(required=False, allow_blank=True, max_length=1000, default="")


class RollbackRequest(serializers.Serializer[Any]):
    model = serializers.CharField(max_length=63)
    to_version = serializers.IntegerField(min_value=1, required=False, allow_null=True, default=None)
    reason = serializers.CharField(max_length=1000)


class ReasonRequest(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=1000)


class ReleaseSerializer(serializers.ModelSerializer[Release]):
    channel = serializers.CharField(source="channel.slug")
    model = serializers.CharField(source="model_version.model.slug")
    version = serializers.IntegerField(source="model_version.number")

    class Meta:
        model = Release
        fields = [
            "id",
            "channel",
            "model",
            "version",
            "release_counter",
            "state",
            "is_rollback",
            "reason",
            "released_by",
            "released_at",
            "live_revision",
        ]


class RevisionSerializer(serializers.ModelSerializer[Revision]):
    class Meta:
        model = Revision
        fields = ["number", "reason", "prepared_at", "published_at"]


class ReleasesView(APIView):
    def get(self, request: Request, application: str, channel: str) -> Response:
        found = find_channel(find_application(request, application, Role.VIEWER), channel)
        releases = found.releases.select_related("channel", "model_version__model")
        return Response(ReleaseSerializer(releases, many=True).data)

    def post(self, request: Request, application: str, channel: str) -> Response:
        found = find_application(request, application, Role.RELEASER)
        body = ReleaseRequest(data=request.data)
        body.is_valid(raise_exception=True)
        wanted: dict[str, Any] = body.validated_data
        release = services.publish(
            channel=find_channel(found, channel),
            version=find_version(find_model(found, wanted["model"]), wanted["version"]),
            actor=request.user.get_username(),
            now=timezone.now(),
            reason=wanted["reason"],
        )
        return Response(ReleaseSerializer(release).data, status=status.HTTP_201_CREATED)


class ReleaseView(APIView):
    def get(self, request: Request, application: str, channel: str, release: int) -> Response:
        found = find_channel(find_application(request, application, Role.VIEWER), channel)
        row = found.releases.select_related("channel", "model_version__model").filter(pk=release).first()
        if row is None:
            raise errors.ReleaseNotFound(f"expected the id of a release on {found}, got {release}")
        return Response(ReleaseSerializer(row).data)


class RollbackView(APIView):
    def post(self, request: Request, application: str, channel: str) -> Response:
        found = find_application(request, application, Role.RELEASER)
        body = RollbackRequest(data=request.data)
        body.is_valid(raise_exception=True)
        wanted: dict[str, Any] = body.validated_data
        release = services.roll_back(
            channel=find_channel(found, channel),
            model=find_model(found, wanted["model"]),
            to_version=wanted["to_version"],
            actor=request.user.get_username(),
            now=timezone.now(),
            reason=wanted["reason"],
        )
        return Response(ReleaseSerializer(release).data, status=status.HTTP_201_CREATED)


class KillSwitchView(APIView):
    def post(self, request: Request, application: str, channel: str, model: str) -> Response:
        return self._turn(services.engage_kill_switch, request, application, channel, model)

    def delete(self, request: Request, application: str, channel: str, model: str) -> Response:
        return self._turn(services.lift_kill_switch, request, application, channel, model)

    def _turn(self, verb: Any, request: Request, application: str, channel: str, model: str) -> Response:
        found = find_application(request, application, Role.RELEASER)
        body = ReasonRequest(data=request.data)
        body.is_valid(raise_exception=True)
        verb(
            channel=find_channel(found, channel),
            model=find_model(found, model),
            actor=request.user.get_username(),
            now=timezone.now(),
            reason=body.validated_data["reason"],
        )
        return Response(status=status.HTTP_204_NO_CONTENT)


class RevisionsView(APIView):
    def get(self, request: Request, application: str) -> Response:
        found = find_application(request, application, Role.VIEWER)
        return Response(RevisionSerializer(found.revisions.all()[:100], many=True).data)


class RootView(APIView):
    """The trust root that an app embeds. Public in itself; asked for here by whoever builds the app."""

    def get(self, request: Request, application: str) -> Response:
        found = find_application(request, application, Role.VIEWER)
        root = SignedTree(blob_store(), found.slug).root()
        if root is None:
            raise errors.RootNotSigned(f"expected a signed root for {found}; the signer process has not made it yet")
        return Response(root.to_dict())
