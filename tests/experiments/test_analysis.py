"""From events in the stream to a verdict that is applied, by the real services."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from experiments import analysis, ingest, services
from experiments.funnel import FUNNEL, lost_before
from experiments.models import AnalysisRun, Experiment, Exposure
from experiments.policy import Policy
from experiments.rollups import roll_up
from experiments.services import standing_of
from registry.models import AuditEntry
from tests.experiments import measured
from tests.experiments.measured import units
from tests.factories import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services", "own_store")]
LATER = NOW + timedelta(hours=2)


@pytest.fixture
def of():
    return measured.experiment()


def exposed(of, arm, number, start=0, **said):
    """Units that the ingester would have left; `said` may be functions of the index."""
    row = of.phase
    Exposure.objects.bulk_create(
        Exposure(
            phase=row, unit=f"{arm}-{index}", arm=arm,
            **{"device_class": "high", "day": NOW.date(), "assigned_at": NOW, "heard_at": LATER, "reached": 8,
               "progressed_at": NOW, "os": "android",
               **{name: value(index) if callable(value) else value for name, value in said.items()}},
        )
        for index in range(start, start + number)
    )  # fmt: skip


def healthy(of, number=1000, **said):
    for arm in ("treatment", "control"):
        exposed(of, arm, number, **said)


def one_in(number, value=NOW):
    return lambda index: value if index % number == 0 else None


def test_a_harmless_release_may_advance(of):
    healthy(of, log_p95=lambda index: 9.5 + index % 7 / 10)
    run = analysis.look(of, LATER)
    assert (run.verdict, run.units, run.error) == ("advance", 1000, "")
    of.refresh_from_db()
    assert of.state == "running"
    assert standing_of(of, LATER).verdict == "advance"
    assert standing_of(of, LATER + timedelta(hours=4)).reasons == ("the last analysis is of 2026-11-22T14:00:00Z",)
    assert run.results["arms"]["treatment"]["funnel"][8] == {
        "stage": "first_inference", "reached": 1000, "failed": 0, "lost": 0
    }  # fmt: skip
    assert {metric["name"] for metric in run.results["metrics"]} == {rule.name for rule in Policy().guardrails}


def test_without_any_unit_nothing_advances(of):
    assert analysis.look(of, LATER).verdict == "inconclusive"
    run = analysis.look(of, NOW + timedelta(hours=25))
    assert (run.verdict, run.reasons[0]) == ("hold", "no data for 25 h")


def test_crashes_of_all_classes_roll_back(of):
    for name in ("high", "low"):
        start = 0 if name == "high" else 1000
        exposed(of, "treatment", 1000, start, device_class=name, crashed_at=one_in(20))
        exposed(of, "control", 1000, start, device_class=name, crashed_at=one_in(100))
    run = analysis.look(of, LATER)
    of.refresh_from_db()
    assert (run.verdict, of.state) == ("rollback", "rolled_back")
    assert run.reasons[0].startswith("crash: ")


def test_crashes_of_one_class_halt_that_class_and_the_rest_goes_on(of):
    exposed(of, "treatment", 1000, crashed_at=one_in(300))
    exposed(of, "control", 1000, crashed_at=one_in(300))
    exposed(of, "treatment", 1000, 1000, device_class="low", crashed_at=one_in(20))
    exposed(of, "control", 1000, 1000, device_class="low", crashed_at=one_in(100))
    run = analysis.look(of, LATER)
    of.refresh_from_db()
    assert (run.verdict, run.classes, of.state, of.halted_classes) == ("halt_class", ["low"], "running", ["low"])
    assert AuditEntry.objects.filter(verb__startswith="halt", actor="guardrails").count() == 1
    assert analysis.look(of, LATER).verdict == "advance"


def test_dropped_downloads_trip_the_funnel_and_not_the_balance(of):
    exposed(of, "control", 3000)
    exposed(of, "treatment", 2850)
    exposed(of, "treatment", 150, 2850, reached=1, failed=2)
    run = analysis.look(of, LATER)
    assert (run.verdict, run.reasons[0].split(":")[0]) == ("hold", "funnel")
    assert run.results["srm"]["p_value"] == 1.0


def test_dropped_assignments_trip_the_balance(of):
    exposed(of, "control", 3000)
    exposed(of, "treatment", 2600, app_version=lambda index: "2" if index % 2 else "1")
    run = analysis.look(of, LATER)
    of.refresh_from_db()
    assert (run.verdict, of.state) == ("halt", "halted")
    assert run.reasons[0].startswith("sample ratio mismatch: factor")


def test_changed_weights_open_a_phase_and_raise_no_alarm(of):
    exposed(of, "control", 1000)
    exposed(of, "treatment", 1000)
    measured.phase(of, 8000, LATER)
    exposed(of, "control", 500)
    exposed(of, "treatment", 2000)
    run = analysis.look(of, LATER + timedelta(hours=1))
    assert (run.verdict, run.results["srm"]["p_value"], run.results["phases"]) == ("advance", 1.0, 2)


def test_the_last_phase_of_another_version_is_not_combined(of):
    exposed(of, "treatment", 1000, crashed_at=one_in(10))
    exposed(of, "control", 1000)
    first = of.phase
    row = measured.phase(of, 5000, LATER)
    assert [each.pk for each in analysis._comparable(of, row)] == [first.pk, row.pk]
    third = measured.factories.converted_version(of.application)
    of.arms[0]["version"] = third.number
    row = measured.phase(of, 5000, LATER)
    assert analysis._comparable(of, row) == [row]


@pytest.mark.parametrize(("number", "verdict", "state"), [(20, "rollback", "rolled_back"), (19, "hold", "running")])
def test_integrity_failures_roll_back_only_from_20_units(of, number, verdict, state):
    exposed(of, "control", number, integrity_at=NOW)
    exposed(of, "treatment", number, integrity_at=NOW, assigned_at=None)
    run = analysis.look(of, LATER)
    of.refresh_from_db()
    assert (run.verdict, of.state) == (verdict, state)
    assert run.reasons[0].startswith(f"integrity: {number} ")


def test_four_errors_in_a_row_hold_and_one_success_forgets_them(of, monkeypatch):
    healthy(of, 300)

    def broken(*_arguments):
        raise ArithmeticError("no number")

    with monkeypatch.context() as patch:
        patch.setattr(analysis, "count", broken)
        verdicts = [analysis.look(of, LATER + timedelta(minutes=minute)).verdict for minute in range(4)]
    assert verdicts == ["inconclusive"] * 3 + ["hold"]
    assert AnalysisRun.objects.of(of).first().reasons[-1] == "the analysis failed: no number"
    assert analysis.look(of, LATER + timedelta(minutes=5)).verdict == "advance"


def test_a_policy_says_how_many_errors_hold(of, monkeypatch):
    of.policy = {"errors_in_row": 12}
    of.save()
    monkeypatch.setattr(analysis, "count", lambda *_: 1 / 0)
    verdicts = [analysis.look(of, LATER + timedelta(minutes=minute)).verdict for minute in range(12)]
    assert verdicts == ["inconclusive"] * 11 + ["hold"]


def test_a_look_that_a_clock_dated_into_the_future_is_not_the_latest(of):
    """Set right again, what is found meanwhile counts, and not what was fine next year."""
    healthy(of, 300)
    next_year = LATER + timedelta(days=365)
    Exposure.objects.update(heard_at=next_year)
    assert analysis.look(of, next_year).verdict == "advance"
    exposed(of, "treatment", 1, 300, integrity_at=NOW)
    assert analysis.look(of, LATER).verdict == "hold"
    assert standing_of(of, LATER + timedelta(minutes=1)).verdict == "hold"
    assert analysis.look(of, LATER + timedelta(minutes=2)).as_of == LATER


def test_equal_inputs_are_one_run_an_hour(of):
    healthy(of, 300)
    first = analysis.look(of, LATER)
    assert analysis.look(of, LATER + timedelta(minutes=30)) == first
    second = analysis.look(of, LATER + timedelta(hours=1))
    assert (second.pk != first.pk, second.inputs_hash) == (True, first.inputs_hash)
    exposed(of, "control", 1, 300)
    assert analysis.look(of, LATER + timedelta(hours=1)).inputs_hash != first.inputs_hash
    assert analysis.latest(of).units == 300


def test_a_run_does_not_change(of):
    healthy(of, 10)
    run = analysis.look(of, LATER)
    with pytest.raises(IntegrityError, match="does not change"), transaction.atomic():
        AnalysisRun.objects.filter(pk=run.pk).update(verdict="rollback")


def test_guardrails_are_looked_at_while_halted_and_a_halt_raises_no_mismatch(of):
    Experiment.objects.filter(pk=of.pk).update(state="halted")
    of.refresh_from_db()
    exposed(of, "control", 3000)
    exposed(of, "treatment", 1000, integrity_at=NOW)
    run = analysis.look(of, LATER)
    of.refresh_from_db()
    assert (run.verdict, of.state, run.results["srm"]) == ("rollback", "rolled_back", None)


@pytest.mark.parametrize(("state", "halted_classes"), [("halted", []), ("running", ["high"])])
def test_what_was_halted_and_goes_on_is_not_halted_by_the_units_of_the_halt(of, state, halted_classes):
    """While it was halted the control alone took units."""
    Experiment.objects.filter(pk=of.pk).update(state=state, halted_classes=halted_classes)
    exposed(of, "control", 3000)
    exposed(of, "treatment", 1000)
    of.refresh_from_db()
    services.resume(experiment=of, actor="bob", now=LATER, reason="a false alarm")
    services.approve(experiment=of, actor="eve", now=LATER, reason="so it was")
    run = analysis.look(of, LATER)
    of.refresh_from_db()
    assert (of.state, of.halted_classes, run.verdict) == ("running", [], "inconclusive")
    assert (of.phase.cause, of.phase.seed, of.step_since, of.awaiting) == ("resume", of.seed, LATER, "")


@pytest.mark.parametrize("hours", [23, 25, 71, 73])
def test_the_database_loses_whom_the_rule_loses(of, hours):
    cases = [(reached, failed) for reached in range(-1, 9) for failed in range(-1, 9)]
    exposed(of, "treatment", len(cases), reached=lambda i: cases[i][0], failed=lambda i: cases[i][1])
    now = NOW + timedelta(hours=hours)
    roll_up(of.phase, now, slo_ms=100)
    expected = [0] * len(FUNNEL)
    for reached, failed in cases:
        rank = lost_before(reached, timedelta(hours=hours), failed)
        if rank is not None:
            expected[rank] += 1
    assert of.phase.rollups.get().lost == expected


def test_days_and_classes_add_up(of):
    exposed(of, "treatment", 30, day=lambda i: (NOW + timedelta(days=i % 3)).date(), log_p95=12.0,
            device_class=lambda i: "high" if i % 2 else "low")  # fmt: skip
    exposed(of, "treatment", 5, 30, assigned_at=None, integrity_at=NOW)
    for _ in range(2):
        roll_up(of.phase, LATER, slo_ms=100)
    rows = of.phase.rollups.all()
    assert len(rows) == 6
    assert sum(row.units for row in rows) == sum(row.slow for row in rows) == 30
    assert sum(row.integrity for row in rows) == 5
    assert sum(row.latency_total for row in rows) == pytest.approx(360)


def test_no_group_is_told_of_without_one_of_its_arms(of, monkeypatch):
    monkeypatch.setattr(analysis, "_MOST_GROUPS", 1)
    for arm, of_one, of_two in (("treatment", 30, 29), ("control", 28, 20)):
        exposed(of, arm, of_one + of_two, app_version=lambda index, first=of_one: "1" if index < first else "2")
    groups = analysis._groups(of.phase)
    assert groups == {"os android": [59, 48], "app_version 1": [30, 28]}


def halted_verdict(of, *classes, verdict="halt_class"):
    phase = of.phases.last()
    said = {"reasons": ["crash: 3 times"], "classes": list(classes), "units": 1}
    return AnalysisRun.objects.create(experiment=of, phase=phase, as_of=LATER, verdict=verdict, **said)


@pytest.mark.parametrize(
    ("classes", "verdict", "state", "halted"),
    [
        (("low",), "halt_class", "running", ["low"]),
        (("gone", "low"), "halt_class", "halted", ["low"]),
        (("gone", "high", "low"), "halt", "halted", ["high", "low"]),
    ],
)
def test_a_class_that_is_gone_meanwhile_halts_all(of, classes, verdict, state, halted):
    """Named otherwise since the phase began, it cannot be halted by that name; its devices still crash."""
    analysis.apply(of, halted_verdict(of, *classes, verdict=verdict), LATER)
    of.refresh_from_db()
    assert (of.state, of.halted_classes) == (state, halted)


@pytest.mark.parametrize("verdict", ["rollback", "halt", "halt_class"])
def test_a_verdict_stops_no_version_that_it_did_not_look_at(of, verdict):
    """A slow look at a bad version ends when a fix has taken its place."""
    run = halted_verdict(of, "low", verdict=verdict)
    measured.phase(of, 6000, LATER)
    analysis.apply(of, run, LATER)
    of.refresh_from_db()
    assert (of.state, of.halted_classes) == ("running", [])


def test_what_goes_wrong_with_one_experiment_keeps_no_other_from_being_looked_at(of, monkeypatch, caplog):
    second = measured.experiment(slug="second")
    exposed(second, "treatment", 20, integrity_at=NOW)
    fine = analysis.apply

    def broken(experiment, run, now):
        if experiment == of:
            raise ArithmeticError("no number")
        fine(experiment, run, now)

    monkeypatch.setattr(analysis, "apply", broken)
    assert analysis.look_at_all(LATER) == 2
    second.refresh_from_db()
    assert second.state == "rolled_back"
    assert f"look failed: experiment={of.pk}" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_the_whole_way_from_the_stream(of, event_stream):
    for arm, version in (("treatment", 2), ("control", 1)):
        for unit in units(of, arm, 30):
            measured.report(event_stream, unit, *measured.passed(version, *FUNNEL[:8]))
    for unit in units(of, "treatment", 20):
        measured.report(event_stream, unit, measured.event("verify", "failed", version=2, error="hash_mismatch"))
    ingester = ingest.Ingester(event_stream, lambda: LATER)
    ingester.prepare()
    while event_stream.xlen(ingest.STREAM):
        ingester.step()
    assert analysis.look_at_all(LATER) == 1
    of.refresh_from_db()
    assert of.state == "rolled_back"


@pytest.mark.django_db(transaction=True)
def test_a_unit_is_as_fast_as_what_it_runs_whether_its_arms_version_or_not(of, event_stream):
    """Who did not get the new version yet counts with the old one: the others alone would be survivors."""
    [treated] = units(of, "treatment", 1)
    inference = measured.event("inference", version=1, histogram=[30])
    measured.report(event_stream, treated, *measured.passed(2, "assigned"), inference)
    ingester = ingest.Ingester(event_stream, lambda: LATER)
    ingester.prepare()
    ingester.step()
    assert Exposure.objects.get().histogram == [30]
