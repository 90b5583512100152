"""A plan goes on when every condition holds, and says each that does not."""

from datetime import timedelta
from itertools import product

import pytest

from experiments.plans import UNKNOWN, Condition, Lacking, PlanStep, Standing, advise
from experiments.policy import Action
from tests.factories import NOW

STEP = PlanStep(hold_seconds=3600, min_units=200, monitored=True, approvals_lacking=0)
GOOD = Standing(Action.ADVANCE, 200)
LATER = NOW + timedelta(seconds=3600)


def unmet(step=STEP, now=LATER, standing=GOOD, **more):
    advice = advise(step, since=NOW, now=now, standing=standing, **{"is_at_the_end": False} | more)
    return [found.condition for found in advice.unmet]


@pytest.mark.parametrize(
    ("timely", "sampled", "good", "approved", "following", "served", "offered", "monitored"),
    list(product([True, False], repeat=8)),
)
def test_all_conditions_at_once(timely, sampled, good, approved, following, served, offered, monitored):
    expected = {
        Condition.TIME: not timely,
        Condition.SAMPLE: monitored and not sampled,
        Condition.VERDICT: monitored and not good,
        Condition.APPROVAL: not approved,
        Condition.END: not following,
        Condition.KILL_SWITCH: not served,
        Condition.MINIMUM: not offered,
    }
    found = unmet(
        PlanStep(3600, 200, monitored, 0 if approved else 1),
        LATER if timely else LATER - timedelta(seconds=1),
        Standing(Action.ADVANCE if good else Action.HOLD, 200 if sampled else 199),
        is_at_the_end=not following,
        is_stopped=not served,
        withheld=() if offered else (3,),
    )
    assert found == [condition for condition, lacking in expected.items() if lacking]


@pytest.mark.parametrize("verdict", [action for action in Action if action is not Action.ADVANCE])
def test_no_other_verdict_goes_on(verdict):
    assert unmet(standing=Standing(verdict, 10**6)) == [Condition.VERDICT]


def test_silence_holds():
    assert unmet(standing=UNKNOWN, now=NOW + timedelta(days=365)) == [Condition.SAMPLE, Condition.VERDICT]


def test_the_next_action_is_when_the_time_is_over():
    early = advise(STEP, since=NOW, now=NOW, standing=GOOD, is_at_the_end=False)
    assert (early.next_action_at, str(early.unmet[0])) == (LATER, "time: until 2026-11-22T13:00:00Z")
    assert advise(STEP, since=NOW, now=LATER, standing=GOOD, is_at_the_end=False).next_action_at is None


def test_what_is_lacking_is_told_in_numbers():
    step = PlanStep(3600, 200, monitored=True, approvals_lacking=2)
    told = {"since": NOW, "now": NOW + timedelta(seconds=0.5), "is_at_the_end": True}
    advice = advise(step, standing=Standing(Action.HOLD, 150), is_stopped=True, withheld=(1,), **told)
    assert advice.lacking == Lacking(3600, 50, Action.HOLD, 2, step=True, is_stopped=True, withheld=(1,))
    assert advise(STEP, since=NOW, now=LATER, standing=GOOD, is_at_the_end=False).lacking == Lacking()
