"""From cells to evidence, on counts small enough to be worked out by hand."""

from dataclasses import replace
from math import exp, inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.funnel import FUNNEL
from experiments.measuring import Cell, Counted, PhaseCounts, evidence_of, findings, results, srm, suspects
from experiments.policy import DEFAULT_GUARDRAILS, Policy
from experiments.statistics import sequences
from experiments.statistics.estimates import Moments, PairedMoments, difference, newcombe, welch
from experiments.statistics.multiplicity import benjamini_hochberg, holm

POLICY = Policy()
HALVES = {"control": 0.5, "new": 0.5}
STAGES = len(FUNNEL)


def at(place, count):
    return tuple(count if each == place else 0 for each in range(STAGES))


def counted(cells, shares=HALVES, treatments=("new",), **more):
    """One phase with `cells` by (arm, class)."""
    return Counted([PhaseCounts(cells, shares)], "control", treatments, **more)


def both(units=1_000, name="high", **treatment):
    return {("control", name): Cell(units), ("new", name): Cell(units, **treatment)}


counts = st.integers(0, 100)
stages = st.tuples(*[counts] * STAGES)
moments = st.builds(Moments, counts, counts, counts)
cells = st.builds(
    Cell, counts, counts, counts, counts, counts, stages, stages, stages, moments, counts,
    st.builds(PairedMoments, moments, moments, counts),
)  # fmt: skip


def numbers(value):
    """All numbers of a cell, in their order."""
    if isinstance(value, int | float):
        return [value]
    inner = value if isinstance(value, tuple) else [getattr(value, name) for name in value.__slots__]
    return [each for part in inner for each in numbers(part)]


@given(cells, cells)
def test_cells_add_up_number_by_number(first, second):
    assert numbers(first + second) == [a + b for a, b in zip(numbers(first), numbers(second), strict=True)]


@pytest.mark.parametrize(
    ("guardrail", "n", "events"),
    [("crash", 50, 1), ("load_failure", 50, 2), ("fallback", 50, 3), ("funnel", 50, 11), ("slow", 40, 6)],
)
def test_each_guardrail_counts_its_own(guardrail, n, events):
    cell = Cell(50, 1, 2, 3, 4, at(0, 50), at(2, 5), at(3, 6), Moments(40, 400.0, 4_100.0), 6)
    assert cell.moments(guardrail) == Moments.of_share(n, events)
    assert cell.moments("latency") == Moments(40, 400.0, 4_100.0)


def test_more_events_than_units_count_as_all_units():
    assert Cell(5, crashed=9).moments("crash") == Moments.of_share(5, 5)


def test_balance_is_looked_at_with_two_arms_until_a_halt():
    of = counted(both())
    assert srm(of, ["high"]).counts == (1_000, 1_000)
    assert srm(replace(of, is_halted=True), ["high"]) is None
    assert srm(counted(both(), {"new": 1.0}), ["high"]) is None


def test_suspects_are_told_with_what_they_are():
    cells = both(500) | {("control", "low"): Cell(900), ("new", "low"): Cell(300)}
    of = counted(cells, groups={"OS 14": (100, 400), "OS 15": (50, 50)})
    assert [name for name, _ in suspects(of, ["high", "low"])] == ["class low", "OS 14"]
    evidence = evidence_of(of, POLICY)
    assert evidence.srm_suspects == ("class low", "OS 14")
    assert evidence.srm_factor == srm(of, ["high", "low"]).factor > 1_000
    assert evidence.srm_p_value == srm(of, ["high", "low"]).p_value < 1e-9


def test_the_evidence_without_a_comparison_is_in_balance():
    of = counted(both(), {"new": 1.0}, integrity_units=3, silent_seconds=7.0, groups={"OS 14": (9,)})
    evidence = evidence_of(of, POLICY)
    assert (evidence.srm_p_value, evidence.srm_factor, evidence.srm_suspects) == (1.0, 1.0, ())
    assert (evidence.integrity_units, evidence.silent_seconds) == (3, 7.0)


