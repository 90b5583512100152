from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from registry import errors
from registry.models import Application, AuditEntry, PublishRequest


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
