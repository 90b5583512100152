"""The default policy, line by line."""

from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.policy import (
    DEFAULT_GUARDRAILS,
    Evidence,
    Finding,
    Policy,
    Progress,
    judge,
    policy_from_json,
    tripped_classes,
)

POLICY = Policy()
READY = Progress(seconds=7200, hold_seconds=3600, units=500, min_units=200)
HOUR = 3600.0
ADVANCED = "no guardrail speaks against it"
MARGIN = {rule.name: rule.margin for rule in DEFAULT_GUARDRAILS}


def finding(name, bound, *, enough=True, units=1_000, events=None):
    return Finding(name, bound * 1.5, bound, enough, units, events)


def above(name, times=1.01, **facts):
    return finding(name, MARGIN[name] * times, **facts)


def classes(name, *affected, others=("fine",), enough=True):
    harmed = {each: [above(name, enough=enough)] for each in affected}
    return harmed | {each: [finding(name, 0.0)] for each in others}


TABLE = [
    # integrity failure from ≥ 20 distinct units → rollback at once; fewer: hold
    ("integrity of 20 units", Evidence(integrity_units=20), "rollback"),
    ("integrity of 19 units", Evidence(integrity_units=19), "hold"),
    ("integrity of 1 unit", Evidence(integrity_units=1), "hold"),
    # crash after activation bound above margin → rollback
    ("crash above margin", Evidence([above("crash")]), "rollback"),
    ("crash at margin", Evidence([above("crash", 1.0)]), "advance"),
    ("crash in a class at margin", Evidence(by_class={"old": [above("crash", 1.0)]}), "advance"),
    ("crash in a class", Evidence(by_class=classes("crash", "old")), "halt_class"),
    # load/compile failure or fallback → halt that class, all at three classes
    ("load failure in a class", Evidence(by_class=classes("load_failure", "old")), "halt_class"),
    ("fallback in two classes", Evidence(by_class=classes("fallback", "old", "odd")), "halt_class"),
    ("load failure in three classes", Evidence(by_class=classes("load_failure", "a", "b", "c")), "halt"),
    ("a third class", Evidence(by_class=classes("fallback", "c"), halted_classes=("a", "b")), "halt"),
    ("a class that is halted already", Evidence(by_class=classes("crash", "a"), halted_classes=("a",)), "advance"),
    ("too little in a class", Evidence(by_class=classes("load_failure", "old", enough=False)), "advance"),
    ("load failure everywhere", Evidence([above("load_failure")]), "halt"),
    # funnel success bound below −2 points → hold
    ("funnel loss of 2.1 points", Evidence([finding("funnel", 0.021)]), "hold"),
    ("funnel loss of 1.9 points", Evidence([finding("funnel", 0.019)]), "advance"),
    ("funnel loss of half", Evidence([finding("funnel", 0.5)]), "hold"),
    # latency bound above +10 % → hold, 2× → rollback
    ("latency +11 %", Evidence([finding("latency", log(1.11))]), "hold"),
    ("latency +9 %", Evidence([finding("latency", log(1.09))]), "advance"),
    ("latency at twice the margin", Evidence([above("latency", 2.0)]), "hold"),
    ("latency twice the margin", Evidence([above("latency", 2.01)]), "rollback"),
    ("slow devices", Evidence([above("slow")]), "hold"),
    ("slow devices twice", Evidence([above("slow", 2.01)]), "rollback"),
    # SRM → hold/halt
    ("srm p 0.0009", Evidence(srm_p_value=0.0009), "hold"),
    ("srm p 0.0011", Evidence(srm_p_value=0.0011), "advance"),
    ("srm factor 1000", Evidence(srm_factor=1000), "advance"),
    ("srm factor 1001", Evidence(srm_p_value=1e-9, srm_factor=1001), "halt"),
    # no data 24 h → hold, never advance
    ("silent for 24 h", Evidence(silent_seconds=24 * HOUR), "hold"),
    ("silent for 23 h", Evidence(silent_seconds=23 * HOUR), "advance"),
    # four analysis errors in a row → hold
    ("four errors", Evidence(errors_in_row=4), "hold"),
    ("three errors", Evidence(errors_in_row=3), "advance"),
    # absolute ceiling with ≥ 20 events → halt
    ("crash of 6 %", Evidence([finding("crash", 0.9, units=400, events=24)]), "halt"),
    ("crash of 6 %, 20 events", Evidence([finding("crash", 0.9, units=300, events=20)]), "halt"),
    ("crash at the ceiling", Evidence([finding("crash", 0.9, units=400, events=20)]), "advance"),
    ("crash of 6 %, 19 events", Evidence([finding("crash", 0.9, units=300, events=19)]), "advance"),
    ("crash of 4 %", Evidence([finding("crash", 0.9, units=600, events=24)]), "advance"),
    ("ceiling needs no control", Evidence([finding("fallback", 0, units=150, events=30, enough=False)]), "halt"),
    # a bound that cannot be trusted yet says nothing
    ("too little data", Evidence([above("latency", 3, enough=False), above("funnel", enough=False)]), "advance"),
    ("nothing wrong", Evidence(), "advance"),
]


