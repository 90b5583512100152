"""What happens because its time has come: scheduled starts, steps whose conditions are met, overrides that expire.

Each experiment by itself: what goes wrong with one keeps no other waiting.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db import transaction

from experiments.announcing import announce_hold
from experiments.errors import LayerTaken, NotHeldBack, OverrideNotFound, StepUnmet, WrongState
from experiments.lifecycle import State
from experiments.models import Experiment, Holdback, Override
from experiments.services.exceptions import clear_override, lift_holdback
from experiments.services.ramping import advance
from experiments.services.recording import SCHEDULE
from experiments.services.reviewing import reject
from experiments.services.running import start
from experiments.services.waiting import plan_advice
from registry.errors import DomainError, Stale, Unavailable

logger = logging.getLogger(__name__)
DUE = "its time has come"
EXPIRED = "it has expired"
# Somebody was faster: there is nothing left to do.
OVERTAKEN = (Stale, WrongState, StepUnmet, OverrideNotFound, NotHeldBack)


def start_due(now: datetime) -> int:
    """Start what is scheduled and whose time has come. Returns how many were started.

    One that cannot start as it was approved is a draft again, and says why; a taken layer is waited for.
    """
    due = Experiment.objects.filter(state=State.SCHEDULED, starts_at__lte=now).order_by("starts_at", "pk")
    return sum(_attempted(_start, experiment, now) for experiment in due)


def advance_due(now: datetime) -> int:
    """Advance every running plan whose present step's conditions are all met. Returns how many went on."""
    running = Experiment.objects.filter(state=State.RUNNING).order_by("pk")
    return sum(_attempted(_advance, experiment, now) for experiment in running)


def expire_exceptions(now: datetime) -> int:
    """End the overrides and holdbacks that have come to their end, each with its line in the audit log.

    Returns how many were ended.
    """
    overrides = Override.objects.filter(expires_at__lte=now).select_related("experiment").order_by("pk")
    held = Holdback.objects.filter(until__lte=now, lifted_at=None).select_related("channel", "model")
    ended = sum(_attempted(_clear, override, now) for override in overrides)
    return ended + sum(_attempted(_lift, row, now) for row in held)


def _attempted(verb: Callable[[Any, datetime], bool], row: Any, now: datetime) -> bool:
    try:
        return verb(row, now)
    except OVERTAKEN:
        return False
    except DomainError as error:
        logger.warning("due, but refused: %s=%s code=%s error=%s", type(row).__name__, row, error.code, error)
    except Exception:
        logger.exception("due, but failed: %s=%s", type(row).__name__, row)
    return False


def _said(row: Experiment, now: datetime, reason: str) -> dict[str, Any]:
    """At the state that was looked at: somebody who was faster wins."""
    return {"experiment": row, "actor": SCHEDULE, "now": now, "reason": reason, "row_version": row.row_version}


def _start(row: Experiment, now: datetime) -> bool:
    try:
        start(**_said(row, now, DUE))
    except LayerTaken as error:
        logger.info("scheduled start waits for its layer: experiment=%s error=%s", row, error)
        return False
    except (*OVERTAKEN, Unavailable):
        raise
    except DomainError as error:
        reason = f"{DUE}, but it cannot start: {error}"
        with transaction.atomic():
            reject(**_said(row, now, reason))
            announce_hold(row, [reason], now)
        return False
    return True


def _advance(row: Experiment, now: datetime) -> bool:
    if plan_advice(row, now).unmet:
        return False
    advance(**_said(row, now, DUE))
    return True


def _clear(row: Override, now: datetime) -> bool:
    with transaction.atomic():
        Experiment.objects.select_for_update().get(pk=row.experiment_id)
        if not Override.objects.filter(pk=row.pk, expires_at__lte=now).exists():
            return False  # it was given more time meanwhile
        clear_override(experiment=row.experiment, unit_key=row.unit_key, actor=SCHEDULE, now=now, reason=EXPIRED)
    return True


def _lift(row: Holdback, now: datetime) -> bool:
    with transaction.atomic():
        if not Holdback.objects.select_for_update().filter(pk=row.pk, until__lte=now, lifted_at=None).exists():
            return False
        lift_holdback(channel=row.channel, model=row.model, actor=SCHEDULE, now=now, reason=EXPIRED)
    return True
