"""The verbs of the Firebase-compatible admin API, in terms of the registry and of releasing.

| Firebase           | here                                                                                        |
|--------------------|---------------------------------------------------------------------------------------------|
| create, new file   | a version of the registered model of that name, with the recipe `tflite-as-is`               |
| publish            | a release to the façade's channel; lifts the kill switch that an unpublish engaged           |
| unpublish, delete  | a kill switch: Firebase clients get 404, others are told to use the embedded model           |
| a new display name | a version of the same bytes under another registered model; the former name is unpublished   |

Versions and releases are never taken back, so a name that comes again goes on where it ended.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from distribution import services
from distribution.errors import ApprovalRequired, ConversionsUnfinished
from distribution.firebase import wire
from distribution.firebase.errors import (
    FirebaseChannelMissing,
    FirebaseNameTaken,
    FirebaseNotVerified,
    FirebaseStopped,
)
from distribution.models import FirebaseModel, FirebaseOperation, Release
from registry.errors import DomainError, SourceRefused
from registry.models import Application, Artifact, AuditEntry, Channel, ModelVersion, RegisteredModel, Upload
from registry.services import register_version

RECIPES = ("tflite-as-is", "tflite-repaired")
UNPUBLISHED = "unpublished through the Firebase-compatible API"


@dataclass(frozen=True)
class Source:
    """An upload, and the `gs://` address under which it was named."""

    upload: Upload
    gcs_uri: str


def create_model(
    *,
    application: Application,
    display_name: str,
    tags: Sequence[str],
    source: Source | None,
    actor: str,
    now: datetime,
) -> FirebaseModel:
    """A model that is not published. Bytes that are no .tflite file make one with a validation error.

    Raises `FirebaseNameTaken`.
    """
    with transaction.atomic():
        _require_free(application, display_name)
        model = FirebaseModel.objects.create(
            application=application,
            model_id=str(secrets.randbelow(9 * 10**9) + 10**9),
            display_name=display_name,
            slug=wire.slug_of(display_name),
            tags=list(tags),
            created_at=now,
            updated_at=now,
        )
        _record(model, "create_firebase_model", actor, now)
    if source is not None:
        _take_file(model, source, actor, now)
    return model


@dataclass(frozen=True)
class Changes:
    """What is to be another way; None leaves it."""

    display_name: str | None = None
    tags: Sequence[str] | None = None
    source: Source | None = None
    published: bool | None = None


def update_model(*, model: FirebaseModel, changes: Changes, actor: str, now: datetime) -> FirebaseOperation | None:
    """Change a model. Gives the operation that brings the change to devices, or None when there is none to wait for.

    Raises `FirebaseNameTaken`, `FirebaseNotVerified`, and whatever stands against a release.
    """
    with transaction.atomic():
        model = _locked(model)
        if changes.published and changes.source is None:
            _require_verified(model)
        if changes.display_name not in (None, model.display_name):
            _rename(model, str(changes.display_name), actor, now)
        if changes.tags is not None:
            model.tags = list(changes.tags)
        if changes.published is not None:
            model.published = changes.published
        model.updated_at = now
        model.save()
        _record(model, "update_firebase_model", actor, now)
    if changes.source is not None:
        _take_file(model, changes.source, actor, now)
    if changes.published is False:
        _stop(model, model.slug, actor, now)
        _finish_all(model, now)
        return None
    if not model.published or changes == Changes(tags=changes.tags):
        return None
    operation = FirebaseOperation.objects.create(model=model, actor=actor, created_at=now)
    settle(model=model, now=now)
    operation.refresh_from_db()
    return operation


def delete_model(*, model: FirebaseModel, actor: str, now: datetime) -> None:
    """Forget the model here and take it from devices. Versions, releases and the audit log stay."""
    with transaction.atomic():
        _stop(model, model.slug, actor, now)
        _record(model, "delete_firebase_model", actor, now)
        model.delete()


def settle_pending(*, now: datetime) -> None:
    """Go on with every open operation: conversions end and releases become live without anybody asking."""
    for model in FirebaseModel.objects.filter(operations__done_at__isnull=True, operations__isnull=False).distinct():
        settle(model=model, now=now)


def settle(*, model: FirebaseModel, now: datetime) -> None:
    """Do what the model's open operations wait for, as far as it can be done now."""
    with transaction.atomic():
        model = _locked(model)
        for operation in model.operations.filter(done_at__isnull=True):
            try:
                with transaction.atomic():  # a release that is refused leaves no lifted kill switch behind
                    is_done = not model.published or _is_at_devices(model, operation, now)
            except ConversionsUnfinished:
                continue
            except DomainError as error:
                _fail(model, operation, error, now)
            else:
                if is_done:
                    operation.done_at = now
                operation.save()


def _is_at_devices(model: FirebaseModel, operation: FirebaseOperation, now: datetime) -> bool:
    """Ask for the release, once, and look whether it is live. Raises what `publish` raises, and `FirebaseStopped`."""
    release = _release(model, operation.actor, now)
    operation.acted_at = operation.acted_at or now
    waiting = model.application.publish_requests.filter(
        consumed_at__isnull=True, requested_at__lte=operation.acted_at
    ).exists()
    return release.live_revision is not None and not waiting