@pytest.mark.parametrize(("evidence", "action"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_default_policy(evidence, action):
    assert judge(evidence, READY, POLICY).action == action


@pytest.mark.parametrize(
    ("changes", "action", "reason"),
    [
        ({"seconds": 3599}, "inconclusive", "the step's time is not over: 1.0 of 1.0 h"),
        ({"units": 199}, "inconclusive", "the sample is too small: 199 of 200 units"),
        ({"units": 0, "min_units": 0}, "inconclusive", "the sample is too small: 0 of 1 units"),
        ({"seconds": 3600, "units": 200}, "advance", ADVANCED),
        ({"is_approval_missing": True}, "inconclusive", "the next step waits for approval"),
        ({}, "advance", ADVANCED),
    ],
)
def test_advance_only_when_all_is_met(changes, action, reason):
    verdict = judge(Evidence(), replace(READY, **changes), POLICY)
    assert (verdict.action, verdict.reasons) == (action, (reason,))


def test_a_hold_is_told_before_what_is_missing():
    verdict = judge(Evidence(silent_seconds=30 * HOUR), replace(READY, units=0), POLICY)
    assert verdict.action == "hold"
    assert verdict.reasons == ("no data for 30 h", "the sample is too small: 0 of 200 units")


def test_the_worst_wins_and_all_is_told():
    evidence = Evidence(
        [above("crash"), above("funnel")], classes("load_failure", "old"), srm_p_value=1e-5, srm_suspects=("os 14",)
    )
    verdict = judge(evidence, READY, POLICY)
    assert (verdict.action, verdict.classes) == ("rollback", ("old",))
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["crash", "old", "funnel", "sample ratio mismatch"]
    assert verdict.reasons[0] == "crash: 1.52 times the control's, at least 1.01; above the margin of 1"
    assert verdict.reasons[3].endswith("most in os 14")


def test_harm_is_told_in_the_unit_of_its_margin():
    harmed = [Finding("latency", log(1.18), log(1.12), True, 900), Finding("funnel", 0.031, 0.024, True, 900, 40)]
    assert judge(Evidence(harmed), READY, POLICY).reasons == (
        "latency: +18.0 %, at least +12.0 %; above the margin of 10.0 %",
        "funnel: +3.10 points, at least +2.40; above the margin of 2.00",
    )


def test_only_what_acts_on_severe_harm_tells_of_it():
    harmed = [Finding("slow", 0.09, 0.05, True, 900, 99), Finding("funnel", 0.09, 0.05, True, 900, 99, "b")]
    assert judge(Evidence(harmed), READY, POLICY).reasons == (
        "slow: +9.00 points, at least +5.00; above twice the margin of 2.00",
        "funnel of b: +9.00 points, at least +5.00; above the margin of 2.00",
    )


def test_a_step_that_is_not_monitored_passes_over_holds_and_sample_but_not_over_a_stop():
    unmonitored = replace(READY, is_monitored=False, units=0)
    assert judge(Evidence([above("funnel")], silent_seconds=30 * HOUR), unmonitored, POLICY).action == "advance"
    assert judge(Evidence([above("crash")]), unmonitored, POLICY).action == "rollback"
    assert judge(Evidence(), replace(unmonitored, seconds=0), POLICY).action == "inconclusive"


def test_a_guardrail_in_a_dry_run_halts_no_class_either():
    policy = policy_from_json({"guardrails": {"crash": {"is_dry_run": True}}})
    assert judge(Evidence(by_class=classes("crash", "old")), READY, policy).action == "advance"


def test_the_classes_to_leave_out_are_those_that_trip():
    assert tripped_classes(classes("crash", "old", "odd"), POLICY) == ("odd", "old")


def test_a_policy_of_its_own():
    policy = policy_from_json(
        {
            "slo_ms": 50,
            "alpha": 0.01,
            "guardrails": {"crash": {"margin": 2, "action": "hold"}, "funnel": {"is_dry_run": True}},
        }
    )
    assert (policy.slo_ms, policy.alpha) == (50, 0.01)
    assert judge(Evidence([finding("crash", 1.5), finding("funnel", 0.5)]), READY, policy).action == "advance"
    assert judge(Evidence([finding("crash", 2.1)]), READY, policy).action == "hold"
    assert policy_from_json({}) == POLICY


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"alfa": 1}, "expected members of alpha"),
        ({"alpha": 1}, "between 0 and 1, got 1"),
        ({"slo_ms": "fast"}, "policy.slo_ms: expected a positive number, got 'fast'"),
        ({"slo_ms": -1}, "expected a positive number, got -1"),
        ({"guardrails": []}, "policy.guardrails: expected an object"),
        ({"guardrails": {"heat": {}}}, "expected some of crash, .*, got heat"),
        ({"guardrails": {"crash": 3}}, "guardrails.crash: expected an object, got 3"),
        ({"guardrails": {"crash": {"margins": 3}}}, "got margins: 3"),
        ({"guardrails": {"crash": {"margin": True}}}, "crash.margin: expected a positive number, got True"),
        ({"guardrails": {"crash": {"is_dry_run": 1}}}, "got is_dry_run: 1"),
        ({"guardrails": {"crash": {"action": "advance"}}}, "expected hold, halt, rollback, got 'advance'"),
        ({"guardrails": {"crash": {"action": "halt_class"}}}, "expected hold, halt, rollback, got 'halt_class'"),
        ({"guardrails": {"slow": {"severe_action": "halt_class"}}}, "expected hold, halt, rollback, got 'halt_class'"),
        ({"guardrails": {"slow": {"class_action": "advance"}}}, "expected hold, halt, rollback, halt_class, got"),
        ({"guardrails": {"slow": {"margin": 2}}}, "slow.margin: expected a number between 0 and 1, got 2"),
        ({"guardrails": {"crash": {"ceiling": 5}}}, "crash.ceiling: expected a number between 0 and 1, got 5"),
        ({"srm_warning": 5}, "policy.srm_warning: expected a number between 0 and 1, got 5"),
        ({"integrity_units": 0.5}, "policy.integrity_units: expected a whole number, got 0.5"),
        ({"planned_units": 0.5}, "policy.planned_units: expected a whole number, got 0.5"),
    ],
)
def test_a_policy_that_is_not_of_the_right_form_is_refused(document, told):
    with pytest.raises(ValueError, match=told):
        policy_from_json(document)


@given(st.integers(0, 40), st.floats(0, 1), st.floats(0, 2e3), st.floats(0, 3e5), st.integers(0, 6), st.floats(0, 9))
def test_never_advances_while_anything_speaks_against_it(integrity, p_value, factor, silent, errors, crash):
    evidence = Evidence([finding("crash", crash)], {}, (), p_value, factor, (), integrity, silent, errors)
    verdict = judge(evidence, READY, POLICY)
    clean = not integrity and p_value >= 0.001 and factor <= 1000 and silent < 86_400 and errors < 4 and crash <= 1
    assert (verdict.action == "advance") == clean
    assert verdict.reasons
