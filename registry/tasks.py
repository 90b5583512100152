"""Celery tasks of the registry: load by id, call one function."""

import logging
from typing import Any

from celery import Task, shared_task
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)


def enqueue_on_commit(task: "Task[Any, Any]", *arguments: object, queue: str | None = None) -> None:
    """Send a task once the transaction stands. A broker that is away only delays: beat finds what is not done."""

    def send() -> None:
        try:
            task.apply_async(arguments, queue=queue, retry=False)
        except OperationalError:
            logger.warning("broker away, left to beat: task=%s arguments=%s", task.name, arguments)

    transaction.on_commit(send)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_conversion_job(job_id: int) -> None:
    from registry import services  # noqa: PLC0415

    services.run_job(job_id=job_id, clock=timezone.now)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_reproduction(reproduction_id: int) -> None:
    from registry import services  # noqa: PLC0415

    services.run_reproduction(reproduction_id=reproduction_id, clock=timezone.now)


@shared_task
def sweep_blob_store() -> None:
    from registry.blob_store import blob_store  # noqa: PLC0415

    blob_store().remove_leftovers(now=timezone.now())


@shared_task
def sweep_lost_jobs() -> None:
    from registry import services  # noqa: PLC0415

    services.sweep_lost_jobs(now=timezone.now())


@shared_task(acks_late=True, reject_on_worker_lost=True)
def deliver_webhook(delivery_id: int) -> None:
    from registry.services import webhooks  # noqa: PLC0415

    webhooks.attempt(delivery_id=delivery_id, clock=timezone.now)


@shared_task
def deliver_due_webhooks() -> None:
    """What was to be tried again, and what a lost message or a killed worker left undone."""
    from registry.services import webhooks  # noqa: PLC0415

    for delivery_id in webhooks.claim_due_deliveries(timezone.now()):
        deliver_webhook.delay(delivery_id)


@shared_task
def forget_webhook_deliveries() -> None:
    from registry.services import webhooks  # noqa: PLC0415

    webhooks.forget_deliveries(timezone.now())
