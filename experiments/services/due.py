"""What happens because its time has come: scheduled starts, steps whose conditions are met, overrides that expire."""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from experiments.errors import LayerTaken, NotHeldBack, OverrideNotFound, StepUnmet, WrongState
from experiments.lifecycle import State
from experiments.models import Experiment, Holdback, Override
from experiments.services.exceptions import clear_override, lift_holdback
from experiments.services.ramping import advance
from experiments.services.recording import SCHEDULE
from experiments.services.running import start
from experiments.services.waiting import plan_advice
from registry.errors import DomainError, Stale

logger = logging.getLogger(__name__)


def start_due(now: datetime) -> int:
    """Start what is scheduled and whose time has come. Returns how many were started."""
    due = Experiment.objects.filter(state=State.SCHEDULED, starts_at__lte=now).order_by("starts_at", "pk")
    return sum(_attempt(start, experiment, now) for experiment in due)


def advance_due(now: datetime) -> int:
    """Advance every running plan whose present step's conditions are all met. Returns how many went on."""
    running = Experiment.objects.filter(state=State.RUNNING).order_by("pk")
    ready = [experiment for experiment in running if not plan_advice(experiment, now).unmet]
    return sum(_attempt(advance, experiment, now) for experiment in ready)


def expire_exceptions(now: datetime) -> int:
    """End the overrides and holdbacks that have come to their end, each with its line in the audit log.

    Returns how many were ended.
    """
    said: dict[str, Any] = {"actor": SCHEDULE, "now": now, "reason": "it has expired"}
    ended = 0
    for override in Override.objects.filter(expires_at__lte=now).select_related("experiment").order_by("pk"):
        with suppress(OverrideNotFound):  # somebody was faster
            clear_override(experiment=override.experiment, unit_key=override.unit_key, **said)
            ended += 1
    for held in Holdback.objects.filter(until__lte=now, lifted_at=None).select_related("channel", "model"):
        with suppress(NotHeldBack):
            lift_holdback(channel=held.channel, model=held.model, **said)
            ended += 1
    return ended


def _attempt(verb: Callable[..., None], experiment: Experiment, now: datetime) -> bool:
    """At the state that was looked at: somebody who was faster wins."""
    reason = "its time has come"
    try:
        verb(experiment=experiment, actor=SCHEDULE, now=now, reason=reason, row_version=experiment.row_version)
    except (Stale, WrongState, StepUnmet):
        return False
    except LayerTaken as error:
        logger.warning("scheduled start waits for its layer: experiment=%s error=%s", experiment, error)
        return False
    except DomainError as error:
        logger.warning("due, but refused: experiment=%s code=%s error=%s", experiment, error.code, error)
        return False
    return True
