"""What scripts and people look at: how an experiment stands, what a unit gets, who holds a layer's buckets."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

from django.db.models import QuerySet

from experiments.bucketing import BUCKETS, bucket, in_range
from experiments.delivery import delivery
from experiments.funnel import ACTIVATED
from experiments.lifecycle import SERVED, Kind, State
from experiments.models import AnalysisRun, Experiment, Holdback, Layer, MetricRollup, Phase
from experiments.plans import Advice, Standing, below_the_minimum
from experiments.policy import Action
from experiments.ramps import arm_at, size
from experiments.services.exceptions import held_back
from experiments.services.phases import taken_from
from experiments.services.recording import subject
from experiments.services.waiting import plan_advice, standing_of, withheld_versions
from registry.models import Application, AuditEntry, Channel, ModelVersion

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
    phase, step, standing = experiment.phase, experiment.step, standing_of(experiment, now)
    advice = plan_advice(experiment, now) if experiment.state == State.RUNNING else None
    decision, reasons = _decision(experiment, advice, standing, now)
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
        "lacking": advice.lacking._asdict() if advice else None,
        "analysed_at": standing.as_of,
        "next_action_at": advice.next_action_at if advice else _starts_at(experiment),
        "phase_since": phase.opened_at if phase else None,
        "arms": _arms(phase) if phase else [],
    }


def _starts_at(experiment: Experiment) -> datetime | None:
    return experiment.starts_at if experiment.state == State.SCHEDULED else None


def overdue(experiment: Experiment, now: datetime) -> str:
    """Why a scheduled start whose time has come has not begun, in words; empty where it is not late."""
    starts_at = _starts_at(experiment)
    if starts_at is None or starts_at > now:
        return ""
    return f"its time has come; {taken_from(experiment) or 'it begins at the next look'}"


def _decision(
    experiment: Experiment, advice: Advice | None, standing: Standing, now: datetime
) -> tuple[Action, list[str]]:
    """`advice` None: it does not run."""
    state = State(experiment.state)
    if advice is None:
        reasons = [overdue(experiment, now) or experiment.state_reason or f"the experiment is {state}"]
        withheld = withheld_versions(experiment) if state in SERVED else ()
        if withheld:
            reasons.append(str(below_the_minimum(withheld)))
        return BY_STATE.get(state, Action.INCONCLUSIVE), reasons
    reasons = [str(found) for found in advice.unmet]
    if not reasons:
        return Action.ADVANCE, reasons
    if advice.lacking.is_stopped or advice.lacking.withheld:
        return Action.HOLD, reasons
    return standing.verdict if advice.lacking.verdict else Action.INCONCLUSIVE, reasons


def _arms(phase: Phase) -> list[dict[str, Any]]:
    """What each gets, the share it should have, and what became of its units as of the last look."""
    shares, counts = phase.expected_shares, _counts(phase)
    return [
        {
            "name": arm.name,
            "version": arm.model_version.number if arm.model_version else None,
            "control": arm.is_control,
            "ranges": arm.ranges,
            "expected_share": shares[arm.name],
            **counts[arm.name],
        }
        for arm in phase.arms.select_related("model_version")
    ]


def _counts(phase: Phase) -> dict[str, dict[str, Any]]:
    """By arm: units, those of them that activated its version or were lost on the way, and when one was heard last."""
    found: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"units": 0, "activated": 0, "failed": 0, "lost": 0, "heard_at": None}
    )
    for row in MetricRollup.objects.filter(phase=phase):
        counts = found[row.arm]
        counts["units"] += row.units
        counts["activated"] += row.reached[ACTIVATED]
        counts["failed"] += sum(row.failed)
        counts["lost"] += sum(row.lost)
        counts["heard_at"] = max(filter(None, (counts["heard_at"], row.heard_at)), default=None)
    return found


def explain(experiment: Experiment, unit: str) -> dict[str, Any]:
    """Which buckets a unit draws and what they give it, from the rows. Raises `Invalid` for what is no unit.

    Whether its device can run every arm's version is not asked here: the channel's `explain` does.
    """
    key = delivery().unit_key(experiment.application, unit)
    phase, held = experiment.phase, held_back(experiment.channel, experiment.model)
    override = experiment.overrides.filter(unit_key=key).first()
    position = bucket(unit, held.salt) if held else None
    found: dict[str, Any] = {
        "state": experiment.state,
        "unit_key": key,
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
    return found | {"outcome": _outcome(experiment, found)}


def _outcome(experiment: Experiment, found: dict[str, Any]) -> str:
    """In the order of the decision."""
    if delivery().is_stopped(experiment.channel, experiment.model):
        return "kill_switch"
    withheld = withheld_versions(experiment)
    pinned = next((arm["version"] for arm in experiment.arms if arm["name"] == found["override"]), None)
    if pinned is not None and pinned not in withheld:
        return "override"
    if found["holdback"] and found["holdback"]["inside"]:
        return "holdback"
    if withheld:
        return "not_served"
    if not found["layer"]["inside"]:
        return "outside_layer"
    return "outside_arms" if found["arm"]["name"] is None else "in_arm"


def kept_apart(channel: Channel, version: ModelVersion) -> list[str]:
    """In words, which units do not get a version although it is released to their channel, and what changes that."""
    told = []
    for row in Experiment.objects.served().filter(channel=channel, model=version.model).order_by("pk"):
        phase = row.phase
        arms = phase.arms.exclude(model_version=version).select_related("model_version") if phase else ()
        for arm in arms:
            follows = row.kind == Kind.ROLLOUT and arm.is_control
            share = size(arm.ranges) * (row.layer_end - row.layer_first) / BUCKETS**2
            if share and not follows:
                runs = f"version {arm.model_version.number}" if arm.model_version else "the embedded model"
                told.append(
                    f"{row} keeps {100 * share:.3g} % of units on {runs} ({arm.name}) until it ends or is superseded"
                )
    held = held_back(channel, version.model)
    if held is not None and held.version != version:
        told.append(f"the holdback keeps {held.percent_bp / 100:g} % of the units on version {held.version.number}")
    return told


def changes(experiment: Experiment) -> QuerySet[AuditEntry]:
    """Its entries of the audit log."""
    return AuditEntry.objects.filter(
        application=experiment.application.slug, subject=subject(experiment), verb__endswith="_experiment"
    )


def results(experiment: Experiment, phase: int | None = None) -> QuerySet[AnalysisRun]:
    """The looks that were written down, of all phases or of one by its number."""
    runs = AnalysisRun.objects.of(experiment).select_related("phase")
    return runs if phase is None else runs.filter(phase__number=phase)


def layers(application: Application) -> QuerySet[Layer]:
    return Layer.objects.filter(channel__application=application).select_related("channel", "model")


def holdbacks(application: Application) -> QuerySet[Holdback]:
    """Those in force."""
    held = Holdback.objects.filter(channel__application=application, lifted_at=None)
    return held.select_related("channel", "model", "version")


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
