"""Is it fine, what does it wait for, what happened: a sentence or two for whoever opens the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from experiments import services
from experiments.admin.timeline import Event
from experiments.delivery import delivery
from experiments.lifecycle import ENDED, State
from experiments.models import Experiment
from experiments.plans import Advice, Condition
from experiments.policy import Action
from experiments.words import ahead, number, percent, span

Awaiting = Experiment.Awaiting
ICONS = {"good": "check_circle", "warn": "hourglass_top", "bad": "error", "calm": "info", "busy": "schedule"}
# How each state is told where nothing else is to be said; `by` names who brought it there.
WORDS = {
    State.DRAFT: "A draft: devices know nothing of it. Submit it, so that somebody else can approve it.",
    State.APPROVED: "Approved. It begins when somebody starts it.",
    State.PAUSED: "Devices keep what they have; no step follows until it is resumed.",
    State.HALTED: "Who runs the treatment keeps it, nobody else gets it. Going on needs resume, and another person's "
    "approval.",
    State.ROLLED_BACK: "Every unit returns to the channel's current release.",
    State.COMPLETED: "The winner is the channel's current release.",
    State.STOPPED: "It ended without a winner; the current release stays.",
    State.ARCHIVED: "It was put aside; its results stay.",
}


@dataclass(frozen=True)
class Headline:
    """`waits`: each thing that it waits for. `happened`: the latest thing that brought it where it is."""

    tone: str
    title: str
    words: str
    waits: tuple[str, ...]
    happened: Event | None

    @property
    def icon(self) -> str:
        return ICONS[self.tone]


def headline(experiment: Experiment, events: Sequence[Event], now: datetime) -> Headline:
    state = State(experiment.state)
    happened = next((event for event in events if event.source.kind != "analysis"), None)
    if state is State.RUNNING:
        return _running(experiment, services.plan_advice(experiment, now), happened, now)
    tones = {State.PAUSED: "warn", State.HALTED: "bad", State.ROLLED_BACK: "bad", State.IN_REVIEW: "warn"}
    tone = tones.get(state, "good" if state is State.COMPLETED else "calm")
    title = state.replace("_", " ").capitalize()
    if state in (State.DRAFT, State.HALTED, State.PAUSED, *ENDED):
        title += _how(experiment)
    told = WORDS.get(state, "")
    if state is State.SCHEDULED and experiment.starts_at:
        late = services.overdue(experiment, now)
        told = f"Late: {late}." if late else f"It starts by itself at {ahead(experiment.starts_at, now)}."
    return Headline(tone, title, told, tuple(_approvals(experiment)), happened)


def _how(experiment: Experiment) -> str:
    return f": {experiment.state_reason}" if experiment.state_reason else ""


def _running(experiment: Experiment, advice: Advice, happened: Event | None, now: datetime) -> Headline:
    standing = services.standing_of(experiment, now)
    phase, following = experiment.phase, experiment.next_step
    title = f"Running at {percent(phase.percent_bp if phase else None)}"
    goal = f"go to {percent(following.percent_bp)}" if following else "end with the treatment released to everybody"
    conditions = {found.condition for found in advice.unmet}
    waits = (*unmet(experiment, advice, now), *_approvals(experiment))
    held = Condition.VERDICT in conditions and standing.verdict not in (Action.INCONCLUSIVE, Action.ADVANCE)
    if Condition.KILL_SWITCH in conditions:
        tone, title = "warn", f"{title}, and the kill switch is engaged"
    elif Condition.MINIMUM in conditions:
        tone, title = "warn", f"{title}, and devices are told nothing of it"
    elif experiment.halted_classes:
        tone, title = "warn", f"{title}, halted for {', '.join(experiment.halted_classes)}"
    elif held:
        tone, title = "warn", f"{title}, held: {_first(standing.reasons)}"
    elif Condition.APPROVAL in conditions or experiment.awaiting:
        tone, title = "warn", f"{title}, needs somebody's approval"
    elif Condition.VERDICT in conditions and standing.as_of is None:
        tone, title = "calm", f"{title}, nothing measured yet"
    else:
        tone, title = "good", f"{title}, no guardrail speaks against it"
    if Condition.END in conditions:
        told = "No step follows: complete it or set another percentage."
    else:
        told = f"Next it will {goal} by itself" + (
            ", once everything below is there." if waits else ", at the next look."
        )
    if experiment.halted_classes:
        told += " Resume, and another person's approval, lift the halt of the class."
    return Headline(tone, title, told, waits, happened)


def _first(reasons: Sequence[str]) -> str:
    return reasons[0] if reasons else "no reason told"


def unmet(experiment: Experiment, advice: Advice, now: datetime) -> Iterator[str]:
    """Each thing that the plan waits for; that no step follows is no such thing."""
    for found in advice.unmet:
        if found.condition is Condition.TIME and advice.next_action_at:
            yield f"time: until {ahead(advice.next_action_at, now)}"
        elif found.condition is Condition.VERDICT:
            yield f"a verdict to advance; it is {found.detail}"
        elif found.condition is Condition.APPROVAL:
            yield f"approval of the step: {found.detail}, not {_not_by(experiment)}"
        elif found.condition is Condition.SAMPLE:
            yield f"the sample: {found.detail}"
        elif found.condition is Condition.KILL_SWITCH:
            yield f"the kill switch to be lifted: {found.detail}"
        elif found.condition is Condition.MINIMUM:
            yield f"a version that devices may have: {found.detail}"


def _approvals(experiment: Experiment) -> Iterator[str]:
    if experiment.awaiting in (Awaiting.START, Awaiting.RESUME):
        needed = max(1, delivery().approvals_required(experiment.channel))
        given = experiment.approvers()
        what = "to start" if experiment.awaiting == Awaiting.START else "to go on"
        by = f" ({', '.join(given)})" if given else ""
        yield f"approval {what}: {len(given)} of {needed}{by}, not by {_not_by(experiment)}"


def _not_by(experiment: Experiment) -> str:
    return " or ".join(sorted(experiment.authors))


def plan(experiment: Experiment) -> list[dict[str, Any]]:
    """The steps: which are done, where it is, and what each asks for."""
    here, phase = experiment.step_position, experiment.phase
    now_bp = phase.percent_bp if phase else None
    is_over = experiment.state in ENDED
    return [
        {
            "number": number,
            "step": step,
            "percent": percent(step.percent_bp),
            "percent_now": percent(now_bp) if step.position == here and now_bp != step.percent_bp else "",
            "tone": _place(step.position, here, is_over=is_over, state=experiment.state),
            "asks": list(_asks(step)),
        }
        for number, step in enumerate(experiment.steps.all(), start=1)
    ]


def _place(position: int, here: int | None, *, is_over: bool, state: str) -> str:
    if here is None or position > here:
        return "ahead"
    if position == here and not is_over:
        return "now"
    return "done" if position < here or state == State.COMPLETED else "left"


def _asks(step: Any) -> Iterator[str]:
    yield f"held for {span(step.hold_seconds)}" if step.hold_seconds else "no hold time"
    if not step.monitored:
        yield "not monitored: neither sample nor verdict matter"
    elif step.min_units:
        yield f"{number(step.min_units)} units in the smallest arm"
    if step.needs_approval:
        yield "somebody's approval"
