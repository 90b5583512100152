"""What happens because its time has come: scheduled starts, steps whose conditions are met, overrides that expire."""

import logging
from collections.abc import Callable
from datetime import datetime

from django.db import transaction

from experiments.delivery import delivery
from experiments.errors import LayerTaken, StepUnmet, WrongState
from experiments.lifecycle import SERVED, State
from experiments.models import Experiment, Holdback, Override
from experiments.services.ramping import advance
from experiments.services.recording import SCHEDULE
from experiments.services.running import start
from experiments.services.waiting import plan_advice
from registry.errors import DomainError, Stale
from registry.models import Application

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
    """Publish anew where an override or a holdback has come to its end. Returns the number of applications."""
    with transaction.atomic():
        overrides = Override.objects.filter(experiment__state__in=SERVED, expires_at__lte=now)
        holdbacks = Holdback.objects.filter(until__lte=now, lifted_at=None)
        concerned = {row.experiment.application_id for row in overrides.select_related("experiment")}
        concerned |= {row.channel.application_id for row in holdbacks.select_related("channel")}
        Override.objects.filter(expires_at__lte=now).delete()
        holdbacks.update(lifted_at=now)
        for application in Application.objects.filter(pk__in=concerned):
            delivery().request_publish(application, "overrides or holdbacks that have expired", now)
    return len(concerned)


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
