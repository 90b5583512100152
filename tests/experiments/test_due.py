"""What beat does: plans go on by themselves when every condition holds, and never otherwise."""

from datetime import timedelta

import pytest

from distribution.models import Release
from experiments import errors, services
from experiments.lifecycle import State
from experiments.models import AnalysisRun, Holdback, Override
from experiments.plans import UNKNOWN, Standing
from experiments.policy import Action
from experiments.services import due, waiting
from registry.models import AuditEntry
from registry.services import yank_version
from registry.services.webhooks import create_webhook
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = [
    {"percent_bp": 1000, "hold_seconds": 3600, "min_units": 100},
    {"percent_bp": 5000, "hold_seconds": 7200, "min_units": 100, "needs_approval": True},
    {"percent_bp": 10_000, "hold_seconds": 60, "monitored": False},
]


@pytest.fixture
def analysis(monkeypatch):
    """What the latest analysis says, as a test wants it."""
    said = {"standing": Standing(Action.ADVANCE, 100)}
    monkeypatch.setattr(waiting, "standing_of", lambda experiment, now: said["standing"])
    return said


@pytest.fixture
def rollout(lab):
    return lab.running(steps=STEPS)


def at(lab, experiment, **duration):
    """Beat's look after some time: the percentage it leaves."""
    services.advance_due(lab.clock.advance(**duration))
    experiment.refresh_from_db()
    return experiment.phase.percent_bp if experiment.phase else None


def test_a_good_release_reaches_everybody_and_becomes_current_by_itself(lab, analysis, rollout):
    assert at(lab, rollout, seconds=3599) == 1000
    assert at(lab, rollout, seconds=1) == 5000
    assert at(lab, rollout, seconds=7199) == 5000
    assert at(lab, rollout, seconds=1) == 5000, "it waits for its approval"
    lab.do("approve_step", rollout, "grace")
    assert at(lab, rollout) == 10_000
    assert at(lab, rollout, seconds=59) == 10_000
    assert at(lab, rollout, seconds=1) is None
    assert rollout.state == State.COMPLETED
    assert Release.objects.to_channel().first().model_version == lab.versions[2]
    assert AuditEntry.objects.filter(verb="advance_experiment", actor=services.SCHEDULE).count() == 3


def test_a_rollout_that_is_halted_for_a_class_is_not_completed_by_itself(lab, analysis, rollout):
    """It would make the version current for everybody, the halted class first of all."""
    lab.do("ramp", rollout, to_bp=10_000)
    lab.do("halt", rollout, device_class="everything-else")
    assert at(lab, rollout, days=10) == 10_000
    assert (rollout.state, rollout.halted_classes) == (State.RUNNING, ["everything-else"])
    lab.do("resume", rollout)
    lab.do("approve", rollout, "grace")
    assert at(lab, rollout) == 10_000, "the step's time begins anew"
    assert at(lab, rollout, seconds=60) is None
    assert rollout.state == State.COMPLETED


def test_without_any_analysis_no_step_is_left(lab, rollout):
    assert at(lab, rollout, days=365) == 1000
    with pytest.raises(errors.StepUnmet, match="sample: 0 of 100 units in the smallest arm; verdict: inconclusive"):
        lab.do("advance", rollout)


@pytest.mark.parametrize("standing", [Standing(Action.HOLD, 1000), Standing(Action.ADVANCE, 99)])
def test_neither_a_hold_nor_a_small_sample_goes_on(lab, analysis, rollout, standing):
    analysis["standing"] = standing
    assert at(lab, rollout, days=10) == 1000


@pytest.mark.parametrize("verb", ["pause", "halt"])
def test_what_is_held_does_not_go_on_and_what_is_resumed_does(lab, analysis, rollout, verb):
    lab.do(verb, rollout)
    assert at(lab, rollout, days=10) == 1000
    lab.do("resume", rollout)
    if verb == "halt":
        lab.do("approve", rollout, "grace")
        assert at(lab, rollout, seconds=3599) == 1000, "the step's time begins anew"
        lab.clock.advance(seconds=1)
    assert at(lab, rollout) == 5000


