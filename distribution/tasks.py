"""Celery tasks of distribution: load by id, call one function."""

from celery import shared_task
from django.utils import timezone

from registry.models import Application, PublishRequest


@shared_task(acks_late=True, reject_on_worker_lost=True)
def publish_application(application_id: int) -> None:
    from distribution import publishing  # noqa: PLC0415

    application = Application.objects.get(pk=application_id)
    publishing.publish_application(application, clock=timezone.now)


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
