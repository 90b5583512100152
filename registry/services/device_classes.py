"""The verbs on device classes. A change reaches devices with the next publishing, so each asks for one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from registry import errors
from registry.conversion.recipes import RECIPES
from registry.device_classes import Selector, SelectorError
from registry.models import Application, AuditEntry, DeviceClass, PublishRequest
from registry.services.applications import require_slug

LONGEST_NAME = 40


def save_device_class(
    *,
    application: Application,
    name: str,
    selector: dict[str, Any],
    variants: Sequence[str],
    delegate_order: Sequence[str],
    position: int,
    actor: str,
    now: datetime,
    device_class: DeviceClass | None = None,
) -> DeviceClass:
    """Add a device class, or change the one given. Raises `Invalid`, or `NameTaken` for a name or position in use."""
    row = device_class or DeviceClass(application=application)
    before = _told(row) if row.pk else None
    require_slug(name, field="name")
    _require_rule(selector, variants, delegate_order)
    row.name, row.position, row.selector = name, position, selector
    row.variants, row.delegate_order = list(variants), list(delegate_order)
    with transaction.atomic():
        Application.objects.select_for_update().get(pk=application.pk)
        _require_free(row)
        row.save()
        verb = "change_device_class" if before else "add_device_class"
        _record(row, verb, before=before, after=_told(row), actor=actor, now=now)
    return row


def delete_device_class(*, device_class: DeviceClass, actor: str, now: datetime) -> None:
    """Its devices fall through to the classes after it. Raises `Conflict` for the last one."""
    with transaction.atomic():
        others = DeviceClass.objects.select_for_update().filter(application=device_class.application)
        if not others.exclude(pk=device_class.pk):
            raise errors.Conflict(f"expected another device class beside {device_class.name}, it is the last")
        _record(device_class, "delete_device_class", before=_told(device_class), after=None, actor=actor, now=now)
        device_class.delete()


def order_device_classes(*, application: Application, names: Sequence[str], actor: str, now: datetime) -> None:
    """Try the application's device classes in this order. Raises `Invalid` unless each is named exactly once."""
    with transaction.atomic():
        Application.objects.select_for_update().get(pk=application.pk)
        rows = {row.name: row for row in application.device_classes.all()}
        before = list(rows)
        if sorted(names) != sorted(before):
            expected = f"each of {', '.join(before)} once"
            raise errors.Invalid(f"expected {expected}, got {', '.join(names) or 'none'}", field="order")
        for position, name in enumerate(names):
            application.device_classes.filter(name=name).update(position=position)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="order_device_classes",
            subject=application.slug,
            application=application,
            before={"order": before},
            after={"order": list(names)},
        )
        PublishRequest.objects.create(application=application, reason="order of the device classes", requested_at=now)


def _require_rule(selector: dict[str, Any], variants: Sequence[str], delegate_order: Sequence[str]) -> None:
    try:
        contradiction = Selector.from_json(selector).contradiction()
    except SelectorError as error:
        raise errors.Invalid(str(error), field="selector") from error
    if contradiction:
        raise errors.Invalid(f"expected conditions that a device can meet, got {contradiction}", field="selector")
    unknown = [name for name in variants if name not in RECIPES]
    if unknown or not variants:
        known = ", ".join(RECIPES)
        got = ", ".join(map(str, unknown)) or "none"
        raise errors.Invalid(f"expected variants among {known}; got {got}", field="variants")
    if len(set(variants)) < len(variants):
        raise errors.Invalid(f"expected each variant once, got {', '.join(variants)}", field="variants")
    for name in delegate_order:
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
            expected = f"names of 1 to {LONGEST_NAME} characters"
            raise errors.Invalid(f"expected {expected}, got {name!r}", field="delegate_order")


def _require_free(row: DeviceClass) -> None:
    others = DeviceClass.objects.filter(application=row.application).exclude(pk=row.pk)
    if others.filter(name=row.name).exists():
        raise errors.NameTaken(
            f"expected a new name in {row.application}, got {row.name!r}, which exists", field="name"
        )
    taken = others.filter(position=row.position).first()
    if taken is not None:
        raise errors.NameTaken(
            f"expected a free position in {row.application}, got {row.position}, where {taken.name} stands",
            field="position",
        )


def _told(row: DeviceClass) -> dict[str, Any]:
    return {"position": row.position, **row.as_rule().to_json()}


def _record(row: DeviceClass, verb: str, *, before: Any, after: Any, actor: str, now: datetime) -> None:
    application = row.application
    AuditEntry.record(
        now=now, actor=actor, verb=verb, subject=row.name, application=application, before=before, after=after
    )
    PublishRequest.objects.create(application=application, reason=f"device class {row.name}", requested_at=now)
