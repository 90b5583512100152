"""What every verb does alike: hold the row, check state and version, write down what was and what is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from experiments import errors, lifecycle
from experiments.announcing import announce
from experiments.delivery import delivery
from experiments.lifecycle import SERVED, State, Verb
from experiments.models import Experiment, Phase, Step
from registry.errors import Stale
from registry.models import AuditEntry

SCHEDULE = "schedule"  # the actor of what beat does because its time has come


@dataclass
class Deed:
    """One verb while it is being done: the locked row, who says it, and what to write down at its end."""

    experiment: Experiment
    verb: str
    actor: str
    now: datetime
    reason: str
    before: dict[str, Any] | None
    publishes: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    def move(self, state: State) -> None:
        """To a state that the table allows from the present one."""
        allowed = lifecycle.require(Verb(self.verb), self.experiment.state)
        assert state in allowed, f"{self.verb}: expected one of {allowed}, got {state}"
        self.experiment.state = state.value


@contextmanager
def doing(
    verb: str, experiment: Experiment, *, actor: str, now: datetime, reason: str, row_version: int | None = None
) -> Iterator[Deed]:
    """One verb: the row locked at the state the caller saw, then saved and told to the audit log, all or nothing.

    Devices hear of it when it was served before or is now, and the verb says so. The caller's own row is brought up to
    date. Raises `Stale`, `WrongState`.
    """
    with transaction.atomic():
        locked = Experiment.objects.select_for_update().get(pk=experiment.pk)
        if row_version is not None and locked.row_version != row_version:
            raise Stale(f"expected version {row_version} of {locked}, it is at {locked.row_version}")
        if verb in set(Verb):
            require_state(Verb(verb), locked)
        deed = Deed(locked, verb, actor, now, reason, told(locked))
        was_served = locked.state in SERVED
        yield deed
        locked.save()
        announce(locked, verb, record(deed))
        if deed.publishes and (was_served or locked.state in SERVED):
            request_publish(deed)
    experiment.refresh_from_db()


def require_state(verb: Verb, experiment: Experiment) -> None:
    try:
        lifecycle.require(verb, experiment.state)
    except lifecycle.WrongState as error:
        raise errors.WrongState(f"{experiment}: {error}") from error


def record(deed: Deed) -> AuditEntry:
    """One entry: the whole state before and after, so that the log alone rebuilds it."""
    deed.experiment.refresh_from_db()
    return AuditEntry.record(
        now=deed.now,
        actor=deed.actor,
        verb=f"{deed.verb}_experiment",
        subject=subject(deed.experiment),
        application=deed.experiment.application,
        before=deed.before,
        after=told(deed.experiment) | ({"details": deed.details} if deed.details else {}),
        reason=deed.reason,
    )


def request_publish(deed: Deed) -> None:
    delivery().request_publish(deed.experiment.application, f"{deed.verb} {deed.experiment}", deed.now)


def subject(experiment: Experiment) -> str:
    """What the audit log calls it."""
    return f"experiment {experiment.application.slug}/{experiment.slug}"


def told(experiment: Experiment) -> dict[str, Any]:
    """The whole state as JSON: what the audit log keeps, and what two states are compared by."""
    phase = experiment.phase
    return {
        "kind": experiment.kind,
        "channel": experiment.channel.slug,
        "model": experiment.model.slug,
        "state": str(experiment.state),
        "state_reason": experiment.state_reason,
        "hypothesis": experiment.hypothesis,
        "arms": experiment.arms,
        "policy": experiment.policy,
        "layer": experiment.layer.slug,
        "layer_range": [experiment.layer_first, experiment.layer_end],
        "seed": experiment.seed,
        "starts_at": experiment.starts_at.isoformat() if experiment.starts_at else None,
        "edition": experiment.edition,
        "awaiting": str(experiment.awaiting),
        "approved_by": experiment.approvers(),
        "steps": [told_step(step) for step in experiment.steps.all()],
        "step_position": experiment.step_position,
        "halted_classes": experiment.halted_classes,
        "phase": told_phase(phase) if phase else None,
        "overrides": {row.unit_key: row.arm for row in experiment.overrides.order_by("unit_key")},
    }


def told_step(step: Step) -> dict[str, Any]:
    names = ("percent_bp", "hold_seconds", "min_units", "needs_approval", "monitored")
    return {name: getattr(step, name) for name in names}


def told_phase(phase: Phase) -> dict[str, Any]:
    arms = phase.arms.select_related("model_version")
    return {
        "number": phase.number,
        "cause": phase.cause,
        "percent_bp": phase.percent_bp,
        "seed": phase.seed,
        "arms": {
            arm.name: {"version": arm.model_version.number if arm.model_version else None, "ranges": arm.ranges}
            for arm in arms
        },
    }
