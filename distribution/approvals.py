"""Requests for what more than one person must want, or for a time to come.

A request is done once enough other people have approved its present edition and its time has come. Stopping needs
nobody else: the kill switch and the rollback are no requests.
"""

import logging
from datetime import datetime
from typing import Any

from django.db import transaction

from distribution import errors, services
from distribution.models import Approval, ChannelSettings, ReleaseRequest
from registry.errors import DomainError, Invalid
from registry.models import AuditEntry, Channel, ModelVersion, RegisteredModel

logger = logging.getLogger(__name__)
MOST_APPROVALS = 5
Action, State = ReleaseRequest.Action, ReleaseRequest.State


def change_settings(
    *, settings: ChannelSettings, approvals_required: int, lift_approvals_required: int, actor: str, now: datetime
) -> None:
    """Requests that are open follow the new numbers. Raises `Invalid`."""
    for name, value in (
        ("approvals_required", approvals_required),
        ("lift_approvals_required", lift_approvals_required),
    ):
        if not 0 <= value <= MOST_APPROVALS:
            raise Invalid(f"expected 0 to {MOST_APPROVALS} other people, got {value}", field=name)
    with transaction.atomic():
        before = _told_settings(settings)
        settings.approvals_required = approvals_required
        settings.lift_approvals_required = lift_approvals_required
        settings.save()
        channel = settings.channel
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="change_channel_settings",
            subject=str(channel),
            application=channel.application,
            before=before,
            after=_told_settings(settings),
        )


def request_release(
    *,
    channel: Channel,
    version: ModelVersion,
    actor: str,
    now: datetime,
    reason: str = "",
    publish_at: datetime | None = None,
) -> ReleaseRequest:
    """Ask for a release; done at once where nobody need approve and no time is named. Raises as `services.publish`."""
    _require_future(publish_at, now)
    services.require_releasable(version)
    with transaction.atomic():
        row = ReleaseRequest.objects.create(
            channel=channel,
            action=Action.PUBLISH,
            model=version.model,
            version=version,
            reason=reason,
            publish_at=publish_at,
            requested_by=actor,
            requested_at=now,
        )
        _record(row, "request_release", actor, now, after=_told(row))
        _advance(row, now)
    return row


def request_lift(*, channel: Channel, model: RegisteredModel, actor: str, now: datetime, reason: str) -> ReleaseRequest:
    """Ask for the model to be served again. Raises `KillSwitchNotEngaged`."""
    if not channel.kill_switches.filter(model=model, lifted_at__isnull=True).exists():
        raise errors.KillSwitchNotEngaged(f"expected an engaged kill switch for {model} on {channel}, found none")
    with transaction.atomic():
        row = ReleaseRequest.objects.create(
            channel=channel,
            action=Action.LIFT_KILL_SWITCH,
            model=model,
            reason=reason,
            requested_by=actor,
            requested_at=now,
        )
        _record(row, "request_lift", actor, now, after=_told(row))
        _advance(row, now)
    return row


def edit(
    *,
    request: ReleaseRequest,
    actor: str,
    now: datetime,
    version: ModelVersion | None = None,
    reason: str | None = None,
    publish_at: datetime | None = None,
) -> None:
    """Change what it asks for: its approvals are void, and whoever edited it may never approve it.

    Raises `RequestClosed`.
    """
    _require_open(request)
    _require_future(publish_at, now)
    if version is not None:
        services.require_releasable(version)
    with transaction.atomic():
        before = _told(request)
        request.version = version or request.version
        request.reason = request.reason if reason is None else reason
        request.publish_at = publish_at
        request.edition += 1
        request.edited_by, request.editors = actor, sorted({*request.editors, actor})
        request.state = State.WAITING
        request.save()
        _record(request, "edit_request", actor, now, before=before, after=_told(request))
        _advance(request, now)


