"""Webhooks of an application hear how its experiments and rollouts go on."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from experiments.lifecycle import State, Verb
from experiments.models import Experiment
from registry.models import AuditEntry
from registry.services.webhooks import notify

HELD = "rollout.held"
_STARTED = "rollout.started"
_TOLD_OF = {
    Verb.ADVANCE: "rollout.advanced",
    Verb.RAMP: "rollout.advanced",
    Verb.HALT: "rollout.halted",
    Verb.ROLLBACK: "rollout.rolled_back",
    Verb.COMPLETE: "rollout.completed",
}


def announce(experiment: Experiment, verb: str, entry: AuditEntry) -> None:
    """Tell of a verb that devices notice. Call in the verb's transaction, with its line of the audit log."""
    event_type = _event_type(verb, experiment.state)
    if event_type is not None:
        said = {"by": entry.actor, "reason": entry.reason}
        _tell(experiment, event_type, f"audit entry {entry.pk}", said, entry.at)


def announce_hold(experiment: Experiment, reasons: Sequence[str], now: datetime) -> None:
    """Tell that guardrails keep a plan from going on; call when they begin to, not at every look."""
    _tell(experiment, HELD, f"experiment {experiment.pk} held {now.isoformat()}", {"reasons": list(reasons)}, now)


def _event_type(verb: str, state: str) -> str | None:
    if verb == Verb.START:
        return _STARTED if state == State.RUNNING else None
    if verb in (Verb.ADVANCE, Verb.FOLLOW) and state == State.COMPLETED:
        return _TOLD_OF[Verb.COMPLETE]
    return _TOLD_OF.get(Verb(verb)) if verb in set(Verb) else None


def _tell(experiment: Experiment, event_type: str, subject: str, details: Mapping[str, Any], now: datetime) -> None:
    phase = experiment.phase
    notify(
        application=experiment.application,
        event_type=event_type,
        subject=subject,
        data={
            "channel": experiment.channel.slug,
            "model": experiment.model.slug,
            "experiment": experiment.slug,
            "kind": str(experiment.kind),
            "state": str(experiment.state),
            "percent_bp": phase.percent_bp if phase else 0,
            "halted_classes": experiment.halted_classes,
            **details,
        },
        now=now,
    )
