"""Uploads, models, their versions, and what conversion made of them."""

from collections.abc import Iterator
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from registry import errors, services
from registry.api.access import find_job, find_model, find_variant, find_version
from registry.api.base import NounView, Verb
from registry.api.serializers import NameRequest, ReasonRequest
from registry.api.version_serializers import (
    JobQuery,
    JobReportSerializer,
    JobSerializer,
    ListedVariantSerializer,
    ModelRequest,
    ModelSerializer,
    PlacedJobSerializer,
    RecipesRequest,
    UploadQuery,
    UploadSerializer,
    VariantSerializer,
    VersionQuery,
    VersionRequest,
    VersionSerializer,
)
from registry.digests import CHUNK_BYTES, is_sha256_hex
from registry.models import Application, ConversionJob, ModelVersion, Role, Upload
from registry.services.bundles import ExtraFile, find_parts
from registry.services.models import create_model, rename_model
from registry.services.profiles import recipes_for_push

LONGEST_FILE_NAME = 255


class UploadsView(NounView):
    """`POST …/uploads?file_name=model.keras&sha256=<hex>` with the bytes as the body, streamed to the store."""

    verbs = {
        "GET": Verb(
            summary="The application's uploads, newest first", role=Role.EDITOR, answer=UploadSerializer, many=True
        ),
        "POST": Verb(
            summary="Take the bytes of the body",
            role=Role.EDITOR,
            query=UploadQuery,
            takes_bytes=True,
            answer=UploadSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.page(request, self.application.uploads.select_related("artifact"), by="-pk")

    def post(self, request: Request) -> Response:
        upload = services.receive_upload(
            application=self.application,
            chunks=_body_chunks(request),
            file_name=_file_name(request),
            expected_sha256=_expected_sha256(request),
            user=request.user if request.user.is_authenticated else None,
            now=timezone.now(),
        )
        return self.shown(request, upload)

    def what_is_sent(self, request: Request) -> Any:
        """The bytes by their declared digest, for they pass only once."""
        declared = _expected_sha256(request)
        if declared is None:
            raise errors.Invalid("expected sha256 beside an Idempotency-Key, got none", field="sha256")
        return declared


class UploadView(NounView):
    verbs = {
        "GET": Verb(summary="One upload", role=Role.EDITOR, answer=UploadSerializer),
        "DELETE": Verb(summary="Forget an upload that no version uses", role=Role.EDITOR, status=204),
    }

    def get(self, request: Request, upload: int) -> Response:
        return self.shown(request, self._found(upload))

    def delete(self, request: Request, upload: int) -> Response:
        services.delete_upload(upload=self._found(upload), actor=self.actor(request), now=timezone.now())
        return Response(status=204)

    def _found(self, upload: int) -> Upload:
        found = self.application.uploads.select_related("artifact", "application").filter(pk=upload).first()
        if found is None:
            raise errors.NotFound(f"expected the id of an upload to {self.application}, got {upload}", field="upload")
        return found


class ModelsView(NounView):
    verbs = {
        "GET": Verb(summary="The application's models", role=Role.VIEWER, answer=ModelSerializer, many=True),
        "POST": Verb(
            summary="Make a model; a first push makes it too",
            role=Role.EDITOR,
            body=ModelRequest,
            answer=ModelSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request) -> Response:
        return self.page(request, self.application.registered_models.all(), by="slug")

    def post(self, request: Request) -> Response:
        made = create_model(
            application=self.application, actor=self.actor(request), now=timezone.now(), **self.body(request)
        )
        return self.shown(request, made)


class ModelView(NounView):
    verbs = {
        "GET": Verb(summary="One model", role=Role.VIEWER, answer=ModelSerializer),
        "PATCH": Verb(
            summary="Change the name that people read",
            role=Role.EDITOR,
            body=NameRequest,
            answer=ModelSerializer,
            conditional=True,
        ),
    }

    def get(self, request: Request, model: str) -> Response:
        return self.shown(request, find_model(self.application, model))

    def patch(self, request: Request, model: str) -> Response:
        wanted = self.body(request)
        with self.unchanged(request, find_model(self.application, model)) as row:
            rename_model(model=row, name=wanted["name"], actor=self.actor(request), now=timezone.now())
            row.refresh_from_db()
        return self.shown(request, row)


class VersionsView(NounView):
    verbs = {
        "GET": Verb(
            summary="Versions, newest first",
            role=Role.VIEWER,
            query=VersionQuery,
            answer=VersionSerializer,
            many=True,
        ),
        "POST": Verb(
            summary="Register a version from uploads and ask for its conversions",
            role=Role.EDITOR,
            body=VersionRequest,
            answer=VersionSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, model: str) -> Response:
        wanted = self.query(request)
        versions = find_model(self.application, model).versions.select_related(
            "model", "source", "evaluation_set", "training_set", "rebuilt_from"
        )
        if wanted["yanked"] is not None:
            versions = versions.filter(yanked_at__isnull=not wanted["yanked"])
        if "source_format" in wanted:
            versions = versions.filter(source_format=wanted["source_format"])
        related = ("jobs", "variants", "files__artifact", "parts__part__model")
        return self.page(request, versions.prefetch_related(*related), by="-number")

    def post(self, request: Request, model: str) -> Response:
        """The first version makes the model."""
        wanted = self.body(request)
        uploads = {
            role: _find_upload(self.application, wanted[role], role) if wanted.get(role) else None
            for role in ("evaluation_set", "training_set")
        }
        version = services.register_version(
            application=self.application,
            model_slug=model,
            source=_find_upload(self.application, wanted["source"], "source"),
            source_signature=wanted.get("source_signature", ""),
            labels=wanted.get("labels", ()),
            metadata=wanted.get("metadata"),
            files=[_extra_file(self.application, **file) for file in wanted.get("files", ())],
            parts=find_parts(self.application, wanted.get("parts", ())),
            notes=wanted.get("notes", ""),
            recipes=wanted.get("recipes"),
            profile=wanted.get("profile"),
            **uploads,
            actor=self.actor(request),
            now=timezone.now(),
        )
        return self.shown(request, version)


class OneVersionView(NounView):
    """What the addresses below one version share."""

    def found(self, model: str, number: int) -> ModelVersion:
        return find_version(find_model(self.application, model), number)


class VersionView(OneVersionView):
    verbs = {"GET": Verb(summary="One version with its jobs", role=Role.VIEWER, answer=VersionSerializer)}

    def get(self, request: Request, model: str, number: int) -> Response:
        return self.shown(request, self.found(model, number))


class VariantsView(OneVersionView):
    verbs = {
        "GET": Verb(
            summary="What each conversion made and cost; outcomes of samples stand in the single variant's report",
            role=Role.VIEWER,
            answer=ListedVariantSerializer,
            many=True,
        )
    }

    def get(self, request: Request, model: str, number: int) -> Response:
        variants = self.found(model, number).variants.prefetch_related("files__artifact", "parts__part__version__model")
        return self.page(request, variants, by="name")


class VariantView(OneVersionView):
    verbs = {"GET": Verb(summary="One variant with its files and report", role=Role.VIEWER, answer=VariantSerializer)}

    def get(self, request: Request, model: str, number: int, variant: str) -> Response:
        return self.shown(request, find_variant(self.found(model, number), variant))


class VersionJobsView(OneVersionView):
    verbs = {
        "GET": Verb(summary="The version's conversions", role=Role.VIEWER, answer=JobSerializer, many=True),
        "POST": Verb(
            summary="Ask for further recipes, or those of a profile; what the version has already stays as it is",
            role=Role.EDITOR,
            body=RecipesRequest,
            answer=VersionSerializer,
            status=201,
            idempotent=True,
        ),
    }

    def get(self, request: Request, model: str, number: int) -> Response:
        return self.page(request, self.found(model, number).jobs.all(), by="pk")

    def post(self, request: Request, model: str, number: int) -> Response:
        wanted = self.body(request)
        version = self.found(model, number)
        _, recipes = recipes_for_push(version.model, profile=wanted.get("profile"), recipes=wanted.get("recipes"))
        if recipes is None:
            raise errors.Invalid("expected recipes or a profile, got neither", field="recipes")
        services.request_recipes(version=version, recipes=recipes, actor=self.actor(request), now=timezone.now())
        return self.shown(request, version)


class VersionJobView(OneVersionView):
    verbs = {"GET": Verb(summary="One conversion with its report", role=Role.VIEWER, answer=JobReportSerializer)}

    def get(self, request: Request, model: str, number: int, recipe: str) -> Response:
        return self.shown(request, find_job(self.found(model, number), recipe))


class JobsView(NounView):
    verbs = {
        "GET": Verb(
            summary="Conversions of all models, newest first",
            role=Role.VIEWER,
            query=JobQuery,
            answer=PlacedJobSerializer,
            many=True,
        )
    }

    def get(self, request: Request) -> Response:
        wanted = self.query(request)
        columns = {"state": "state", "recipe": "recipe", "model": "version__model__slug"}
        conditions = {columns[name]: value for name, value in wanted.items() if name in columns}
        jobs = ConversionJob.objects.filter(version__model__application=self.application, **conditions)
        return self.page(request, jobs.select_related("version__model"), by="-pk")


class YankView(OneVersionView):
    verbs = {
        "POST": Verb(
            summary="Withdraw a version from new decisions",
            role=Role.RELEASER,
            body=ReasonRequest,
            answer=VersionSerializer,
        )
    }

    def post(self, request: Request, model: str, number: int) -> Response:
        wanted = self.body(request)
        version = self.found(model, number)
        services.yank_version(version=version, reason=wanted["reason"], actor=self.actor(request), now=timezone.now())
        version.refresh_from_db()
        return self.shown(request, version)


def _body_chunks(request: Request) -> Iterator[bytes]:
    """The body as it comes. Raises `UploadIncomplete` when it ends before the length that was announced."""
    stream, received = request.stream, 0
    while stream is not None and (chunk := stream.read(CHUNK_BYTES)):
        received += len(chunk)
        yield chunk
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    if received < announced:
        raise errors.UploadIncomplete(f"expected {announced} bytes, as announced, got {received}")


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


def _extra_file(application: Application, *, upload: int, role: str, path: str = "") -> ExtraFile:
    found = _find_upload(application, upload, "files")
    return ExtraFile(role, path or found.file_name, found)


def _find_upload(application: Application, upload_id: int, field: str) -> Upload:
    upload = application.uploads.select_related("artifact").filter(pk=upload_id).first()
    if upload is None:
        raise errors.Invalid(f"expected the id of an upload to {application}, got {upload_id}", field=field)
    return upload
