"""Celery tasks of distribution: load by id, call one function."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from registry.models import Application, PublishRequest


@shared_task(acks_late=True, reject_on_worker_lost=True)
def publish_application(application_id: int) -> None:
    from distribution import publishing  # noqa: PLC0415

    application = Application.objects.get(pk=application_id)
    publishing.publish_application(application, clock=timezone.now)
    request_patches(application_id)


def request_patches(application_id: int) -> None:
    """After a publish, never before it: no release waits for a patch."""
    from distribution import patches  # noqa: PLC0415

    application = Application.objects.get(pk=application_id)
    patches.request_patches(application=application, now=timezone.now())


@shared_task(acks_late=True, reject_on_worker_lost=True)
def make_patch(patch_id: int) -> None:
    from distribution import patches  # noqa: PLC0415

    patches.make_patch(patch_id=patch_id, clock=timezone.now)


@shared_task
def list_patches(application_id: int, target_sha256: str) -> None:
    from distribution import patches  # noqa: PLC0415

    patches.list_patches(application=Application.objects.get(pk=application_id), target_sha256=target_sha256)


@shared_task
def renew_patches() -> None:
    """What lost messages and killed workers left undone, and lists that a replaced key has signed."""
    from distribution import patches  # noqa: PLC0415

    patches.request_again(older_than=timezone.now() - timedelta(minutes=30))
    for application in Application.objects.all():
        patches.list_again(application=application)


@shared_task
def publish_pending() -> None:
    """What a lost message, a crash or an absent publisher left undone."""
    pending = PublishRequest.objects.filter(consumed_at__isnull=True)
    for application_id in pending.values_list("application_id", flat=True).distinct():
        publish_application(application_id)


@shared_task
def renew_online_roles() -> None:
    """Sign again what is past half its life. Publishing does that by itself; it only needs to be called."""
    for application in Application.objects.all():
        publish_application(application.pk)


@shared_task
def settle_firebase_models() -> None:
    """Release what was published through the Firebase-compatible API, once it is converted."""
    from distribution.firebase import services, storage  # noqa: PLC0415

    services.settle_pending(now=timezone.now())
    storage.forget_sessions(now=timezone.now())


@shared_task
def perform_due_requests() -> None:
    """Releases that are approved and whose time has come."""
    from distribution import approvals  # noqa: PLC0415

    approvals.perform_due(timezone.now())


@shared_task(acks_late=True, reject_on_worker_lost=True)
def encrypt_variants(application_id: int) -> None:
    """What was released of protected models; then devices are offered it as soon as the publisher has signed."""
    from distribution.protection import encrypting  # noqa: PLC0415

    encrypting.encrypt_pending(application=Application.objects.get(pk=application_id), now=timezone.now())


@shared_task
def forget_key_calls() -> None:
    from distribution.protection import releasing  # noqa: PLC0415

    releasing.forget_calls(now=timezone.now())


@shared_task
def encrypt_pending() -> None:
    """What a lost message, a killed worker or a missing key left undone."""
    for application in Application.objects.filter(channels__releases__is_protected=True).distinct():
        encrypt_variants(application.pk)