def approve(*, request: ReleaseRequest, actor: str, now: datetime) -> None:
    """One person's yes to the present edition; the last one needed does it. Raises `OwnRequest`, `AlreadyApproved`,
    `RequestClosed`, and what the deed itself raises: then nothing was approved.
    """
    with transaction.atomic():
        locked = ReleaseRequest.objects.select_for_update().get(pk=request.pk)
        _require_open(locked)
        if actor in locked.authors:
            raise errors.OwnRequest(f"expected approval by somebody else than {', '.join(sorted(locked.authors))}")
        if actor in locked.approvers():
            raise errors.AlreadyApproved(f"expected another person's approval, {actor} has approved {locked}")
        Approval.objects.create(release_request=locked, edition=locked.edition, approved_by=actor, approved_at=now)
        _record(locked, "approve_request", actor, now, after={"edition": locked.edition, **_told(locked)})
        _advance(locked, now)


def cancel(*, request: ReleaseRequest, actor: str, now: datetime) -> None:
    """Raises `RequestClosed`."""
    _require_open(request)
    with transaction.atomic():
        _close(request, State.CANCELLED)
        _record(request, "cancel_request", actor, now)


def perform_due(now: datetime) -> int:
    """Do what is approved and whose time has come. Returns how many requests were looked at."""
    due = ReleaseRequest.objects.filter(state=State.SCHEDULED, publish_at__lte=now).values_list("pk", flat=True)
    for pk in due:
        _perform_one(pk, now)
    return len(due)


def _perform_one(pk: int, now: datetime) -> None:
    try:
        with transaction.atomic():
            row = ReleaseRequest.objects.select_for_update().get(pk=pk)
            if row.state == State.SCHEDULED:
                _advance(row, now)
    except DomainError as error:
        logger.warning("request failed: request=%s code=%s", pk, error.code)
        with transaction.atomic():
            row = ReleaseRequest.objects.select_for_update().get(pk=pk)
            row.outcome = f"{error} ({error.code})"
            _close(row, State.FAILED)
            _record(row, "fail_request", row.requested_by, now, after={"outcome": row.outcome})


def _advance(row: ReleaseRequest, now: datetime) -> None:
    """As far as approvals and time allow."""
    settings = services.settings_of(row.channel)
    lifts = row.action == Action.LIFT_KILL_SWITCH
    needed = settings.lift_approvals_required if lifts else settings.approvals_required
    if len(row.approvers()) < needed:
        _set_state(row, State.WAITING)
    elif row.publish_at is not None and row.publish_at > now:
        _set_state(row, State.SCHEDULED)
    else:
        _do(row, now)


def _do(row: ReleaseRequest, now: datetime) -> None:
    told: dict[str, Any] = {"channel": row.channel, "actor": row.requested_by, "now": now, "reason": row.reason}
    if row.action == Action.LIFT_KILL_SWITCH:
        services.lift_approved(model=row.model, **told)
    else:
        assert row.version is not None, "a request to publish names a version"
        row.release = services.release_approved(version=row.version, **told)
    _close(row, State.DONE)


def _close(row: ReleaseRequest, state: str) -> None:
    row.state = state
    row.save(update_fields=["state", "release", "outcome"])
    row.refresh_from_db()


def _set_state(row: ReleaseRequest, state: str) -> None:
    if row.state != state:
        row.state = state
        row.save(update_fields=["state"])
    row.refresh_from_db()


def _require_open(row: ReleaseRequest) -> None:
    if not row.is_open:
        raise errors.RequestClosed(f"expected an open request, {row} is {row.state}")


def _require_future(publish_at: datetime | None, now: datetime) -> None:
    if publish_at is not None and publish_at <= now:
        raise Invalid(f"expected a time after {now:%Y-%m-%dT%H:%M:%SZ}, got {publish_at}", field="publish_at")


def _told(row: ReleaseRequest) -> dict[str, object]:
    return {
        "action": row.action,
        "model": row.model.slug,
        "version": row.version.number if row.version else None,
        "publish_at": row.publish_at.isoformat() if row.publish_at else None,
        "edition": row.edition,
    }


def _told_settings(row: ChannelSettings) -> dict[str, int]:
    return {
        "approvals_required": row.approvals_required,
        "lift_approvals_required": row.lift_approvals_required,
    }


def _record(
    row: ReleaseRequest, verb: str, actor: str, now: datetime, *, before: object = None, after: object = None
) -> None:
    AuditEntry.record(
        now=now,
        actor=actor,
        verb=verb,
        subject=str(row),
        application=row.channel.application,
        before=before,
        after=after,
        reason=row.reason,
    )
