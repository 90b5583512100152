"""The page that uploads a model with its evaluation set, and the two addresses its script calls.

The bytes of each file are the body of one request, streamed to the store and inspected at once, so that a word on what
is wrong with a file comes before the form is sent. Errors leave as exceptions; the site answers them as JSON.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from registry import errors, services
from registry.admin import access
from registry.admin.shared import choose_application
from registry.bundles import FILE_ROLES
from registry.conversion.recipes import RECIPES
from registry.digests import CHUNK_BYTES
from registry.inspection import SourceInspection
from registry.models import Application, ConversionProfile, ModelVersion, Role, Upload, Variant
from registry.services import require_role
from registry.services.bundles import ExtraFile, find_parts
from registry.templatetags.aerogram import shape, size

if TYPE_CHECKING:
    from registry.admin.shared import MemberAdmin

LONGEST_FILE_NAME = 255
LONGEST_FORM_BYTES = 1 << 20
EVALUATION_SET, TRAINING_SET, EXTRA_FILE = "evaluation_set", "training_set", "file"
MOST_PART_CHOICES = 500
LONGEST_NUMBER = 9


def upload_page(page_of: "MemberAdmin", request: HttpRequest) -> HttpResponse:
    allowed, chosen = choose_application(request, Role.EDITOR)
    if chosen is None:
        what = "an application in which you are editor" if not access.is_superuser(request) else "an application"
        raise errors.NotAllowed(f"expected {what}, found none")
    return page_of.page(
        request,
        "registry/upload.html",
        "Upload a model",
        allowed=allowed,
        chosen=chosen,
        models={app.slug: list(app.registered_models.values_list("slug", flat=True)) for app in allowed},
        model=request.GET.get("model", ""),
        profiles={app.slug: _profiles(app) for app in allowed},
        recipes=RECIPES.values(),
        metadata_texts=("name", "description", "version", "author", "license"),
        file_roles=FILE_ROLES,
        part_choices=_part_choices(chosen),
        most_bytes=settings.AEROGRAM_MAX_UPLOAD_BYTES,
    )


def _part_choices(application: Application) -> list[str]:
    """Versions that can be a part, as `model:version`, each model's newest first."""
    rows = ModelVersion.objects.filter(model__application=application, yanked_at=None, parts=None)
    rows = rows.filter(Exists(Variant.objects.filter(version=OuterRef("pk"))))
    numbered = rows.order_by("model__slug", "-number").values_list("model__slug", "number")
    return [f"{model}:{number}" for model, number in numbered[:MOST_PART_CHOICES]]


def _profiles(application: Application) -> dict[str, list[dict[str, Any]]]:
    """Model -> its profiles, the default one first."""
    rows = ConversionProfile.objects.filter(model__application=application).select_related("model")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows.order_by("-is_default", "name"):
        told = {"name": row.name, "is_default": row.is_default, "recipes": row.recipes}
        found.setdefault(row.model.slug, []).append(told)
    return found


@require_POST
def receive_view(request: HttpRequest) -> JsonResponse:
    """`?application=&file_name=&role=source|evaluation_set|training_set|file`, the file as the body."""
    application = _application(request.GET.get("application", ""), request)
    declared = int(request.headers.get("Content-Length") or 0)
    if declared > settings.AEROGRAM_MAX_UPLOAD_BYTES:
        most = size(settings.AEROGRAM_MAX_UPLOAD_BYTES)
        raise errors.UploadTooLarge(f"expected a file of at most {most}, got {size(declared)}")
    upload = services.receive_upload(
        application=application,
        chunks=_body(request),
        file_name=_file_name(request.GET.get("file_name", "")),
        expected_sha256=None,
        user=request.user if request.user.is_authenticated else None,
        now=timezone.now(),
    )
    role = request.GET.get("role", "")
    if role in (EVALUATION_SET, TRAINING_SET):
        arrays = services.inspect_evaluation_set(upload, field=role)
        told = [f"{name}: {shape(list(lengths))} {dtype}" for name, (lengths, dtype) in arrays.items()]
    elif role == EXTRA_FILE:
        told = []  # judged with its role and path, when it is registered
    else:
        told = _told(services.inspect_source(upload))
    received = {"id": upload.pk, "sha256": upload.artifact.sha256, "size": size(upload.artifact.size_bytes)}
    return JsonResponse({**received, "found": told})