def test_a_class_that_trips_and_one_that_is_halted_are_left_out_of_the_whole():
    cells = both(2_000, "fine") | both(2_000, "bad", crashed=400) | both(2_000, "off", crashed=2_000)
    evidence = evidence_of(counted(cells, halted_classes=("off",)), POLICY)
    assert set(evidence.by_class) == {"fine", "bad"}
    assert {each.guardrail for each in evidence.by_class["bad"]} == {"crash", "load_failure", "fallback"}
    crash = evidence.overall[0]
    assert (crash.guardrail, crash.treatment_units, crash.treatment_events) == ("crash", 2_000, 0)
    everywhere = evidence_of(counted(both(2_000, "bad", crashed=400)), POLICY).overall[0]
    assert (everywhere.treatment_units, everywhere.treatment_events) == (2_000, 400), "harm in all is judged as a whole"


def test_arms_are_named_where_there_are_several_and_share_alpha():
    cells = both(crashed=30) | {("other", "high"): Cell(1_000, crashed=30)}
    of = counted(cells, {"control": 1 / 3, "new": 1 / 3, "other": 1 / 3}, ("new", "other"))
    several, alone = findings(of, POLICY, ["high"]), findings(counted(both(crashed=30)), POLICY, ["high"])
    assert [each.arm for each in several] == ["new"] * 6 + ["other"] * 6
    assert {each.arm for each in alone} == {""}
    assert 0 < several[0].bound < alone[0].bound
    assert several[0].bound == findings(of, POLICY, ["high"], divisor=1)[0].bound
    assert several[0].bound == pytest.approx(findings(counted(both(crashed=30)), POLICY, ["high"], divisor=2)[0].bound)


@pytest.mark.parametrize(
    ("units", "failed", "is_enough"),
    [(200, 20, True), (199, 20, False), (200, 19, False), (200, 380, True), (200, 381, False)],
)
def test_a_share_is_trusted_from_200_units_and_20_of_what_is_rarer_on(units, failed, is_enough):
    control = max(0, failed - units)
    of = counted(
        {("control", "a"): Cell(units, load_failed=control), ("new", "a"): Cell(units, load_failed=failed - control)}
    )
    found = next(each for each in findings(of, POLICY, ["a"]) if each.guardrail == "load_failure")
    assert found.is_enough is is_enough


def latency(mean, n=300, deviation=0.5):
    return Moments(n, n * mean, n * mean**2 + (n - 1) * deviation**2)


def test_what_is_told_of_a_look():
    slow = both(400, crashed=30, reached=at(0, 400), failed=at(2, 8), lost=at(3, 4), latency=latency(10.2), slow=30)
    slow["control", "high"] = Cell(400, crashed=10, latency=latency(10.0), slow=12)
    told = results(counted(slow, silent_seconds=60.0, integrity_units=2), POLICY)
    arm = told["arms"]["new"]
    assert list(told["arms"]) == ["control", "new"]
    assert (arm["units"], arm["crashed"], arm["slow"], arm["latency_units"]) == (400, 30, 30, 300)
    assert arm["p95_ms"] == pytest.approx(exp(10.2) / 1000)
    assert arm["funnel"][2] == {"stage": FUNNEL[2], "reached": 0, "failed": 8, "lost": 0}
    assert (told["phases"], told["silent_seconds"], told["integrity_units"]) == (1, 60.0, 2)
    assert told["srm"]["counts"] == {"control": 400, "new": 400}
    assert told["srm"]["shares"] == HALVES
    assert [each["name"] for each in told["metrics"]] == [rule.name for rule in DEFAULT_GUARDRAILS]
    metric = told["metrics"][4]
    assert metric["harm"] == metric["difference"] == pytest.approx(0.2)
    assert metric["margin"] == log(1.10)
    alone = difference(latency(10.2), latency(10.0))
    assert metric["bound"] == pytest.approx(sequences.lower_bound(alone, 0.05 / 10, 20_000)), "a weight of 1 of 10"
    assert metric["interval"] == pytest.approx(list(sequences.interval(alone, 0.05, 20_000)))
    assert metric["heterogeneity"] == {"p_value": 1.0, "i_squared": 0.0}
    assert metric["is_dry_run"] is False
    assert metric["by_class"]["high"]["units"] == 600


