"""Finds jobs whose worker or message was lost, and queues them again."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from registry.models import ConversionJob, Reproduction
from registry.services import workspaces
from registry.services.conversions import queueing
from registry.services.conversions.following import settle_followers


def sweep_lost_jobs(*, now: datetime) -> int:
    """Queue again what a lost worker or a lost message left behind. Returns how many jobs it touched."""
    touched = 0
    for kind in (ConversionJob, Reproduction):
        for work in kind.objects.silent_since(now - timedelta(seconds=settings.AEROGRAM_JOB_SILENCE_SECONDS)):
            _take_from_lost_worker(work, now)
            touched += 1
        for work in kind.objects.unclaimed_since(now - timedelta(seconds=settings.AEROGRAM_JOB_REQUEUE_SECONDS)):
            touched += _send_again(work, now)
    workspaces.remove_abandoned()
    return touched


def _take_from_lost_worker(work: Any, now: datetime) -> None:
    with transaction.atomic():
        if work.give_back(now):
            queueing.send_on_commit(work)
        elif isinstance(work, ConversionJob):
            work.refresh_from_db()
            settle_followers(work, now)


def _send_again(work: Any, now: datetime) -> int:
    changed = type(work).objects.filter(pk=work.pk, state="queued").update(queued_at=now)
    if changed:
        queueing.send_on_commit(work)
    return int(changed)
