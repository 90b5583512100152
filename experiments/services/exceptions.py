"""Single units, and a slice of all units, that go another way than their buckets. None of them enters an analysis."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from django.db import transaction

from experiments import errors
from experiments.delivery import delivery
from experiments.lifecycle import ENDED
from experiments.models import Experiment, Holdback, Override
from experiments.services.designing import require_ahead, require_versions
from experiments.services.recording import doing
from registry.models import AuditEntry, Channel, RegisteredModel

MOST_OVERRIDES = 1000
DEFAULT_HOLDBACK_BP = 200
# A slice is known by its channel and model before it is made: what a preview shows is what is then kept.
HOLDBACKS = UUID("6f6f3b4e-6c0a-4c57-9d0e-2f1f6f0c9a51")


def set_override(
    *,
    experiment: Experiment,
    unit: str,
    arm: str,
    actor: str,
    now: datetime,
    reason: str = "",
    expires_at: datetime | None = None,
    row_version: int | None = None,
) -> Override:
    """Give a unit one arm, in place of the override it may have. Raises `DesignRefused`, `Invalid`, `WrongState`."""
    key = delivery().unit_key(experiment.application, unit)
    with doing("set_override_of", experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row = deed.experiment
        _require_open(row)
        _require_arm(row, arm)
        require_ahead(expires_at, now, "expires_at")
        if row.overrides.exclude(unit_key=key).count() >= MOST_OVERRIDES:
            raise errors.DesignRefused(f"expected at most {MOST_OVERRIDES} overrides, {row} has them", field="unit")
        said = {"arm": arm, "reason": reason, "set_by": actor, "set_at": now, "expires_at": expires_at}
        override, _ = Override.objects.update_or_create(experiment=row, unit_key=key, defaults=said)
        deed.publishes = True
    return override


def clear_override(
    *,
    experiment: Experiment,
    unit_key: str,
    actor: str,
    now: datetime,
    reason: str = "",
    row_version: int | None = None,
) -> None:
    """Let a unit go by its bucket again. Raises `OverrideNotFound`."""
    with doing("clear_override_of", experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        deleted, _ = deed.experiment.overrides.filter(unit_key=unit_key).delete()
        if not deleted:
            raise errors.OverrideNotFound(f"expected a unit with an override of {experiment}, got {unit_key[:12]}…")
        deed.publishes = True


def set_holdback(
    *,
    channel: Channel,
    model: RegisteredModel,
    version: int,
    actor: str,
    now: datetime,
    reason: str,
    percent_bp: int = DEFAULT_HOLDBACK_BP,
    until: datetime | None = None,
) -> Holdback:
    """Keep a slice of the model's devices on a version; the slice stays the same when the version changes.

    Raises `DesignRefused`, and as releasing the version would.
    """
    if not 1 <= percent_bp <= 5000:  # noqa: PLR2004 - a holdback of more than half is a mistake
        raise errors.DesignRefused(f"expected 1 to 5000 basis points, got {percent_bp}", field="percent_bp")
    require_ahead(until, now, "until")
    with transaction.atomic():
        require_versions(model, [version])
        held = model.versions.get(number=version)
        Channel.objects.select_for_update().get(pk=channel.pk)
        before = told_holdback(Holdback.objects.select_for_update().filter(channel=channel, model=model).first())
        changed = {"version": held, "percent_bp": percent_bp, "until": until, "lifted_at": None}
        row, _ = Holdback.objects.update_or_create(
            channel=channel,
            model=model,
            defaults=changed,
            create_defaults={**changed, "uuid": uuid5(HOLDBACKS, f"{channel.pk}/{model.pk}")},
        )
        delivery().offer(channel=channel, version=held, actor=actor, now=now, reason=str(row))
        _record(row, "set_holdback", actor, now, before=before, reason=reason)
    row.refresh_from_db()
    return row


def lift_holdback(*, channel: Channel, model: RegisteredModel, actor: str, now: datetime, reason: str) -> Holdback:
    """Let everybody have what is released, at once and by one person: so a security fix leaves nobody out.

    Raises `NotHeldBack`.
    """
    with transaction.atomic():
        Holdback.objects.select_for_update().filter(channel=channel, model=model).first()
        row = holdback_of(channel, model)
        before = told_holdback(row)
        row.lifted_at = now
        row.save(update_fields=["lifted_at"])
        _record(row, "lift_holdback", actor, now, before=before, reason=reason)
    row.refresh_from_db()
    return row


def holdback_of(channel: Channel, model: RegisteredModel) -> Holdback:
    """The one in force. Raises `NotHeldBack`."""
    row = held_back(channel, model)
    if row is None:
        raise errors.NotHeldBack(f"expected a holdback of {model} on {channel}, found none")
    return row


def held_back(channel: Channel, model: RegisteredModel) -> Holdback | None:
    """The one in force, None where nobody is held back."""
    return Holdback.objects.filter(channel=channel, model=model, lifted_at=None).select_related("version").first()


def told_holdback(row: Holdback | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "version": row.version.number,
        "percent_bp": row.percent_bp,
        "until": row.until.isoformat() if row.until else None,
        "lifted": row.lifted_at is not None,
    }


def _record(row: Holdback, verb: str, actor: str, now: datetime, *, before: Any, reason: str) -> None:
    application = row.channel.application
    AuditEntry.record(
        now=now,
        actor=actor,
        verb=verb,
        subject=str(row),
        application=application,
        before=before,
        after=told_holdback(row),
        reason=reason,
    )
    delivery().request_publish(application, f"{verb} {row}", now)


def _require_open(experiment: Experiment) -> None:
    if experiment.state in ENDED:
        raise errors.WrongState(f"{experiment}: expected a state before its end to override in, got {experiment.state}")


def _require_arm(experiment: Experiment, arm: str) -> None:
    """An override names a version that the unit gets; the embedded model is none, and an arm of it changes nothing."""
    versions = {known["name"]: known["version"] for known in experiment.arms}
    able = ", ".join(name for name, version in versions.items() if version is not None)
    if arm not in versions:
        raise errors.DesignRefused(f"expected the name of an arm ({able}), got {arm!r}", field="arm")
    if versions[arm] is None:
        raise errors.DesignRefused(
            f"expected an arm with a version ({able}), got {arm!r}, which is the model embedded in the app: "
            "no manifest brings a single unit back to it",
            field="arm",
        )