def test_the_final_read_corrects_primaries_by_holm_and_the_rest_by_bh():
    cells = {
        ("control", "high"): Cell(400, crashed=10, latency=latency(10.0), slow=12, load_failed=3),
        ("new", "high"): Cell(400, crashed=30, failed=at(2, 8), latency=latency(10.2), slow=30, load_failed=9),
    }
    final = {each["name"]: each for each in results(counted(cells), POLICY)["final"]}
    pairs = {name: [cells[arm, "high"].moments(name) for arm in ("new", "control")] for name in final}
    expected = {name: (welch if name == "latency" else newcombe)(*pair) for name, pair in pairs.items()}
    for name, read in expected.items():
        assert final[name]["difference"] == pytest.approx(read.value)
        assert final[name]["interval"] == pytest.approx([read.lower, read.upper])
        assert final[name]["p_value"] == pytest.approx(read.p_value)
        assert final[name]["is_primary"] is (name in {"crash", "funnel"})
        assert (final[name]["cuped"] is not None) is (name == "latency")
    for names, method in (
        (("crash", "funnel"), holm),
        (("load_failure", "fallback", "latency", "slow"), benjamini_hochberg),
    ):
        adjusted = method([expected[name].p_value for name in names])
        assert [final[name]["adjusted_p_value"] for name in names] == pytest.approx(adjusted)
    cuped = final["latency"]["cuped"]
    assert (cuped["variance_reduction"], cuped["units"]) == (0.0, 0)
    assert cuped["plain_interval"] == pytest.approx(final["latency"]["interval"])


def test_a_value_from_before_takes_its_part_of_the_variance_away():
    """The value from before is that of the phase, but for half of its deviation."""
    y, x = latency(10.2), latency(10.2, deviation=1.0)
    pairs = PairedMoments(y, x, 300 * 10.2**2 + 299 * 0.5 * 1.0 * 0.6)
    of = counted({(arm, "a"): Cell(400, latency=y, paired=pairs) for arm in ("control", "new")})
    (read,) = [each for each in results(of, POLICY)["final"] if each["name"] == "latency"]
    assert read["cuped"]["variance_reduction"] == pytest.approx(0.6**2, abs=1e-3), "the square of the correlation"
    assert read["cuped"]["units"] == 600


def test_the_final_read_over_phases_is_by_the_normal_limit():
    cells = {("control", "a"): Cell(2_000, crashed=40), ("new", "a"): Cell(2_000, crashed=80)}
    phase = PhaseCounts(cells, HALVES)
    final = {each["name"]: each for each in results(Counted([phase, phase], "control", ("new",)), POLICY)["final"]}
    whole = difference(Moments.of_share(4_000, 160), Moments.of_share(4_000, 80))
    low, high = final["crash"]["interval"]
    assert final["crash"]["difference"] == pytest.approx(0.02)
    assert (low, high) == pytest.approx(
        (0.02 - 1.96 * whole.standard_error, 0.02 + 1.96 * whole.standard_error), rel=0.02
    )
    assert 0 < final["crash"]["p_value"] < 1e-6
    assert final["load_failure"]["p_value"] == 1.0
    assert (final["latency"]["interval"], final["latency"]["p_value"]) == ([None, None], 1.0)


def test_one_arm_alone_has_no_balance_to_tell_and_none_has_no_units():
    assert results(counted(both(), {"new": 1.0}), POLICY)["srm"] is None
    assert (counted(both(7)).smallest_arm, counted(both(7), {}).smallest_arm) == (7, 0)


def test_what_cannot_be_told_is_null_and_no_infinity():
    told = results(counted(both(0)), POLICY)
    assert told["arms"]["new"]["p95_ms"] is None
    latency = told["metrics"][4]
    assert (latency["bound"], latency["interval"], latency["is_enough"]) == (None, [None, None], False)
    assert inf not in numbers(tuple(each["difference"] for each in told["metrics"]))


def test_small_classes_are_told_in_their_tier():
    cells = both(500, "big") | both(199, "old-a") | both(20, "old-b") | both(5, "odd")
    told = results(counted(cells, tiers={"old-a": "low", "old-b": "low"}), POLICY)
    by_class = told["metrics"][0]["by_class"]
    assert [(name, each["units"]) for name, each in by_class.items()] == [("big", 1_000), ("low", 438), ("other", 10)]