def test_an_author_does_not_approve_a_step_and_an_approval_is_of_one_step(lab, analysis, rollout):
    with pytest.raises(errors.NothingToApprove):
        lab.do("approve_step", rollout, "grace")
    at(lab, rollout, hours=1)
    with pytest.raises(errors.OwnExperiment):
        lab.do("approve_step", rollout, "ada")
    lab.do("approve_step", rollout, "grace")
    lab.do("ramp", rollout, to_bp=6000)
    assert at(lab, rollout, hours=10) == 6000, "another percentage, another approval"


def test_a_person_advances_under_the_same_conditions_and_ramps_under_none(lab, analysis, rollout):
    with pytest.raises(errors.StepUnmet, match="time: until 2026-11-22T13:00:00Z"):
        lab.do("advance", rollout)
    lab.do("ramp", rollout, to_bp=9000)
    assert rollout.phase.percent_bp == 9000


def test_a_plan_goes_on_from_the_step_that_a_ramp_reached(lab, analysis, rollout):
    lab.do("ramp", rollout, to_bp=500)
    assert rollout.step is None
    assert at(lab, rollout) == 1000
    lab.do("ramp", rollout, to_bp=5500)
    lab.do("approve_step", rollout, "grace")
    assert at(lab, rollout, hours=3) == 10_000


def test_a_comparison_stays_at_its_last_step(lab, analysis):
    experiment = lab.running(lab.ab(steps=[{"percent_bp": 10_000, "monitored": False}]))
    assert at(lab, experiment, days=100) == 10_000
    assert experiment.state == State.RUNNING
    assert [str(found) for found in services.plan_advice(experiment, lab.clock()).unmet] == [
        "end: no step follows: complete it or set another percentage"
    ]


def test_a_start_that_finds_its_layer_taken_is_tried_again(lab, analysis):
    first = lab.running(lab.ab("first"))
    second = lab.approved(lab.ab("second", starts_at=NOW + timedelta(hours=1)))
    lab.do("start", second)
    late, entries = NOW + timedelta(hours=2), AuditEntry.objects.count()
    assert services.start_due(late) == 0
    assert AuditEntry.objects.count() == entries
    (told,) = services.status(second, late)["reasons"]
    assert told.startswith("its time has come; expected free buckets in [0, 10000)")
    assert "first holds [0, 10000)" in told
    lab.do("complete", first)
    assert services.status(second, late)["reasons"] == ["its time has come; it begins at the next look"]
    assert services.start_due(late) == 1


def scheduled(lab, **ahead):
    return lab.do("start", lab.approved(lab.rollout()), starts_at=NOW + timedelta(**ahead))


def test_what_is_scheduled_is_put_off_by_another_time_and_starts_at_once_without_one(lab):
    experiment = scheduled(lab, hours=1)
    lab.do("start", experiment, starts_at=NOW + timedelta(hours=3))
    assert (experiment.state, experiment.phase) == (State.SCHEDULED, None)
    assert services.start_due(NOW + timedelta(hours=2)) == 0
    lab.do("start", experiment)
    assert experiment.state == State.RUNNING
    assert services.status(lab.do("halt", experiment), NOW)["next_action_at"] is None, "it has begun long ago"


@pytest.mark.parametrize("meanwhile", ["yanked", "released"])
def test_a_start_that_can_not_be_any_more_is_a_draft_again_and_says_so_once(lab, meanwhile):
    from distribution import services as releasing

    hook, _ = create_webhook(
        application=lab.app, name="ops", url="https://h.example/", event_types=["rollout.held"], actor="ada", now=NOW
    )
    experiment, late = scheduled(lab, hours=1), NOW + timedelta(hours=2)
    if meanwhile == "yanked":
        yank_version(version=lab.versions[2], **lab.said())
    else:
        releasing.publish(channel=lab.channel, version=lab.versions[2], **lab.said())
    assert [services.start_due(late) for _ in range(2)] == [0, 0]
    experiment.refresh_from_db()
    (told,) = services.status(experiment, late)["reasons"]
    assert told.startswith("its time has come, but it cannot start: expected ")
    assert (experiment.state, experiment.approvers()) == (State.DRAFT, [])
    (entry,) = AuditEntry.objects.filter(verb="reject_experiment")
    assert (entry.actor, entry.reason) == (services.SCHEDULE, told)
    assert told in hook.deliveries.get().body
    assert lab.do("submit", experiment).state_reason == ""


