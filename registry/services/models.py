"""Models before their first version, and their names."""

from datetime import datetime

from django.db import transaction

from registry import errors
from registry.models import Application, AuditEntry, RegisteredModel
from registry.services.applications import require_slug


def create_model(*, application: Application, slug: str, name: str, actor: str, now: datetime) -> RegisteredModel:
    """A model without versions yet; a first push makes one too. Raises `NameTaken`."""
    require_slug(slug)
    with transaction.atomic():
        model, is_new = RegisteredModel.objects.get_or_create(
            application=application, slug=slug, defaults={"name": name or slug, "created_at": now}
        )
        if not is_new:
            raise errors.NameTaken(f"expected a new model of {application}, got {slug!r}, which exists", field="slug")
        AuditEntry.record(now=now, actor=actor, verb="create_model", subject=slug, application=application)
    return model


def rename_model(*, model: RegisteredModel, name: str, actor: str, now: datetime) -> None:
    """Change the name that people read; the slug, which devices ask by, stays for ever."""
    with transaction.atomic():
        before = RegisteredModel.objects.select_for_update().get(pk=model.pk).name
        RegisteredModel.objects.filter(pk=model.pk).update(name=name)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="rename_model",
            subject=model.slug,
            application=model.application,
            before={"name": before},
            after={"name": name},
        )
