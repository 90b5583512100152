"""What was decided, when, and by whom or what: from the audit log, and from the looks at which the verdict changed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from experiments import services
from experiments.models import AnalysisRun, Experiment
from experiments.policy import Action
from experiments.words import STATES, VERDICTS, percent
from registry.models import AuditEntry

GUARDRAILS = "guardrails"  # the actor of what a verdict stopped, as `experiments.analysis` has it
MOST_LOOKS = 2_000
SHOWN = 12
# What a verb did, in words of the past; what else there is to tell follows.
DONE = {
    "create": "designed",
    "edit": "edited the design",
    "submit": "asked for approval",
    "approve": "approved",
    "reject": "rejected",
    "start": "started",
    "pause": "paused",
    "resume": "resumed",
    "advance": "went to the next step",
    "approve_step": "approved the step",
    "ramp": "set the percentage",
    "supersede": "put another version in its place",
    "rerandomise": "drew all units anew",
    "follow": "took the new release for its control",
    "halt": "halted",
    "rollback": "rolled back",
    "complete": "completed",
    "archive": "archived",
    "set_override_of": "set an override",
    "clear_override_of": "cleared an override",
}
TONES = {"halt": "bad", "rollback": "bad", "pause": "warn", "reject": "warn", "complete": "good", "start": "good"}


@dataclass(frozen=True)
class Source:
    """Who or what: told apart by word and icon, not by colour alone."""

    kind: str
    name: str
    icon: str


@dataclass(frozen=True)
class Event:
    at: datetime
    source: Source
    words: str
    details: tuple[str, ...]
    reason: str
    tone: str
    phase: int | None = None


def timeline(experiment: Experiment) -> list[Event]:
    """Newest first."""
    return sorted(
        chain(map(_of_entry, services.changes(experiment)), _of_looks(experiment)),
        key=lambda event: event.at,
        reverse=True,
    )


def source_of(actor: str) -> Source:
    if actor == GUARDRAILS:
        return Source("guardrails", "the guardrails", "shield")
    if actor == services.SCHEDULE:
        return Source("schedule", "the schedule", "schedule")
    return Source("person", actor, "person")


LOOK = Source("analysis", "the analysis", "monitoring")


def _of_entry(entry: AuditEntry) -> Event:
    verb = entry.verb.removesuffix("_experiment")
    before, after = entry.before or {}, entry.after or {}
    phase, was = after.get("phase") or {}, before.get("phase") or {}
    return Event(
        at=entry.at,
        source=source_of(entry.actor),
        words=DONE.get(verb, verb.replace("_", " ")),
        details=tuple(_details(verb, before, after)),
        reason=entry.reason,
        tone=TONES.get(verb, "calm"),
        phase=phase.get("number") if phase.get("number") != was.get("number") else None,
    )


def _details(verb: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    details = after.get("details") or {}
    if "device_class" in details:
        yield f"only the class {details['device_class']}"
    phase, was = after.get("phase") or {}, before.get("phase") or {}
    if phase and phase.get("percent_bp") != was.get("percent_bp"):
        start = f"{percent(was['percent_bp'])} → " if was else ""
        yield f"{start}{percent(phase['percent_bp'])}"
    yield from _versions(phase.get("arms") or {}, was.get("arms") or {})
    if "winner" in details:
        yield f"{details['winner']} is released"
    state, old = after.get("state"), before.get("state")
    if state and old and state != old and verb not in ("halt", "rollback", "pause", "complete", "archive"):
        yield f"now {STATES[state][0]}"
    if verb == "resume" and after.get("awaiting") == Experiment.Awaiting.RESUME:
        yield "somebody else must approve it"


def _versions(arms: dict[str, Any], were: dict[str, Any]) -> Iterator[str]:
    for name, arm in arms.items():
        if name in were and were[name]["version"] != arm["version"]:
            yield f"{name}: version {were[name]['version']} → {arm['version']}"


def _of_looks(experiment: Experiment) -> Iterator[Event]:
    """One event where the verdict, or the classes it halts, differ from the look before."""
    rows = AnalysisRun.objects.of(experiment).values_list("as_of", "verdict", "classes", "reasons", "phase__number")
    return _changes(reversed(list(rows[:MOST_LOOKS])))


def _changes(looks: Iterable[tuple[datetime, str, list[str], list[str], int]]) -> Iterator[Event]:
    last: tuple[str, list[str]] | None = None
    for as_of, verdict, classes, reasons, phase in looks:
        if (verdict, classes) != last:
            words, tone = VERDICTS[verdict]
            named = (f"of {', '.join(classes)}",) if verdict == Action.HALT_CLASS and classes else ()
            details = (*named, f"in phase {phase}")
            yield Event(as_of, LOOK, f"found: {words}", details, "; ".join(reasons), tone)
        last = (verdict, classes)
