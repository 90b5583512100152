"""What an experiment waits for, from its rows and from the latest analysis."""

from datetime import datetime, timedelta

from experiments.bucketing import BUCKETS
from experiments.delivery import delivery
from experiments.lifecycle import Kind
from experiments.models import AnalysisRun, Experiment
from experiments.plans import UNKNOWN, Advice, PlanStep, Standing, advise
from experiments.policy import Action
from experiments.services.reviewing import step_approvals_lacking

# Looks are taken every minute and written down at least hourly: without one for so long no worker is there to take it.
LONGEST_WITHOUT_LOOK = timedelta(hours=3)


def standing_of(experiment: Experiment, now: datetime) -> Standing:
    """What the latest look at the present phase says; a look that is too old says nothing."""
    phase = experiment.phase
    run = AnalysisRun.objects.of(experiment).until(now).filter(phase=phase).first() if phase else None
    if run is None:
        return UNKNOWN
    if now - run.as_of > LONGEST_WITHOUT_LOOK:
        told = f"the last analysis is of {run.as_of:%Y-%m-%dT%H:%M:%SZ}"
        return Standing(Action.HOLD, run.units, (told,), run.as_of)
    # Once its classes are halted the next look leaves them out, and the plan may go on without them.
    verdict = Action.HOLD if run.verdict == Action.HALT_CLASS else Action(run.verdict)
    return Standing(verdict, run.units, tuple(run.reasons), run.as_of)


def plan_advice(experiment: Experiment, now: datetime) -> Advice:
    """Whether the plan of a running experiment goes on, and what is lacking. Before its first step only time counts."""
    step = experiment.step
    lacking = step_approvals_lacking(experiment)
    plan = PlanStep(step.hold_seconds, step.min_units, step.monitored, lacking) if step else PlanStep(0, 0, False, 0)
    return advise(
        plan,
        since=experiment.step_since or now,
        now=now,
        standing=standing_of(experiment, now),
        is_at_the_end=is_at_the_end(experiment),
        is_stopped=delivery().is_stopped(experiment.channel, experiment.model),
        withheld=withheld_versions(experiment),
    )


def withheld_versions(experiment: Experiment) -> tuple[int, ...]:
    """Versions of its arms that no device may have: one is enough for devices to be told nothing of it."""
    versions = [arm["version"] for arm in experiment.arms if arm["version"] is not None]
    return tuple(delivery().withheld(experiment.model, versions))


def is_at_the_end(experiment: Experiment) -> bool:
    """No step follows, and it is no rollout that has reached everybody, which would be completed.

    One that is halted for a class has not: completed, its treatment would be that class' current release too.
    """
    phase = experiment.phase
    is_whole = phase is not None and phase.percent_bp == BUCKETS and experiment.kind == Kind.ROLLOUT
    return experiment.next_step is None and (not is_whole or bool(experiment.halted_classes))
