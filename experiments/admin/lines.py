"""How many experiments stand, in as many queries as for one: for the list, and for the home page."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, OuterRef, QuerySet, Subquery

from experiments.delivery import delivery
from experiments.lifecycle import SERVED, State
from experiments.models import AnalysisRun, Approval, Experiment, Phase, Step
from experiments.policy import Action
from experiments.words import ahead, percent
from registry.models import Application

Awaiting = Experiment.Awaiting
OPEN = {State.IN_REVIEW, State.APPROVED, State.SCHEDULED, *SERVED}


def with_standing(rows: QuerySet[Experiment]) -> QuerySet[Any]:
    """Annotated: `percent_bp` of the open phase, `last_verdict`, `last_units` and `last_reasons` of the latest look at
    the last phase, `plan_steps`, and for the present step `asks_approval` and `step_approvals`.
    """
    own = {"experiment": OuterRef("pk")}
    phases = Phase.objects.filter(**own).order_by("-number")
    looks = AnalysisRun.objects.filter(phase=OuterRef("present")).order_by("-as_of", "-pk")
    steps = Step.objects.filter(**own).order_by()
    given = Approval.objects.filter(**own, edition=OuterRef("edition"), purpose=Awaiting.STEP).order_by()
    return rows.annotate(present=Subquery(phases.values("pk")[:1])).annotate(
        percent_bp=Subquery(phases.filter(closed_at=None).values("percent_bp")[:1]),
        last_verdict=Subquery(looks.values("verdict")[:1]),
        last_units=Subquery(looks.values("units")[:1]),
        last_reasons=Subquery(looks.values("reasons")[:1]),
        plan_steps=Subquery(steps.values("experiment").annotate(number=Count("pk")).values("number")),
        asks_approval=Subquery(steps.filter(position=OuterRef("step_position")).values("needs_approval")[:1]),
        step_approvals=Subquery(given.values("experiment").annotate(number=Count("pk")).values("number")),
    )


@dataclass(frozen=True)
class Line:
    """`needs_somebody`: a person has to do something before it goes on."""

    experiment: Experiment
    percent: str
    words: str
    needs_somebody: bool


def lines(applications: Iterable[Application], now: datetime) -> list[Line]:
    """Those that are under way, the ones that need somebody first."""
    rows = Experiment.objects.filter(application__in=applications, state__in=OPEN)
    found = with_standing(rows.select_related("application", "model", "channel__application"))
    told = [_line(row, now) for row in found]
    return sorted(told, key=lambda line: not line.needs_somebody)


def _line(row: Any, now: datetime) -> Line:
    words, needs_somebody = _waits(row, now)
    return Line(row, percent(row.percent_bp) if row.percent_bp is not None else "", words, needs_somebody)


def _waits(row: Any, now: datetime) -> tuple[str, bool]:
    if row.state == State.SCHEDULED:
        return f"starts at {ahead(row.starts_at, now)}", False
    told = _stopped(row)
    return (told, True) if told else ("", False)


def _stopped(row: Any) -> str:
    """What somebody has to do something about; empty where nothing is."""
    if row.state == State.APPROVED:
        return "approved; somebody starts it"
    if row.awaiting:
        return f"waits for approval to {'start' if row.awaiting == Awaiting.START else 'go on'}"
    if row.state in (State.HALTED, State.PAUSED):
        return str(row.state_reason)
    return _held(row)


def _held(row: Any) -> str:
    if row.halted_classes:
        return f"halted for {', '.join(row.halted_classes)}: {row.state_reason}"
    if row.last_verdict in (Action.HOLD, Action.HALT_CLASS):
        return f"held: {'; '.join(row.last_reasons)}"
    if row.asks_approval and (row.step_approvals or 0) < max(1, delivery().approvals_required(row.channel)):
        return "the step waits for approval"
    return ""