@require_POST
def register_view(request: HttpRequest) -> JsonResponse:
    """A JSON body: the application and the members of a push, labels a line each. Answers where to go on."""
    wanted = _form(request)
    application = _application(str(wanted.get("application", "")), request)
    sets = {role: wanted.get(role) for role in (EVALUATION_SET, TRAINING_SET)}
    version = services.register_version(
        application=application,
        model_slug=str(wanted.get("model", "")),
        source=_upload(application, wanted.get("source"), "source"),
        source_signature=str(wanted.get("source_signature", "")),
        evaluation_set=_upload(application, sets[EVALUATION_SET], EVALUATION_SET) if sets[EVALUATION_SET] else None,
        training_set=_upload(application, sets[TRAINING_SET], TRAINING_SET) if sets[TRAINING_SET] else None,
        labels=[line.strip() for line in str(wanted.get("labels", "")).splitlines() if line.strip()],
        notes=str(wanted.get("notes", "")),
        metadata=_metadata(wanted.get("metadata")),
        files=[_extra_file(application, row) for row in _rows(wanted, "files")],
        parts=find_parts(application, [_part(row) for row in _rows(wanted, "parts")]),
        recipes=wanted.get("recipes") or None,
        profile=str(wanted.get("profile") or "") or None,
        actor=request.user.get_username(),
        now=timezone.now(),
    )
    return JsonResponse({"location": reverse("admin:registry_modelversion_change", args=[version.pk])}, status=201)


def _form(request: HttpRequest) -> dict[str, Any]:
    try:
        wanted = json.loads(request.read(LONGEST_FORM_BYTES))
    except ValueError as error:
        raise errors.Invalid(f"expected a JSON object as the body; {error}") from error
    if not isinstance(wanted, dict):
        raise errors.Invalid(f"expected a JSON object as the body, got {type(wanted).__name__}")
    recipes = wanted.get("recipes")
    if recipes is not None and not (isinstance(recipes, list) and all(isinstance(name, str) for name in recipes)):
        raise errors.Invalid("expected a list of recipe names", field="recipes")
    return wanted


def _rows(wanted: dict[str, Any], member: str) -> list[dict[str, Any]]:
    rows = wanted.get(member) or []
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise errors.BundleRefused(f"expected a list of objects as {member}", field=member)
    return rows


def _extra_file(application: Application, row: dict[str, Any]) -> ExtraFile:
    found = _upload(application, row.get("upload"), "files")
    return ExtraFile(str(row.get("role", "")), str(row.get("path") or found.file_name), found)


def _part(row: dict[str, Any]) -> dict[str, Any]:
    """`{"name", "of": "model:version"}` as it is chosen -> as the service takes it."""
    model, _, number = str(row.get("of", "")).rpartition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= LONGEST_NUMBER):
        raise errors.BundleRefused(f"expected a version as model:version, got {row.get('of')!r}", field="parts")
    return {"name": str(row.get("name", "")), "model": model, "version": int(number)}


def _metadata(wanted: object) -> dict[str, Any]:
    if not wanted:
        return {}
    if not isinstance(wanted, dict):
        raise errors.MetadataRefused(f"expected an object as metadata, got {type(wanted).__name__}", field="metadata")
    return wanted


def _application(slug: str, request: HttpRequest) -> Application:
    application = Application.objects.filter(slug=slug).first()
    if application is None:
        raise errors.NotFound(f"expected the name of an application, got {slug!r}")
    require_role(request.user, application, Role.EDITOR)
    return application


def _file_name(name: str) -> str:
    if not 0 < len(name) <= LONGEST_FILE_NAME or "/" in name or "\\" in name or not name.isprintable():
        expected = f"a plain file name of 1 to {LONGEST_FILE_NAME} characters"
        raise errors.Invalid(f"expected {expected}, got {name!r}", field="file_name")
    return name


def _body(request: HttpRequest) -> Iterator[bytes]:
    while chunk := request.read(CHUNK_BYTES):
        yield chunk


def _upload(application: Application, upload_id: object, field: str) -> Upload:
    uploads = application.uploads.select_related("artifact")
    upload = uploads.filter(pk=upload_id).first() if isinstance(upload_id, int) else None
    if upload is None:
        raise errors.Invalid(f"expected an uploaded file, got {upload_id!r}", field=field)
    return upload


def _told(found: SourceInspection) -> list[str]:
    """What inspection found, a line each."""
    lines = [found.format.replace("saved_model", "SavedModel")]
    for side, tensors in (("takes", found.inputs), ("gives", found.outputs)):
        for tensor in tensors:
            lengths = None if tensor.shape is None else list(tensor.shape)
            lines.append(f"{side} {tensor.name}: {shape(lengths)} {tensor.dtype}")
    return lines
