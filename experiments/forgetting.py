"""The right to be forgotten: everything that is kept of one installation."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from django.db import transaction
from redis import Redis

from experiments import services
from experiments.delivery import delivery
from experiments.event_stream import DEAD_LETTERS, STREAM
from experiments.models import DeviceEvent, Exposure, Override
from registry.models import Application, AuditEntry

_AT_ONCE = 1000
_WHY = "asked to be forgotten"


class Forgotten(NamedTuple):
    """`waiting`: batches that had not been stored yet, those put aside included. `pins`: test devices among them."""

    events: int
    exposures: int
    waiting: int
    overrides: int
    pins: int


def forget_unit(*, application: Application, unit: str, stream: Redis, actor: str, now: datetime) -> Forgotten:
    """Delete a unit's events, outcomes, waiting batches, overrides and pins. Raises `Invalid` for what is no unit.

    Counts that name no unit stay until they are counted anew. The log says that it was done and how much, not for whom.
    What the ingester holds in its hands at this moment may still be stored: ask again after a minute.
    """
    key = delivery().unit_key(application, unit)
    waiting = sum(_delete_entries(stream, key, application.slug, unit) for key in (STREAM, DEAD_LETTERS))
    with transaction.atomic():
        events, _ = DeviceEvent.objects.filter(application=application.slug, unit=unit).delete()
        exposures, _ = Exposure.objects.filter(phase__experiment__application=application, unit=unit).delete()
        overrides = _clear_overrides(application, key, actor, now)
        pins = delivery().forget_unit(application, unit, now)
        found = Forgotten(events, exposures, waiting, overrides, pins)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="forget_unit",
            subject=f"application/{application.slug}",
            application=application,
            after=found._asdict(),
            reason=_WHY,
        )
    return found


def _clear_overrides(application: Application, key: str, actor: str, now: datetime) -> int:
    """By their own verb: an experiment's log must go on to tell its state."""
    rows = Override.objects.filter(experiment__application=application, unit_key=key).select_related("experiment")
    for row in rows:
        services.clear_override(experiment=row.experiment, unit_key=key, actor=actor, now=now, reason=_WHY)
    return len(rows)


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
