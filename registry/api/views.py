"""REST for what exists. Thin: find, check the role, call the service, show the result."""

from collections.abc import Iterator
from typing import Any

from django.utils import timezone
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import errors, services
from registry.api.access import find_application, find_model, find_version
from registry.api.serializers import (
    ApplicationSerializer,
    ChannelRequest,
    UploadSerializer,
    VariantSerializer,
    VersionRequest,
    VersionSerializer,
    YankRequest,
)
from registry.digests import CHUNK_BYTES, is_sha256_hex
from registry.models import Application, Role, Upload

LONGEST_FILE_NAME = 255


class ApplicationsView(APIView):
    def get(self, request: Request) -> Response:
        applications = Application.objects.prefetch_related("channels")
        if not request.user.is_superuser:
            applications = applications.filter(memberships__user_id=request.user.pk or 0)
        return Response(ApplicationSerializer(applications, many=True).data)

    def post(self, request: Request) -> Response:
        if not request.user.is_superuser:
            raise errors.NotAllowed("expected a superuser, who alone makes applications")
        body = ApplicationSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        application = services.create_application(
            slug=body.validated_data["slug"],
            name=body.validated_data["name"],
            actor=request.user.get_username(),
            now=timezone.now(),
        )
        return Response(ApplicationSerializer(application).data, status=status.HTTP_201_CREATED)


class ChannelsView(APIView):
    def post(self, request: Request, application: str) -> Response:
        found = find_application(request, application, Role.ADMINISTRATOR)
        body = ChannelRequest(data=request.data)
        body.is_valid(raise_exception=True)
        channel = services.create_channel(
            application=found,
            slug=body.validated_data["slug"],
            actor=request.user.get_username(),
            now=timezone.now(),
        )
        return Response({"slug": channel.slug, "created_at": channel.created_at}, status=status.HTTP_201_CREATED)


class UploadsView(APIView):
    """`POST …/uploads?file_name=model.keras&sha256=<hex>` with the bytes as the body, streamed to the store."""

    def post(self, request: Request, application: str) -> Response:
        found = find_application(request, application, Role.EDITOR)
        upload = services.receive_upload(
            application=found,
            chunks=_body_chunks(request),
            file_name=_file_name(request),
            expected_sha256=_expected_sha256(request),
            user=request.user if request.user.is_authenticated else None,
            now=timezone.now(),
        )
        return Response(UploadSerializer(upload).data, status=status.HTTP_201_CREATED)


class ModelsView(APIView):
    def get(self, request: Request, application: str) -> Response:
        found = find_application(request, application, Role.VIEWER)
        return Response(
            [
                {"slug": model.slug, "name": model.name, "versions": model.versions.count()}
                for model in found.registered_models.all()
            ]
        )


class VersionsView(APIView):
    def get(self, request: Request, application: str, model: str) -> Response:
        found = find_model(find_application(request, application, Role.VIEWER), model)
        versions = found.versions.select_related("model", "source", "evaluation_set")
        return Response(VersionSerializer(versions.prefetch_related("jobs", "variants"), many=True).data)

    def post(self, request: Request, application: str, model: str) -> Response:
        """Register a version from uploads; the first version makes the model."""
        found = find_application(request, application, Role.EDITOR)
        body = VersionRequest(data=request.data)
        body.is_valid(raise_exception=True)
        wanted: dict[str, Any] = body.validated_data
        evaluation_set = wanted.get("evaluation_set")
        version = services.register_version(
            application=found,
            model_slug=model,
            source=_find_upload(found, wanted["source"], "source"),
            evaluation_set=_find_upload(found, evaluation_set, "evaluation_set") if evaluation_set else None,
            labels=wanted.get("labels", ()),
            notes=wanted.get("notes", ""),
            recipes=wanted.get("recipes"),
            actor=request.user.get_username(),
            now=timezone.now(),
        )
        return Response(VersionSerializer(version).data, status=status.HTTP_201_CREATED)


class VersionView(APIView):
    def get(self, request: Request, application: str, model: str, number: int) -> Response:
        found = find_application(request, application, Role.VIEWER)
        return Response(VersionSerializer(find_version(find_model(found, model), number)).data)


class VariantsView(APIView):
    def get(self, request: Request, application: str, model: str, number: int) -> Response:
        found = find_application(request, application, Role.VIEWER)
        version = find_version(find_model(found, model), number)
        return Response(VariantSerializer(version.variants.prefetch_related("files__artifact"), many=True).data)


class YankView(APIView):
    def post(self, request: Request, application: str, model: str, number: int) -> Response:
        found = find_application(request, application, Role.RELEASER)
        version = find_version(find_model(found, model), number)
        body = YankRequest(data=request.data)
        body.is_valid(raise_exception=True)
        services.yank_version(
            version=version,
            reason=body.validated_data["reason"],
            actor=request.user.get_username(),
            now=timezone.now(),
        )
        version.refresh_from_db()
        return Response(VersionSerializer(version).data)


def _body_chunks(request: Request) -> Iterator[bytes]:
    stream = request.stream
    while stream is not None and (chunk := stream.read(CHUNK_BYTES)):
        yield chunk


def _file_name(request: Request) -> str:
    name = request.query_params.get("file_name", "")
    if not 0 < len(name) <= LONGEST_FILE_NAME or "/" in name or "\\" in name or not name.isprintable():
        expected = f"a plain file name of 1 to {LONGEST_FILE_NAME} characters"
        raise errors.Invalid(f"expected {expected}, got {name!r}", field="file_name")
    return name


def _expected_sha256(request: Request) -> str | None:
    declared = request.query_params.get("sha256")
    if declared is not None and not is_sha256_hex(declared):
        raise errors.Invalid(f"expected 64 lower-case hex digits, got {declared!r}", field="sha256")
    return declared


def _find_upload(application: Application, upload_id: int, field: str) -> Upload:
    upload = application.uploads.select_related("artifact").filter(pk=upload_id).first()
    if upload is None:
        raise errors.Invalid(f"expected the id of an upload to {application}, got {upload_id}", field=field)
    return upload
