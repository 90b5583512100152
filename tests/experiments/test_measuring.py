"""From counted cells to a verdict: what few units, new phases and halted classes must not decide."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.analysis import inputs_hash
from experiments.measuring import Cell, Counted, PhaseCounts, evidence_of, final_read, results
from experiments.policy import Action, Policy, Progress, judge
from experiments.statistics.estimates import Moments

POLICY = Policy()
HALVES = {"treatment": 0.5, "control": 0.5}


def moments(values):
    values = np.asarray(values, float)
    return Moments(len(values), float(values.sum()), float((values**2).sum()))


def phase(treatment, control, units=1000, name="all"):
    """Two arms of which only the latency differs."""
    cells = {("treatment", name): Cell(units, latency=treatment), ("control", name): Cell(units, latency=control)}
    return PhaseCounts(cells, HALVES)


def counted(*phases, **said):
    return Counted(list(phases), "control", ["treatment"], **said)


def verdict(found):
    return judge(evidence_of(found, POLICY), Progress(units=found.smallest_arm), POLICY)


@pytest.mark.parametrize(
    ("treatment", "control"), [([11.0], [10.0]), ([11.0, 11.0], [10.0, 10.0]), ([11.0], [10.0] * 3)]
)
def test_the_first_units_of_a_phase_do_not_outweigh_the_phase_before(treatment, control):
    """Two alike units have no variance, one has none to tell: by its own precision such a phase would be all."""
    chance = np.random.default_rng(1)
    before = phase(moments(chance.normal(10, 0.5, 1000)), moments(chance.normal(10, 0.5, 1000)))
    found = counted(before, phase(moments(treatment), moments(control), units=3))
    assert verdict(found).action is Action.ADVANCE


def test_the_final_read_of_a_ramp_holds_what_it_says_although_each_step_has_the_units_before():
    """As if each step had devices of its own, three intervals of ten would miss."""
    chance, missed, runs, units = np.random.default_rng(20261123), {"latency": 0, "slow": 0}, 200, 4000
    for _ in range(runs):
        place, own = chance.random(units), chance.normal(11, 0.5, units)
        phases = []
        for part in (0.1, 0.2, 0.3, 0.4, 0.5):
            here = own + chance.normal(0, 0.1, units)
            arms = {"treatment": here[place < part], "control": here[place >= 1 - part]}
            cells = {
                (arm, "all"): Cell(len(values), latency=moments(values), slow=int((values > 11.8).sum()))
                for arm, values in arms.items()
            }
            phases.append(PhaseCounts(cells, HALVES))
        for row in final_read(counted(*phases), POLICY, ["all"]):
            if row["name"] in missed:
                missed[row["name"]] += not row["interval"][0] <= 0 <= row["interval"][1]
    assert max(missed.values()) / runs <= 0.1
    assert max(missed.values()) > 0, "an interval that always holds says nothing"


def test_two_units_prove_nothing_in_the_final_read():
    found = counted(phase(moments([11.0]), moments([10.0]), units=1))
    latency = next(row for row in final_read(found, POLICY, found.classes) if row["name"] == "latency")
    assert (latency["p_value"], latency["interval"]) == (1.0, [None, None])


def test_units_of_halted_classes_are_no_sample():
    """Else a plan would go on to everybody by the units of the one class that it was halted for."""
    nothing = Moments(0, 0.0, 0.0)
    found = counted(phase(nothing, nothing, name="old"), halted_classes=("old",))
    assert found.smallest_arm == 0
    assert verdict(found).action is Action.INCONCLUSIVE
    assert counted(phase(nothing, nothing, name="old"), halted_classes=("odd",)).smallest_arm == 1000


SEEN = counted(phase(moments([10.0, 11.0]), moments([10.0, 11.0])))
OTHERWISE = {
    "phases": [phase(moments([10.0, 11.0]), moments([10.0, 11.5]))],
    "control": "old",
    "treatments": ["treatment", "third"],
    "halted_classes": ("all",),
    "groups": {"os android": [3, 4]},
    "tiers": {"all": "android"},
    "integrity_units": 1,
    "silent_seconds": 90_000.0,
    "is_halted": True,
}


@pytest.mark.parametrize("name", [item.name for item in fields(Counted)])
def test_whatever_a_look_concludes_from_is_in_its_hash(name):
    assert inputs_hash(replace(SEEN, **{name: OTHERWISE[name]}), POLICY) != inputs_hash(SEEN, POLICY)


def test_rules_and_shares_are_in_the_hash_and_the_passing_of_time_is_not():
    other_shares = replace(SEEN, phases=[replace(SEEN.present, shares={"treatment": 0.4, "control": 0.6})])
    assert inputs_hash(other_shares, POLICY) != inputs_hash(SEEN, POLICY) != inputs_hash(SEEN, Policy(slo_ms=50))
    assert inputs_hash(replace(SEEN, silent_seconds=3600.0), POLICY) == inputs_hash(SEEN, POLICY)


@st.composite
def cells(draw):
    """Few units or very many, alike or not, all of them harmed or none."""
    units = draw(st.integers(0, 10**9))
    timed, crashed, failed = (draw(st.integers(0, units)) for _ in range(3))
    mean, spread = draw(st.floats(0, 30)), draw(st.floats(0, 1e6))
    return Cell(
        units, crashed=crashed, load_failed=failed, fell_back=failed, lost=(0, failed, *(0,) * 7), slow=timed // 2,
        latency=Moments(timed, timed * mean, timed * mean**2 + spread),
    )  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(cells(), cells()), min_size=1, max_size=4))
def test_whatever_was_counted_there_is_a_verdict_and_results_that_json_can_tell(arms):
    phases = [PhaseCounts({("treatment", "all"): t, ("control", "all"): c}, HALVES) for t, c in arms]
    found = counted(*phases)
    assert verdict(found).reasons
    json.dumps(results(found, POLICY), allow_nan=False)
