"""Celery tasks of experiments: load by id, call one function."""

from celery import shared_task
from django.utils import timezone


@shared_task
def perform_due_experiments() -> None:
    """Scheduled starts, steps whose conditions are met, exceptions that expire."""
    from experiments import services  # noqa: PLC0415

    now = timezone.now()
    services.expire_exceptions(now)
    services.start_due(now)
    services.advance_due(now)