def test_what_goes_wrong_with_one_keeps_no_other_waiting(lab, analysis, monkeypatch, caplog):
    steps = [{"percent_bp": 100, "monitored": False}, {"percent_bp": 200}]
    broken, sound = (
        lab.running(lab.ab(slug, steps=steps, layer_range=span))
        for slug, span in (("broken", (0, 10)), ("sound", (10, 20)))
    )
    advice = due.plan_advice

    def fail_for_one(experiment, now):
        if experiment == broken:
            raise KeyError(experiment.slug)
        return advice(experiment, now)

    monkeypatch.setattr(due, "plan_advice", fail_for_one)
    assert services.advance_due(NOW) == 1
    assert sound.phase.percent_bp == 200
    assert "due, but failed: Experiment=broken" in caplog.text


def test_what_was_given_more_time_meanwhile_is_not_ended(lab):
    experiment, soon, later = lab.running(), NOW + timedelta(minutes=1), NOW + timedelta(hours=1)
    held = {"channel": lab.channel, "model": lab.model, "version": 1}
    services.set_override(experiment=experiment, unit="u", arm="control", expires_at=soon, **lab.said())
    services.set_holdback(until=soon, **held, **lab.said())
    seen = (Override.objects.get(), Holdback.objects.get())
    services.set_override(experiment=experiment, unit="u", arm="control", expires_at=later, **lab.said())
    services.set_holdback(until=later, **held, **lab.said())
    assert (due._clear(seen[0], soon), due._lift(seen[1], soon)) == (False, False)
    assert services.expire_exceptions(soon) == 0
    assert services.expire_exceptions(later) == 2


def test_beat_calls_it(lab):
    from deploy import settings
    from experiments import tasks

    experiment = lab.approved(lab.rollout(starts_at=NOW - timedelta(hours=1)))
    experiment.state = State.SCHEDULED
    experiment.save()
    tasks.perform_due_experiments()
    experiment.refresh_from_db()
    assert experiment.state == State.RUNNING
    assert tasks.perform_due_experiments.name in {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}


class TestStanding:
    """What the rows of the analysis say, read."""

    def look(self, experiment, as_of, verdict="advance", units=500, reasons=("all is well",), phase=None):
        return AnalysisRun.objects.create(
            experiment=experiment,
            phase=phase or experiment.phase,
            as_of=as_of,
            verdict=verdict,
            units=units,
            reasons=list(reasons),
        )

    def test_none_is_inconclusive(self, lab, rollout):
        assert services.standing_of(rollout, NOW) == UNKNOWN

    def test_the_last_look_at_the_present_phase_counts(self, lab, rollout):
        self.look(rollout, NOW, "hold")
        self.look(rollout, NOW + timedelta(minutes=1))
        found = services.standing_of(rollout, NOW + timedelta(minutes=2))
        assert found == Standing(Action.ADVANCE, 500, ("all is well",), NOW + timedelta(minutes=1))
        lab.do("ramp", rollout, to_bp=2000)
        assert services.standing_of(rollout, NOW + timedelta(minutes=3)) == UNKNOWN

    def test_one_that_is_old_holds(self, lab, rollout):
        self.look(rollout, NOW)
        assert services.standing_of(rollout, NOW + timedelta(hours=3)).verdict is Action.ADVANCE
        found = services.standing_of(rollout, NOW + timedelta(hours=3, seconds=1))
        assert (found.verdict, found.reasons) == (Action.HOLD, ("the last analysis is of 2026-11-22T12:00:00Z",))

    def test_a_plan_goes_on_by_them(self, lab, rollout):
        assert at(lab, rollout, hours=1) == 1000
        self.look(rollout, lab.clock())
        assert at(lab, rollout) == 5000
