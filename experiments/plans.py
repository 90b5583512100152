"""When a plan goes on to its next step, and what it waits for until then. Pure.

| condition of the present step                       | asked for of     | not met       |
|-----------------------------------------------------|------------------|---------------|
| it was held for `hold_seconds`                      | every step       | `time`        |
| the smallest arm of the phase has `min_units` units | monitored steps  | `sample`      |
| the latest analysis says `advance`                  | monitored steps  | `verdict`     |
| enough other people approved                        | where it says so | `approval`    |
| a step follows, or a rollout has reached everybody  | every step       | `end`         |
| no kill switch keeps every device from every arm    | every step       | `kill_switch` |
| no arm's version lies below the model's minimum     | every step       | `minimum`     |

All at once: time alone never advances. Without an analysis nothing is concluded, so that silence holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil
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
    KILL_SWITCH = "kill_switch"
    MINIMUM = "minimum"


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


class Lacking(NamedTuple):
    """What is missing before the plan goes on, for whoever counts: 0, None, False and () where nothing is.

    `seconds` of time, `units` in the smallest arm, `approvals` of people; `verdict`: the one that is in the way.
    `withheld`: versions of arms below the model's minimum release counter.
    """

    seconds: int = 0
    units: int = 0
    verdict: Action | None = None
    approvals: int = 0
    step: bool = False
    is_stopped: bool = False
    withheld: tuple[int, ...] = ()


class Advice(NamedTuple):
    """`unmet`: what is lacking, in words. `next_action_at`: when the time condition is met, None when it is."""

    unmet: tuple[Unmet, ...]
    next_action_at: datetime | None
    lacking: Lacking


def advise(
    step: PlanStep,
    *,
    since: datetime,
    now: datetime,
    standing: Standing,
    is_at_the_end: bool,
    is_stopped: bool = False,
    withheld: tuple[int, ...] = (),
) -> Advice:
    """Every condition that is not met; the plan goes on when there is none. `is_stopped`: by a kill switch.

    `withheld`: versions of arms that no device may have, so that devices are told nothing of the experiment.
    """
    due = since + timedelta(seconds=step.hold_seconds)
    lacking = Lacking(
        seconds=max(0, ceil((due - now).total_seconds())),
        units=max(0, step.min_units - standing.units) if step.monitored else 0,
        verdict=standing.verdict if step.monitored and standing.verdict is not Action.ADVANCE else None,
        approvals=step.approvals_lacking,
        step=is_at_the_end,
        is_stopped=is_stopped,
        withheld=withheld,
    )
    return Advice(tuple(_unmet(lacking, step, standing, due)), due if lacking.seconds else None, lacking)


def _unmet(lacking: Lacking, step: PlanStep, standing: Standing, due: datetime) -> Iterator[Unmet]:
    if lacking.seconds:
        yield Unmet(Condition.TIME, f"until {due:%Y-%m-%dT%H:%M:%SZ}")
    if lacking.units:
        yield Unmet(Condition.SAMPLE, f"{standing.units} of {step.min_units} units in the smallest arm")
    if lacking.verdict:
        yield Unmet(Condition.VERDICT, f"{standing.verdict} ({', '.join(standing.reasons) or 'no reason'})")
    if lacking.approvals:
        yield Unmet(Condition.APPROVAL, f"{step.approvals_lacking} more must approve")
    if lacking.step:
        yield Unmet(Condition.END, "no step follows: complete it or set another percentage")
    if lacking.is_stopped:
        yield Unmet(Condition.KILL_SWITCH, "every device runs the model embedded in its app")
    if lacking.withheld:
        yield below_the_minimum(lacking.withheld)


def below_the_minimum(versions: tuple[int, ...]) -> Unmet:
    """What is wrong with an experiment that has such versions in its arms, whether it runs or not."""
    told = "below the model's minimum release counter: devices are told nothing of the experiment"
    return Unmet(Condition.MINIMUM, f"version {', '.join(map(str, versions))} is {told}")
