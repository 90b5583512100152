from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from registry import errors, inspection
from registry.blob_store import StagedBlob, blob_store
from registry.models import Application, Artifact, AuditEntry, ModelVersion, PublishRequest, RegisteredModel, Upload
from registry.services.applications import require_slug
from registry.services.conversions import request_conversions


def receive_upload(
    *,
    application: Application,
    chunks: Iterable[bytes],
    file_name: str,
    expected_sha256: str | None,
    user: User | None,
    now: datetime,
) -> Upload:
    """Stream bytes into the store and remember them as an upload. Same bytes, same artifact.

    Raises `UploadTooLarge`, `UploadEmpty`, `UploadDigestMismatch`; then nothing is kept.
    """
    staged = blob_store().stage(chunks, max_bytes=settings.AEROGRAM_MAX_UPLOAD_BYTES, expected_sha256=expected_sha256)
    with transaction.atomic():
        return Upload.objects.create(
            application=application,
            artifact=keep_artifact(staged, now),
            file_name=file_name,
            uploaded_by=user,
            uploaded_at=now,
        )


def keep_artifact(staged: StagedBlob, now: datetime) -> Artifact:
    """Move staged bytes to their content key and give them a row. The bytes come first: a row never lacks its bytes."""
    blob_store().keep(staged)
    artifact, _ = Artifact.objects.get_or_create(
        sha256=staged.sha256, defaults={"size_bytes": staged.size_bytes, "created_at": now}
    )
    return artifact


def register_version(
    *,
    application: Application,
    model_slug: str,
    source: Upload,
    evaluation_set: Upload | None = None,
    labels: Sequence[str] = (),
    notes: str = "",
    recipes: Sequence[str] | None = None,
    actor: str,
    now: datetime,
) -> ModelVersion:
    """Make an immutable, numbered version of an uploaded model and request its conversions.

    The first version of a model makes the model too. Raises `SourceRefused` when inspection does; nothing is kept then
    but the uploads.
    """
    require_slug(model_slug, field="model")
    found = inspect_source(source)
    if evaluation_set is not None:
        inspect_evaluation_set(evaluation_set)
    with transaction.atomic():
        model = _model_for_update(application, model_slug, now)
        version = ModelVersion.objects.create(
            model=model,
            number=(model.versions.values_list("number", flat=True).first() or 0) + 1,
            source=source.artifact,
            source_format=found.format,
            source_file_name=source.file_name,
            evaluation_set=evaluation_set.artifact if evaluation_set else None,
            labels=list(labels),
            inspection=found.to_json(),
            notes=notes,
            registered_by=actor,
            registered_at=now,
        )
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="register_version",
            subject=str(version),
            application=application,
            after={"source": version.source.sha256, "format": version.source_format},
        )
        request_conversions(version=version, inspected=found, recipes=recipes, now=now)
    return version


def inspect_source(upload: Upload) -> inspection.SourceInspection:
    """What a source model says of itself. Raises `SourceRefused` with what is wrong with it."""
    path = blob_store().path(upload.artifact.sha256)
    try:
        return inspection.inspect_source(path, upload.file_name)
    except inspection.InspectionError as error:
        raise errors.SourceRefused(f"{upload.file_name}: {error}", field="source") from error


def inspect_evaluation_set(upload: Upload) -> Mapping[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each array. Raises `SourceRefused` with what is wrong with the file."""
    path = blob_store().path(upload.artifact.sha256)
    try:
        return inspection.inspect_evaluation_set(path)
    except inspection.InspectionError as error:
        raise errors.SourceRefused(f"{upload.file_name}: {error}", field="evaluation_set") from error


def yank_version(*, version: ModelVersion, reason: str, actor: str, now: datetime) -> None:
    """Withdraw a version from new decisions; its bytes stay. Raises `VersionYanked` when it is already."""
    with transaction.atomic():
        changed = ModelVersion.objects.filter(pk=version.pk, yanked_at__isnull=True).update(
            yanked_at=now, yank_reason=reason
        )
        if not changed:
            raise errors.VersionYanked(f"expected a version in use, got {version}, which is yanked")
        application = version.model.application
        AuditEntry.record(
            now=now, actor=actor, verb="yank_version", subject=str(version), application=application, reason=reason
        )
        PublishRequest.objects.create(application=application, reason=f"yank {version}", requested_at=now)


def _model_for_update(application: Application, slug: str, now: datetime) -> RegisteredModel:
    # The row lock makes numbers of concurrent pushes follow one another without a gap or a clash.
    RegisteredModel.objects.get_or_create(
        application=application, slug=slug, defaults={"name": slug, "created_at": now}
    )
    return RegisteredModel.objects.select_for_update().get(application=application, slug=slug)
