"""Where a model enters: uploads become immutable, numbered versions, whose conversions are requested with them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q

from registry import errors, inspection
from registry.blob_store import StagedBlob, blob_store
from registry.conversion.metadata import Metadata, MetadataError
from registry.conversion.recipes import RECIPES
from registry.models import (
    Application,
    Artifact,
    AuditEntry,
    ModelVersion,
    PublishRequest,
    RegisteredModel,
    Upload,
)
from registry.services import bundles
from registry.services.applications import require_slug
from registry.services.bundles import ExtraFile
from registry.services.conversions import request_conversions
from registry.services.profiles import recipes_for_push
from registry.services.sources import inspect_artifact, inspect_evaluation_set, inspect_source
from registry.signals import version_yanked


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


def delete_upload(*, upload: Upload, actor: str, now: datetime) -> None:
    """Forget an upload that nothing was made of. Its bytes stay: the store knows them by digest, for all applications.

    Raises `UploadInUse` when a version of the application has these bytes as source, set or extra file.
    """
    with transaction.atomic():
        artifact, application = upload.artifact, upload.application
        uses = Q(source=artifact) | Q(evaluation_set=artifact) | Q(training_set=artifact) | Q(files__artifact=artifact)
        user = ModelVersion.objects.filter(uses, model__application=application).select_related("model").first()
        if user is not None:
            raise errors.UploadInUse(f"expected an upload that no version uses, {upload} is part of {user}")
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="delete_upload",
            subject=upload.file_name,
            application=application,
            before={"sha256": artifact.sha256, "size_bytes": artifact.size_bytes},
        )
        upload.delete()


def keep_artifact(staged: StagedBlob, now: datetime) -> Artifact:
    """Move staged bytes to their content key and give them a row. The bytes come first: a row never lacks its bytes."""
    blob_store().keep(staged)
    artifact, _ = Artifact.objects.get_or_create(
        sha256=staged.sha256, defaults={"size_bytes": staged.size_bytes, "created_at": now}
    )
    return artifact


@dataclass(frozen=True)
class _Said:
    """What a version is made of and what its owner says of it."""

    source: Artifact
    source_file_name: str
    source_signature: str
    evaluation_set: Artifact | None
    training_set: Artifact | None
    labels: list[str]
    metadata: dict[str, Any]
    notes: str
    rebuilt_from: ModelVersion | None = None


def register_version(
    *,
    application: Application,
    model_slug: str,
    source: Upload,
    source_signature: str = "",
    evaluation_set: Upload | None = None,
    training_set: Upload | None = None,
    labels: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    files: Sequence[ExtraFile] = (),
    parts: Mapping[str, ModelVersion] | None = None,
    notes: str = "",
    recipes: Sequence[str] | None = None,
    profile: str | None = None,
    actor: str,
    now: datetime,
) -> ModelVersion:
    """Make an immutable, numbered version of an uploaded model and request its conversions.

    Without `recipes` those of the profile are built, without a profile those of the model's default one, without any
    all that belong to the default. The first version of a model makes the model too. Every variant holds the extra
    `files` too, and those of its `parts`, versions of other models by name. Raises `SourceRefused` when inspection
    does, `MetadataRefused`, `BundleRefused`, `PartUnfinished`, `VersionYanked`, `UnknownProfile`, `UnknownRecipe`;
    nothing is kept then but the uploads.
    """
    require_slug(model_slug, field="model")
    found = inspect_source(source)
    require_metadata(metadata or {}, labels)
    bundles.require_bundle(files, parts or {}, model_slug=model_slug, has_labels=bool(labels))
    if evaluation_set is not None:
        inspect_evaluation_set(evaluation_set)
    if training_set is not None:
        inspect_evaluation_set(training_set, field="training_set")
    said = _Said(
        source.artifact,
        source.file_name,
        source_signature,
        evaluation_set.artifact if evaluation_set else None,
        training_set.artifact if training_set else None,
        list(labels),
        dict(metadata or {}),
        notes,
    )
    with transaction.atomic():
        model = _model_for_update(application, model_slug, now)
        chosen, wanted = recipes_for_push(model, profile=profile, recipes=recipes)
        version = _make(model, said, found, profile=chosen, actor=actor, now=now)
        bundles.keep_bundle(version, files, parts or {})
        _record(version, "register_version", **bundles.told(version))
        request_conversions(version=version, inspected=found, recipes=wanted, now=now)
    return version


def rebuild_version(*, version: ModelVersion, actor: str, now: datetime, notes: str = "") -> ModelVersion:
    """A new version of the same source with the same recipes, as the converters make them today.

    What would come out the same is taken from the first one. Raises `VersionYanked`, `SourceRefused`.
    """
    if version.yanked_at is not None:
        raise errors.VersionYanked(f"expected a version in use, got {version}, which is yanked")
    found = inspect_artifact(version.source, version.source_file_name)
    said = _Said(
        version.source,
        version.source_file_name,
        version.source_signature,
        version.evaluation_set,
        version.training_set,
        version.labels,
        version.metadata,
        notes or version.notes,
        rebuilt_from=version,
    )
    recipes = [name for name in version.jobs.order_by("pk").values_list("recipe", flat=True) if name in RECIPES]
    with transaction.atomic():
        model = _model_for_update(version.model.application, version.model.slug, now)
        made = _make(model, said, found, profile=version.profile, actor=actor, now=now)
        bundles.copy_bundle(version, made)
        _record(made, "rebuild_version", rebuilt_from=version.number)
        request_conversions(version=made, inspected=found, recipes=recipes or None, now=now)
    return made


def _make(
    model: RegisteredModel,
    said: _Said,
    found: inspection.SourceInspection,
    *,
    profile: str,
    actor: str,
    now: datetime,
) -> ModelVersion:
    return ModelVersion.objects.create(
        model=model,
        number=(model.versions.values_list("number", flat=True).first() or 0) + 1,
        source_format=found.format,
        inspection=found.to_json(),
        profile=profile,
        registered_by=actor,
        registered_at=now,
        **vars(said),
    )


def _record(version: ModelVersion, verb: str, **more: Any) -> None:
    AuditEntry.record(
        now=version.registered_at,
        actor=version.registered_by,
        verb=verb,
        subject=str(version),
        application=version.model.application,
        after={"source": version.source.sha256, "format": version.source_format, **more},
    )


def require_metadata(metadata: Mapping[str, Any], labels: Sequence[str] = ()) -> None:
    """Raises `MetadataRefused`. That it fits the model's tensors is checked by the conversion, which knows them."""
    try:
        Metadata.from_json({**metadata, **({"labels": list(labels)} if labels else {})})
    except MetadataError as error:
        raise errors.MetadataRefused(str(error), field="metadata") from error


def yank_version(*, version: ModelVersion, reason: str, actor: str, now: datetime) -> None:
    """Withdraw a version from new decisions; its bytes stay. Raises `VersionYanked` when it is already."""
    with transaction.atomic():
        changed = ModelVersion.objects.filter(pk=version.pk, yanked_at__isnull=True).update(
            yanked_at=now, yank_reason=reason
        )
        if not changed:
            raise errors.VersionYanked(f"expected a version in use, got {version}, which is yanked")
        version_yanked.send(ModelVersion, version=version, actor=actor, now=now, reason=reason)
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
