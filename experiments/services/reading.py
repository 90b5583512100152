"""What scripts and people look at: how an experiment stands, what a unit gets, who holds a layer's buckets."""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

from django.db.models import QuerySet, Sum

from experiments.bucketing import BUCKETS, bucket, in_range
from experiments.delivery import delivery
from experiments.lifecycle import Kind, State
from experiments.models import AnalysisRun, Experiment, Holdback, Layer, MetricRollup
from experiments.plans import Condition
from experiments.policy import Action
from experiments.ramps import arm_at
from experiments.services.recording import subject
from experiments.services.waiting import decision_for, plan_advice
from registry.models import AuditEntry

# What a script does next follows from the state alone, but while it runs.
BY_STATE = {
    State.HALTED: Action.HALT,
    State.ROLLED_BACK: Action.ROLLBACK,
    State.COMPLETED: Action.ADVANCE,
    State.STOPPED: Action.ADVANCE,
    State.PAUSED: Action.HOLD,
}


def status(experiment: Experiment, now: datetime) -> dict[str, Any]:
    """How far it is, whether it goes on, and what is lacking.

    `decision`: advance, hold, inconclusive (time, sample or approval are lacking, or there was no analysis yet), halt,
    rollback.
    """
    phase, step = experiment.phase, experiment.step
    decision, reasons, next_action_at = _decision(experiment, now)
    return {
        "state": experiment.state,
        "state_reason": experiment.state_reason,
        "awaiting": experiment.awaiting,
        "halted_classes": experiment.halted_classes,
        "phase": phase.number if phase else None,
        "percent_bp": phase.percent_bp if phase else None,
        "step": step.position if step else None,
        "steps": experiment.steps.count(),
        "step_since": experiment.step_since,
        "decision": str(decision),
        "reasons": reasons,
        "analysed_at": decision_for(experiment, now).as_of,
        "next_action_at": next_action_at,
        "arms": _arms(experiment),
    }


def _decision(experiment: Experiment, now: datetime) -> tuple[Action, list[str], datetime | None]:
    state = State(experiment.state)
    if state is not State.RUNNING:
        reason = experiment.state_reason or f"the experiment is {state}"
        return BY_STATE.get(state, Action.INCONCLUSIVE), [reason], experiment.starts_at
    advice = plan_advice(experiment, now)
    reasons = [str(found) for found in advice.unmet]
    if not advice.unmet:
        return Action.ADVANCE, reasons, None
    stops = any(found.condition is Condition.VERDICT for found in advice.unmet)
    verdict = decision_for(experiment, now).verdict
    return verdict if stops else Action.INCONCLUSIVE, reasons, advice.next_action_at


def _arms(experiment: Experiment) -> list[dict[str, Any]]:
    """Of the present phase: what each gets, the share it should have, and how many units it has."""
    phase = experiment.phase
    if phase is None:
        return []
    counts = MetricRollup.objects.filter(phase=phase).values("arm").annotate(assigned=Sum("units"))
    assigned = {row["arm"]: row["assigned"] for row in counts.order_by()}
    shares = phase.expected_shares
    return [
        {
            "name": arm.name,
            "version": arm.model_version.number if arm.model_version else None,
            "control": arm.is_control,
            "ranges": arm.ranges,
            "expected_share": shares[arm.name],
            "units": assigned.get(arm.name, 0),
        }
        for arm in phase.arms.select_related("model_version")
    ]


def explain(experiment: Experiment, unit: str) -> dict[str, Any]:
    """Which buckets a unit draws and what they give it, from the rows. Raises `Invalid` for what is no unit.

    Whether its device can run every arm's version is not asked here: the channel's `explain` does.
    """
    key = delivery().unit_key(experiment.application, unit)
    phase, held = experiment.phase, _holdback(experiment)
    override = experiment.overrides.filter(unit_key=key).first()
    position = bucket(unit, held.salt) if held else None
    found: dict[str, Any] = {
        "state": experiment.state,
        "override": override.arm if override else None,
        "holdback": held and {"bucket": position, "range": held.span, "inside": in_range(position or 0, held.span)},
        "layer": None,
        "arm": None,
    }
    if phase is None:
        return found | {"outcome": "not_served", "phase": None}
    layer, arm = bucket(unit, phase.layer_salt), bucket(unit, phase.arm_salt)
    span = (phase.layer_first, phase.layer_end)
    name = arm_at(phase.ranges, arm)
    found |= {
        "phase": phase.number,
        "layer": {"bucket": layer, "range": span, "inside": in_range(layer, span)},
        "arm": {"bucket": arm, "name": name},
    }
    return found | {"outcome": _outcome(found)}


def _outcome(found: dict[str, Any]) -> str:
    """In the order of the decision."""
    if found["override"]:
        return "override"
    if found["holdback"] and found["holdback"]["inside"]:
        return "holdback"
    if not found["layer"]["inside"]:
        return "outside_layer"
    return "outside_arms" if found["arm"]["name"] is None else "in_arm"


def _holdback(experiment: Experiment) -> Holdback | None:
    return Holdback.objects.filter(channel=experiment.channel, model=experiment.model, lifted_at=None).first()


def changes(experiment: Experiment) -> QuerySet[AuditEntry]:
    """Its entries of the audit log."""
    return AuditEntry.objects.filter(
        application=experiment.application.slug, subject=subject(experiment), verb__endswith="_experiment"
    )


def results(experiment: Experiment, phase: int | None = None) -> QuerySet[AnalysisRun]:
    """The looks that were written down, of all phases or of one by its number."""
    runs = AnalysisRun.objects.of(experiment).select_related("phase")
    return runs if phase is None else runs.filter(phase__number=phase)


def layer_map(layer: Layer) -> dict[str, Any]:
    """Who holds which buckets, and which are free."""
    held = list(layer.allocations.filter(released_at=None).select_related("experiment"))
    return {
        "id": layer.pk,
        "slug": layer.slug,
        "channel": layer.channel.slug,
        "model": layer.model.slug,
        "salt": layer.salt,
        "held": [
            {
                "experiment": row.experiment.slug,
                "range": [row.first_bucket, row.end_bucket],
                "since": row.claimed_at,
                "is_rollout": row.experiment.kind == Kind.ROLLOUT,
            }
            for row in held
        ],
        "free": list(_free([(row.first_bucket, row.end_bucket) for row in held])),
    }


def _free(held: list[tuple[int, int]]) -> Iterator[list[int]]:
    for (_, end), (first, _) in pairwise([(0, 0), *sorted(held), (BUCKETS, BUCKETS)]):
        if end < first:
            yield [end, first]
