"""The right to be forgotten: everything that is kept of one installation."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db import transaction
from redis import Redis

from experiments.ingest import DEAD_LETTERS, STREAM
from experiments.models import DeviceEvent, Exposure
from registry.models import Application, AuditEntry

_AT_ONCE = 1000


class Forgotten(NamedTuple):
    """`waiting`: batches that had not been stored yet, those put aside included."""

    events: int
    exposures: int
    waiting: int


def forget_unit(*, application: Application, unit: str, stream: Redis, actor: str, now: datetime) -> Forgotten:
    """Delete a unit's events, outcomes and waiting batches. Counts that name no unit stay until they are counted anew.

    The log says that it was done and how much, not for whom. What the ingester holds in its hands at this moment may
    still be stored: ask again after a minute.
    """
    waiting = sum(_delete_entries(stream, key, application.slug, unit) for key in (STREAM, DEAD_LETTERS))
    with transaction.atomic():
        events, _ = DeviceEvent.objects.filter(application=application.slug, unit=unit).delete()
        exposures, _ = Exposure.objects.filter(phase__experiment__application=application, unit=unit).delete()
        found = Forgotten(events, exposures, waiting)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="forget_unit",
            subject=f"application/{application.slug}",
            application=application,
            after=found._asdict(),
            reason="asked to be forgotten",
        )
    return found


def _delete_entries(stream: Redis, key: str, application: str, unit: str) -> int:
    """From one stream, in blocks."""
    deleted, after = 0, "-"
    theirs = (application.encode(), unit.encode())
    while True:
        entries: Any = stream.xrange(key, min=after, count=_AT_ONCE)
        if not entries:
            return deleted
        found = [entry for entry, fields in entries if (fields.get(b"application"), fields.get(b"unit")) == theirs]
        if found:
            stream.xdel(key, *found)
        deleted += len(found)
        after = f"({entries[-1][0].decode()}"
