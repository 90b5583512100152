"""What a design would see with the units that there are: shown before it starts."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import sqrt
from typing import Any

from django.db.models import F

from experiments.bucketing import BUCKETS
from experiments.detectable import ASSUMED, ASSUMED_DEVIATION, Baseline, Planned, detectable, in_words, needed, planned
from experiments.models import Experiment, MetricRollup
from experiments.policy import policy_from_json
from experiments.ramps import ranges_at
from experiments.services.designing import shares
from experiments.services.previewing import known_units

# Of how long ago the control's shares still tell what is usual, and from how many units on.
USUAL_FOR = timedelta(days=90)
LEAST_UNITS = 200
MOST_ROWS = 5_000


def foresee(experiment: Experiment, now: datetime) -> dict[str, Any]:
    """For every step of the plan and every guardrail the least harm that would trip, as JSON.

    `units` are those that reported of the model in 30 days, 20 000 at most (`is_sample`: there are more). `baseline` is
    what controls of this model on this channel did, or assumed where fewer than 200 units were measured.
    """
    policy, baseline = policy_from_json(experiment.policy), usual(experiment, now)
    units, is_sample = known_units(experiment.channel, experiment.model, now)
    treatments = sum(not arm["control"] for arm in experiment.arms)
    steps = detectable(_planned(experiment), len(units), policy, baseline, treatments=treatments)
    return {
        "units": len(units),
        "is_sample": is_sample,
        "baseline": {
            "units": baseline.units,
            "shares": dict(baseline.shares),
            "log_deviation": baseline.log_deviation,
            "is_assumed": baseline.units == 0,
        },
        "steps": [
            {
                "percent_bp": step.percent_bp,
                "treatment_units": step.treatment_units,
                "control_units": step.control_units,
                "min_units": step.min_units,
                "is_reachable": step.is_reachable,
                "guardrails": [
                    {
                        "name": sight.guardrail,
                        "measure": sight.measure.value,
                        "harm": sight.harm,
                        "words": sight.why_not if sight.harm is None else in_words(sight.measure, sight.harm),
                    }
                    for sight in step.sights
                ],
            }
            for step in steps
        ],
        "needed": [
            {
                "name": need.guardrail,
                "measure": need.measure.value,
                "harm": need.harm,
                "words": in_words(need.measure, need.harm),
                "units_per_arm": need.units,
            }
            for need in needed(policy, baseline, treatments=treatments)
        ],
    }


def _planned(experiment: Experiment) -> list[Planned]:
    arms = shares(experiment.arms)
    control = next(arm.name for arm in arms if arm.control)
    part = (experiment.layer_end - experiment.layer_first) / BUCKETS
    return [
        planned(
            step.percent_bp,
            ranges_at(experiment.kind, arms, step.percent_bp),
            control,
            part,
            step.min_units if step.monitored else 0,
        )
        for step in experiment.steps.all()
    ]


def usual(experiment: Experiment, now: datetime) -> Baseline:
    """What the controls of this model on this channel did; assumed for what too few units tell of."""
    rows = MetricRollup.objects.filter(
        phase__experiment__model=experiment.model,
        phase__experiment__channel=experiment.channel,
        phase__arms__is_control=True,
        phase__arms__name=F("arm"),
        day__gte=(now - USUAL_FOR).date(),
    )
    return baseline_of(rows.order_by("-day", "-pk")[:MOST_ROWS])


def baseline_of(rows: Iterable[MetricRollup]) -> Baseline:
    events = dict.fromkeys(ASSUMED, 0)
    units, timed, total, squares = 0, 0, 0.0, 0.0
    for row in rows:
        units += row.units
        timed += row.latency_units
        total, squares = total + row.latency_total, squares + row.latency_squares
        lost = sum(row.failed) + sum(row.lost)
        counted = {"crash": row.crashed, "load_failure": row.load_failed, "fallback": row.fell_back, "funnel": lost}
        for name, number in (counted | {"slow": row.slow}).items():
            events[name] += number
    of = dict.fromkeys(ASSUMED, units) | {"slow": timed}
    # Half an event more: a share of nothing would make one crash an infinite harm.
    told = {
        name: min(1.0, (events[name] + 0.5) / of[name]) if of[name] >= LEAST_UNITS else share
        for name, share in ASSUMED.items()
    }
    variance = max(0.0, squares - total**2 / timed) / (timed - 1) if timed >= LEAST_UNITS else ASSUMED_DEVIATION**2
    return Baseline(told, sqrt(variance) or ASSUMED_DEVIATION, units if units >= LEAST_UNITS else 0)
