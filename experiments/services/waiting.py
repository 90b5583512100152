"""What an experiment waits for, from its rows and from the latest analysis."""

from datetime import datetime

from experiments.bucketing import BUCKETS
from experiments.lifecycle import Kind
from experiments.models import Experiment
from experiments.plans import UNKNOWN, Advice, PlanStep, Standing, advise
from experiments.services.reviewing import step_approvals_lacking


def decision_for(experiment: Experiment, now: datetime) -> Standing:  # noqa: ARG001
    """What is known of the present phase. Until it was analysed that is nothing, and nothing holds."""
    return UNKNOWN


def plan_advice(experiment: Experiment, now: datetime) -> Advice:
    """Whether the plan of a running experiment goes on, and what is lacking. Before its first step only time counts."""
    step = experiment.step
    lacking = step_approvals_lacking(experiment)
    plan = PlanStep(step.hold_seconds, step.min_units, step.monitored, lacking) if step else PlanStep(0, 0, False, 0)
    return advise(
        plan,
        since=experiment.step_since or now,
        now=now,
        standing=decision_for(experiment, now),
        is_at_the_end=is_at_the_end(experiment),
    )


def is_at_the_end(experiment: Experiment) -> bool:
    """No step follows, and it is no rollout that has reached everybody, which would be completed."""
    phase = experiment.phase
    is_whole = phase is not None and phase.percent_bp == BUCKETS and experiment.kind == Kind.ROLLOUT
    return experiment.next_step is None and not is_whole