def _release(model: FirebaseModel, actor: str, now: datetime) -> Release:
    _require_verified(model)
    assert model.version is not None
    channel, registered = _channel(model.application), model.version.model
    newest = channel.releases.to_channel().filter(model_version__model=registered).first()
    if newest is None or newest.model_version_id != model.version_id:
        services.require_releasable(model.version)
        _lift(model, channel, registered, actor, now)
        return services.publish(
            channel=channel, version=model.version, actor=actor, now=now, reason=f"publish {model.name}"
        )
    _lift(model, channel, registered, actor, now)
    return newest


def _lift(model: FirebaseModel, channel: Channel, registered: RegisteredModel, actor: str, now: datetime) -> None:
    """What this API stopped, whoever may release may serve again; what an operator stopped, others must approve."""
    switch = channel.kill_switches.filter(model=registered, lifted_at__isnull=True).first()
    if switch is None:
        return
    needed = services.settings_of(channel).approvals_required
    if needed:
        raise ApprovalRequired(f"expected a request: {needed} others must approve what {channel} gets")
    if switch.reason != UNPUBLISHED:
        raise FirebaseStopped(f"expected {registered} to be served on {channel}, its kill switch is engaged")
    services.lift_approved(
        channel=channel, model=registered, actor=actor, now=now, reason=f"published again: {model.name}"
    )


def _stop(model: FirebaseModel, slug: str, actor: str, now: datetime) -> None:
    """A kill switch on what was ever released under the name; nothing where nothing was."""
    channel = _channel(model.application)
    registered = model.application.registered_models.filter(slug=slug).first()
    if registered is None or not channel.releases.to_channel().filter(model_version__model=registered).exists():
        return
    if not channel.kill_switches.filter(model=registered, lifted_at__isnull=True).exists():
        services.engage_kill_switch(channel=channel, model=registered, actor=actor, now=now, reason=UNPUBLISHED)


def _take_file(model: FirebaseModel, source: Source, actor: str, now: datetime) -> None:
    model.gcs_uri, model.version, model.validation_error = source.gcs_uri, None, None
    try:
        model.version = _version(model, source.upload.artifact, source.upload, actor, now)
    except SourceRefused as error:
        model.validation_error = wire.rpc_status("INVALID_ARGUMENT", wire.INVALID_FILE, str(error))
        if model.published:
            _stop(model, model.slug, actor, now)
        model.published = False
    model.save()


def _version(
    model: FirebaseModel, artifact: Artifact, upload: Upload | None, actor: str, now: datetime
) -> ModelVersion:
    """The version of these bytes under the model's name, a new one unless there is one. Raises `SourceRefused`."""
    known = ModelVersion.objects.filter(
        model__application=model.application,
        model__slug=model.slug,
        source=artifact,
        source_format="tflite",
        yanked_at__isnull=True,
    ).first()
    if known is not None:
        return known
    if upload is None or not upload.file_name.endswith(".tflite"):
        # What an upload is called says what it is; this API knows one format.
        upload = Upload.objects.create(
            application=model.application, artifact=artifact, file_name=f"{model.slug}.tflite", uploaded_at=now
        )
    return register_version(
        application=model.application,
        model_slug=model.slug,
        source=upload,
        notes=f"Firebase model {model.display_name}",
        recipes=RECIPES,
        actor=actor,
        now=now,
    )


def _rename(model: FirebaseModel, display_name: str, actor: str, now: datetime) -> None:
    _require_free(model.application, display_name)
    _stop(model, model.slug, actor, now)
    model.display_name, model.slug = display_name, wire.slug_of(display_name)
    if model.version is not None:
        model.version = _version(model, model.version.source, None, actor, now)


def _require_free(application: Application, display_name: str) -> None:
    # The lock makes two creations of one name follow one another.
    Application.objects.select_for_update().get(pk=application.pk)
    same = Q(display_name=display_name) | Q(slug=wire.slug_of(display_name))
    if application.firebase_models.filter(same).exists():
        raise FirebaseNameTaken(f"Model '{display_name}' already exists")


def _require_verified(model: FirebaseModel) -> None:
    if model.version is None:
        told = model.validation_error["message"] if model.validation_error else wire.NO_FILE
        raise FirebaseNotVerified(f"expected {model.name} to have a file that can be loaded: {told}")


def _locked(model: FirebaseModel) -> FirebaseModel:
    found = FirebaseModel.objects.select_for_update(of=("self",)).select_related("application", "version__model")
    return found.get(pk=model.pk)


def _fail(model: FirebaseModel, operation: FirebaseOperation, error: DomainError, now: datetime) -> None:
    operation.done_at = now
    operation.error = wire.rpc_status("FAILED_PRECONDITION", str(error))
    operation.save()
    model.published = False
    model.save(update_fields=["published"])


def _finish_all(model: FirebaseModel, now: datetime) -> None:
    model.operations.filter(done_at__isnull=True).update(done_at=now)


def _channel(application: Application) -> Channel:
    """The channel of the façade, as on the device plane. Raises `FirebaseChannelMissing`."""
    channel = application.channels.filter(slug=settings.AEROGRAM_FIREBASE_CHANNEL).first()
    if channel is None:
        expected = f"expected {application} to have the channel {settings.AEROGRAM_FIREBASE_CHANNEL}"
        raise FirebaseChannelMissing(f"{expected} (AEROGRAM_FIREBASE_CHANNEL), it has none of that name")
    return channel


def _record(model: FirebaseModel, verb: str, actor: str, now: datetime) -> None:
    told: dict[str, Any] = {"display_name": model.display_name, "tags": model.tags, "published": model.published}
    AuditEntry.record(now=now, actor=actor, verb=verb, subject=model.name, application=model.application, after=told)
