"""When a plan goes on to its next step, and what it waits for until then. Pure.

| condition of the present step                       | asked for of     | not met    |
|-----------------------------------------------------|------------------|------------|
| it was held for `hold_seconds`                      | every step       | `time`     |
| the smallest arm of the phase has `min_units` units | monitored steps  | `sample`   |
| the latest analysis says `advance`                  | monitored steps  | `verdict`  |
| enough other people approved                        | where it says so | `approval` |
| a step follows, or a rollout has reached everybody  | every step       | `end`      |

All at once: time alone never advances. Without an analysis nothing is concluded, so that silence holds.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from experiments.policy import Action


class Standing(NamedTuple):
    """What the latest analysis says of the present phase. `units`: of its smallest arm. `as_of`: None if never."""

    verdict: Action
    units: int = 0
    reasons: tuple[str, ...] = ()
    as_of: datetime | None = None


UNKNOWN = Standing(Action.INCONCLUSIVE, reasons=("no analysis yet",))


class Condition(StrEnum):
    TIME = "time"
    SAMPLE = "sample"
    VERDICT = "verdict"
    APPROVAL = "approval"
    END = "end"


class Unmet(NamedTuple):
    condition: Condition
    detail: str

    def __str__(self) -> str:
        return f"{self.condition}: {self.detail}"


class PlanStep(NamedTuple):
    """The present step, times in seconds. `approvals_lacking`: people who must still approve leaving it."""

    hold_seconds: int
    min_units: int
    monitored: bool
    approvals_lacking: int


class Advice(NamedTuple):
    """`next_action_at`: when the time condition is met, None when it is."""

    unmet: tuple[Unmet, ...]
    next_action_at: datetime | None


def advise(step: PlanStep, *, since: datetime, now: datetime, standing: Standing, is_at_the_end: bool) -> Advice:
    """Every condition that is not met; the plan goes on when there is none."""
    unmet: list[Unmet] = []
    due = since + timedelta(seconds=step.hold_seconds)
    if now < due:
        unmet.append(Unmet(Condition.TIME, f"until {due:%Y-%m-%dT%H:%M:%SZ}"))
    if step.monitored and standing.units < step.min_units:
        told = f"{standing.units} of {step.min_units} units in the smallest arm"
        unmet.append(Unmet(Condition.SAMPLE, told))
    if step.monitored and standing.verdict is not Action.ADVANCE:
        unmet.append(Unmet(Condition.VERDICT, f"{standing.verdict} ({', '.join(standing.reasons) or 'no reason'})"))
    if step.approvals_lacking:
        unmet.append(Unmet(Condition.APPROVAL, f"{step.approvals_lacking} more must approve"))
    if is_at_the_end:
        unmet.append(Unmet(Condition.END, "no step follows: complete it or set another percentage"))
    return Advice(tuple(unmet), due if now < due else None)
