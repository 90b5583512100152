"""Floors, pins and test devices: exceptions to what a channel serves, for some versions or some units."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction

from distribution import errors, services
from distribution.catalog import override_key
from distribution.device_plane.problems import Problem
from distribution.device_plane.query import read_unit
from distribution.models import DeliveryRules, Pin, Release, TestDevice
from registry.errors import Invalid, NameTaken
from registry.models import Application, AuditEntry, Channel, ModelVersion

MOST_FLOORS = 100
INVITATION_LIFE = timedelta(hours=24)


def override_salt(application: Application) -> str:
    """One for the whole application, so that a test device is known to all its channels without keeping its unit."""
    return f"pins:{application.slug}"


def unit_key(application: Application, unit: str) -> str:
    """Raises `Invalid`; the unit stays out of the message."""
    try:
        return override_key(override_salt(application), read_unit(unit.encode("utf-8", "replace")))
    except Problem as problem:
        raise Invalid(problem.detail, field="unit") from problem


def key_of(application: Application, *, unit: str | None, device: TestDevice | None) -> tuple[str, str]:
    """The key to pin, and the name that goes with it: of a unit, or of a test device. Raises `Invalid`."""
    if (unit is None) == (device is None):
        raise Invalid("expected either unit or test_device, got both or neither", field="unit")
    if unit is not None:
        return unit_key(application, unit), ""
    assert device is not None
    if not device.unit_key:
        raise Invalid(f"expected a test device that has enrolled, {device} has not", field="test_device")
    return device.unit_key, device.name


def set_floors(*, rules: DeliveryRules, floors: Sequence[int], actor: str, now: datetime) -> None:
    """Versions that devices of the channel may not skip. Raises `Invalid` for one that was never live there."""
    if len(floors) > MOST_FLOORS:
        raise Invalid(f"expected at most {MOST_FLOORS} floors, got {len(floors)}", field="floors")
    released = Release.objects.filter(
        channel=rules.channel, model_version__model=rules.model, live_revision__isnull=False
    )
    known = set(released.values_list("model_version__number", flat=True))
    for number in floors:
        if number not in known:
            told = ", ".join(map(str, sorted(known))) or "none"
            raise Invalid(f"expected versions that were live on {rules.channel} ({told}), got {number}", field="floors")
    with transaction.atomic():
        before = {"floors": rules.floors}
        rules.floors = sorted(set(floors))
        rules.save()
        _record(rules.channel, str(rules), "set_floors", actor, now, before=before, after={"floors": rules.floors})


def pin(*, channel: Channel, version: ModelVersion, key: str, label: str, actor: str, now: datetime) -> Pin:
    """Give the unit of that key one version. Raises `AlreadyPinned`, or `NotReleased` when no channel ever had it."""
    if not Release.objects.filter(model_version=version).exists():
        raise errors.NotReleased(f"expected a version that was released to some channel, got {version}")
    with transaction.atomic():
        Channel.objects.select_for_update().get(pk=channel.pk)
        if channel.pins.filter(model=version.model, unit_key=key).exists():
            raise errors.AlreadyPinned(f"expected a unit without a pin for {version.model} on {channel}")
        row = Pin.objects.create(
            channel=channel,
            model=version.model,
            version=version,
            unit_key=key,
            label=label,
            pinned_by=actor,
            pinned_at=now,
        )
        _record(channel, str(row), "pin", actor, now, after={"version": version.number, "unit_key": key})
    return row


def unpin(*, row: Pin, actor: str, now: datetime) -> None:
    with transaction.atomic():
        before = {"version": row.version.number, "unit_key": row.unit_key}
        _record(row.channel, str(row), "unpin", actor, now, before=before)
        row.delete()


def invite_test_device(*, channel: Channel, name: str, actor: str, now: datetime) -> tuple[TestDevice, str]:
    """A new row and its token, which is shown this once. Raises `NameTaken`."""
    token = f"enrol_{secrets.token_urlsafe(24)}"
    with transaction.atomic():
        Channel.objects.select_for_update().get(pk=channel.pk)
        if channel.test_devices.filter(name=name).exists():
            raise NameTaken(f"expected a new name on {channel}, got {name!r}, which exists", field="name")
        row = TestDevice.objects.create(
            channel=channel,
            name=name,
            token_sha256=_sha256(token),
            invited_by=actor,
            invited_at=now,
            expires_at=now + INVITATION_LIFE,
        )
        _record(channel, str(row), "invite_test_device", actor, now, publish=False)
    return row, token


def enrol(*, token: str, unit: str, now: datetime) -> TestDevice:
    """Take the token's one use. Raises `EnrolmentRefused` for one that is unknown, used or late alike."""
    row = TestDevice.objects.select_related("channel__application").filter(token_sha256=_sha256(token)).first()
    if row is None:
        raise errors.EnrolmentRefused("expected a token that was neither used nor is too old, got another")
    key = unit_key(row.channel.application, unit)
    with transaction.atomic():
        fresh = TestDevice.objects.filter(pk=row.pk, enrolled_at__isnull=True, expires_at__gt=now)
        if not fresh.update(enrolled_at=now, unit_key=key):
            raise errors.EnrolmentRefused("expected a token that was neither used nor is too old, got another")
        _record(row.channel, str(row), "enrol_test_device", row.name, now, publish=False)
    row.refresh_from_db()
    return row


def remove_test_device(*, row: TestDevice, actor: str, now: datetime) -> None:
    """Its pins go with it."""
    with transaction.atomic():
        pins = Pin.objects.filter(channel__application=row.channel.application, unit_key=row.unit_key or "-")
        _record(row.channel, str(row), "remove_test_device", actor, now, before={"pins": pins.count()})
        pins.delete()
        row.delete()


def forget_unit(application: Application, unit: str, now: datetime) -> int:
    """Delete its pins, test devices and attested keys. How many rows. What the audit log says of its key stays there.

    Calls to the key service stay as long as all of them: who had which key must be answered later too.
    """
    key = unit_key(application, unit)
    with transaction.atomic():
        pins, _ = Pin.objects.filter(channel__application=application, unit_key=key).delete()
        devices, _ = TestDevice.objects.filter(channel__application=application, unit_key=key).delete()
        attested, _ = application.app_attest_keys.filter(unit_key=key).delete()
        if pins:
            services.request_publish(application, "forget_unit", now)
    return pins + devices + attested


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _record(
    channel: Channel,
    subject: str,
    verb: str,
    actor: str,
    now: datetime,
    *,
    before: object = None,
    after: object = None,
    publish: bool = True,
) -> None:
    application = channel.application
    AuditEntry.record(
        now=now, actor=actor, verb=verb, subject=subject[:255], application=application, before=before, after=after
    )
    if publish:
        services.request_publish(application, f"{verb} {subject}", now)
