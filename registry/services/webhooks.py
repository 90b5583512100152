"""Webhooks of an application, and the deliveries that tell them what happened."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from registry import errors
from registry.models import Application, AuditEntry, Webhook, WebhookDelivery
from registry.webhooks import egress, messages
from registry.webhooks.sealing import seal, unseal

# Longer than one attempt can last; a sender that was killed is taken over after it.
ATTEMPT_LEASE = timedelta(seconds=60)
# How long a due delivery may wait in the queue before it is announced again: its message may be lost.
QUEUE_LEASE = timedelta(minutes=5)
SECRET_OVERLAP = timedelta(hours=24)
KEPT = timedelta(days=30)
GONE = 410
Send = Callable[..., egress.Answer]


def create_webhook(
    *, application: Application, name: str, url: str, event_types: Iterable[str], actor: str, now: datetime
) -> tuple[Webhook, str]:
    """A webhook and its secret, which is shown this once. Raises `NameTaken`, `WebhookRefused`."""
    wanted = _checked(url, event_types)
    if application.webhooks.filter(name=name).exists():
        raise errors.NameTaken(f"expected a new name, {application} has the webhook {name!r}", field="name")
    secret = messages.new_secret()
    with transaction.atomic():
        row = Webhook.objects.create(
            application=application,
            name=name,
            url=url,
            event_types=wanted,
            secret=seal(secret),
            created_by=actor,
            created_at=now,
        )
        _record(row, "create_webhook", actor, now, after=_told(row))
    return row, secret


def change_webhook(*, webhook: Webhook, url: str, event_types: Iterable[str], actor: str, now: datetime) -> None:
    """Also enables one that was disabled. Raises `WebhookRefused`."""
    wanted = _checked(url, event_types)
    before = _told(webhook)
    with transaction.atomic():
        webhook.url, webhook.event_types, webhook.disabled_reason = url, wanted, ""
        webhook.save(update_fields=["url", "event_types", "disabled_reason"])
        _record(webhook, "change_webhook", actor, now, before=before, after=_told(webhook))


def disable_webhook(*, webhook: Webhook, reason: str, actor: str, now: datetime) -> None:
    """Tell it nothing any more, nor what waits, until it is changed. Raises `WebhookDisabled` when it is so already."""
    _require_enabled(webhook)
    _disable(webhook, reason, actor, now)


def delete_webhook(*, webhook: Webhook, actor: str, now: datetime) -> None:
    with transaction.atomic():
        _record(webhook, "delete_webhook", actor, now, before=_told(webhook))
        webhook.delete()


def rotate_secret(*, webhook: Webhook, actor: str, now: datetime) -> str:
    """A new secret. For a day messages carry a signature of the former one too, so that no receiver misses one."""
    secret = messages.new_secret()
    with transaction.atomic():
        # Of two at once the second follows the first, whose secret somebody was shown.
        webhook.secret = Webhook.objects.select_for_update(no_key=True).get(pk=webhook.pk).secret
        webhook.previous_secret, webhook.previous_until = webhook.secret, now + SECRET_OVERLAP
        webhook.secret = seal(secret)
        webhook.save(update_fields=["secret", "previous_secret", "previous_until"])
        _record(webhook, "rotate_webhook_secret", actor, now)
    return secret


def notify(
    *, application: Application, event_type: str, subject: str, data: Mapping[str, Any], now: datetime
) -> list[WebhookDelivery]:
    """Write a delivery for every webhook that wants it. Call inside the transaction of what is told.

    `subject` names what happened, at most 255 characters: telling the same webhook again of it adds nothing.
    """
    assert event_type in messages.EVENT_TYPES
    text = messages.body(event_type, now, {"application": application.slug, **data})
    told = [webhook for webhook in application.webhooks.all() if webhook.wants(event_type)]
    return [made for webhook in told if (made := _deliver(webhook, event_type, subject, text, now))]


def send_test(*, webhook: Webhook, actor: str, now: datetime) -> WebhookDelivery:
    """A message of the type `webhook.test`, whatever types the webhook wants. Raises `WebhookDisabled`."""
    _require_enabled(webhook)
    text = messages.body("webhook.test", now, {"application": webhook.application.slug, "asked_by": actor})
    made = _deliver(webhook, "webhook.test", now.isoformat(), text, now)
    if made is None:
        raise errors.Conflict("expected one test a moment, got two")
    return made


def redeliver(*, delivery: WebhookDelivery, actor: str, now: datetime) -> None:
    """Send the same message again at once, with the same id and all attempts before it. Raises `WebhookDisabled`."""
    _require_enabled(delivery.webhook)
    with transaction.atomic():
        delivery.state, delivery.attempts, delivery.next_attempt_at = WebhookDelivery.State.WAITING, 0, now
        delivery.save(update_fields=["state", "attempts", "next_attempt_at"])
        _record(delivery.webhook, "redeliver", actor, now, after={"message": str(delivery.message_id)})
        _enqueue(delivery)


def attempt(*, delivery_id: int, clock: Callable[[], datetime], send: Send = egress.send) -> None:
    """Send one message if it is due, and note what came of it. Of two that try, one does."""
    now = clock()
    taken = WebhookDelivery.objects.due(now).filter(pk=delivery_id)
    leased = {"next_attempt_at": now + ATTEMPT_LEASE, "enqueued_until": None}
    if not taken.update(**leased, attempts=F("attempts") + 1, attempted_at=now):
        return
    delivery = WebhookDelivery.objects.select_related("webhook").get(pk=delivery_id)
    webhook = delivery.webhook
    if webhook.disabled_reason:
        _note(delivery, WebhookDelivery.State.FAILED, None, webhook.disabled_reason)
        return
    try:
        sent = messages.headers(str(delivery.message_id), now, delivery.body, _secrets(webhook, now))
        answer = send(webhook.url, sent, delivery.body, allow_private=settings.AEROGRAM_WEBHOOKS_TO_PRIVATE_ADDRESSES)
    except (egress.Undelivered, errors.SecretUnreadable) as error:
        _failed(delivery, None, str(error), clock())
        return
    if answer.is_success:
        _note(delivery, WebhookDelivery.State.DELIVERED, answer.status, answer.text)
        return
    _failed(delivery, answer.status, answer.text, clock())
    if answer.status == GONE and Webhook.objects.filter(pk=webhook.pk, url=webhook.url, disabled_reason="").exists():
        _disable(webhook, f"it answered {GONE}: gone", "system:webhooks", clock())


def claim_due_deliveries(now: datetime) -> list[int]:
    """What a lost message, a retry or a killed sender left to do; oldest first, a bounded number at a time.

    Who asks announces them; they are claimed for `QUEUE_LEASE`, so that nobody announces them at every look while no
    worker is there to take them.
    """
    unclaimed = Q(enqueued_until=None) | Q(enqueued_until__lte=now)
    with transaction.atomic():
        rows = WebhookDelivery.objects.due(now).filter(unclaimed).order_by("next_attempt_at")
        found = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True)[:500])
        WebhookDelivery.objects.filter(pk__in=found).update(enqueued_until=now + QUEUE_LEASE)
    return found


def headers_sent(delivery: WebhookDelivery) -> dict[str, str]:
    """The headers of the last attempt, made again; without a signature that a replaced secret made. None sent: none."""
    at, webhook = delivery.attempted_at, delivery.webhook
    if at is None:
        return {}
    is_replaced = webhook.previous_until is not None and at <= webhook.previous_until - SECRET_OVERLAP
    try:
        keys = [] if is_replaced else _secrets(webhook, at)
    except errors.SecretUnreadable:
        keys = []
    found = messages.headers(str(delivery.message_id), at, delivery.body, keys)
    return {name: value for name, value in found.items() if value}


def forget_deliveries(now: datetime) -> int:
    """Delete what is done and old; how many."""
    done = WebhookDelivery.objects.exclude(state=WebhookDelivery.State.WAITING)
    return done.filter(created_at__lt=now - KEPT).delete()[0]


def _deliver(webhook: Webhook, event_type: str, subject: str, text: str, now: datetime) -> WebhookDelivery | None:
    row, is_new = WebhookDelivery.objects.get_or_create(
        webhook=webhook,
        event_type=event_type,
        subject=subject,
        defaults={"body": text, "created_at": now, "next_attempt_at": now},
    )
    if not is_new:
        return None
    _enqueue(row)
    return row


def _enqueue(delivery: WebhookDelivery) -> None:
    from registry.tasks import deliver_webhook, enqueue_on_commit  # noqa: PLC0415

    enqueue_on_commit(deliver_webhook, delivery.pk)


def _secrets(webhook: Webhook, now: datetime) -> list[str]:
    sealed = [webhook.secret]
    if webhook.previous_secret and webhook.previous_until and now < webhook.previous_until:
        sealed.append(webhook.previous_secret)
    return [unseal(secret) for secret in sealed]


def _failed(delivery: WebhookDelivery, status: int | None, text: str, now: datetime) -> None:
    wait = messages.retry_after(delivery.attempts)
    if wait is None or status == GONE:
        _note(delivery, WebhookDelivery.State.FAILED, status, text)
        return
    delivery.next_attempt_at = now + wait
    _note(delivery, WebhookDelivery.State.WAITING, status, text)


def _note(delivery: WebhookDelivery, state: str, status: int | None, text: str) -> None:
    """Nothing where another attempt has begun since, somebody wants it sent again, or it was deleted."""
    own = {"attempts": delivery.attempts, "attempted_at": delivery.attempted_at}
    told = {"state": state, "answer_status": status, "answer": text, "next_attempt_at": delivery.next_attempt_at}
    WebhookDelivery.objects.filter(pk=delivery.pk, **own).update(**told)


def _disable(webhook: Webhook, reason: str, actor: str, now: datetime) -> None:
    with transaction.atomic():
        webhook.disabled_reason = reason
        webhook.save(update_fields=["disabled_reason"])
        _record(webhook, "disable_webhook", actor, now, reason=reason)


def _require_enabled(webhook: Webhook) -> None:
    if webhook.disabled_reason:
        raise errors.WebhookDisabled(
            f"expected a webhook that is told of events, not any more: {webhook.disabled_reason}"
        )


def _checked(url: str, event_types: Iterable[str]) -> list[str]:
    refused = egress.check_url(url, allow_private=settings.AEROGRAM_WEBHOOKS_TO_PRIVATE_ADDRESSES)
    if refused is not None:
        raise errors.WebhookRefused(refused, field="url")
    wanted = sorted(set(event_types))
    unknown = [name for name in wanted if name not in messages.EVENT_TYPES]
    if unknown:
        known = ", ".join(messages.EVENT_TYPES)
        raise errors.WebhookRefused(f"expected event types among {known}, got {unknown[0]!r}", field="event_types")
    return wanted


def _told(webhook: Webhook) -> dict[str, Any]:
    """For the log, which every viewer reads: neither a secret nor an address that is one stands in it."""
    return {
        "host": urlsplit(webhook.url).netloc,
        "url_sha256": hashlib.sha256(webhook.url.encode()).hexdigest(),
        "event_types": webhook.event_types,
    }


def _record(
    webhook: Webhook, verb: str, actor: str, now: datetime, *, before: Any = None, after: Any = None, reason: str = ""
) -> None:
    AuditEntry.record(
        now=now,
        actor=actor,
        verb=verb,
        subject=f"{webhook.application}/webhooks/{webhook.name}",
        application=webhook.application,
        before=before,
        after=after,
        reason=reason,
    )
