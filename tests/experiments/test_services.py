"""Every verb on a real database: states, phases, who may, what is written down, and what asks for a publish."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta, timezone
from itertools import pairwise
from random import Random
from threading import Barrier

import pytest
from django.db import connection

from distribution.models import Release
from experiments import errors, services
from experiments.lifecycle import TRANSITIONS, State, Verb
from experiments.models import Experiment, LayerAllocation
from registry.errors import NameTaken, Stale
from registry.models import AuditEntry, PublishRequest
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)

# Whatever a verb needs besides the row, the person and the reason.
ARGUMENTS = {"ramp": {"to_bp": 2000}, "supersede": {"version": 3}, "follow": {"version": None}}


def requests():
    return PublishRequest.objects.count()


def ranges(experiment):
    return experiment.phase.ranges


def brought_to(lab, state):
    """An experiment in a state, by the verbs that lead there."""
    experiment = lab.rollout()
    if state == State.IN_REVIEW:
        return lab.do("submit", experiment)
    if state == State.DRAFT:
        return experiment
    lab.approved(experiment)
    if state == State.SCHEDULED:
        return lab.do("start", experiment, starts_at=NOW + timedelta(days=1))
    if state == State.APPROVED:
        return experiment
    lab.do("start", experiment)
    last = {
        State.RUNNING: (),
        State.PAUSED: ("pause",),
        State.HALTED: ("halt",),
        State.ROLLED_BACK: ("rollback",),
        State.COMPLETED: ("complete",),
        State.ARCHIVED: ("complete", "archive"),
    }[state]
    for verb in last:
        lab.do(verb, experiment)
    return experiment


@pytest.mark.parametrize("state", [state for state in State if state is not State.STOPPED])
def test_what_the_table_refuses_every_service_refuses_and_writes_nothing(lab, state):
    experiment = brought_to(lab, state)
    assert experiment.state == state
    before, entries = services.told(experiment), AuditEntry.objects.count()
    for verb in (verb for verb in Verb if (verb, state) not in TRANSITIONS):
        with pytest.raises(errors.WrongState, match=f"expected a state to {verb} from"):
            lab.do(verb, experiment, "grace", **ARGUMENTS.get(verb, {}))
    assert services.told(experiment) == before
    assert AuditEntry.objects.count() == entries


def test_a_rollout_is_a_draft_with_the_current_release_as_its_control(lab):
    experiment = lab.rollout()
    assert experiment.state == State.DRAFT
    assert {arm["name"]: (arm["version"], arm["control"]) for arm in experiment.arms} == {
        "treatment": (2, False),
        "control": (1, True),
    }
    assert [step.percent_bp for step in experiment.steps.all()] == [100, 500, 1000, 2500, 5000, 10_000]
    assert not PublishRequest.objects.filter(reason__contains="faster").exists()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"version": 1}, "expected another version than digits:1"),
        ({"version": 9}, "not yanked, got 9"),
        ({"version": None}, "expected the version to roll out"),
        ({"layer_range": (5, 5)}, "expected a range"),
        ({"steps": []}, "expected 1 to 50 steps, got 0"),
        ({"steps": [{"percent_bp": 500}, {"percent_bp": 500}]}, "expected steps that rise"),
        ({"steps": [{"percent_bp": 10_001}]}, "expected steps that rise"),
        ({"kind": "ab"}, "expected the arms of the ab experiment"),
        ({"kind": "ab", "version": None, "arms": [{"name": "a", "version": 1, "control": True}]}, "expected 2 to 20"),
    ],
)
def test_a_design_that_makes_no_experiment_is_refused(lab, said, told):
    with pytest.raises(errors.DesignRefused, match=told):
        lab.rollout(**said)
    assert not Experiment.objects.exists()


def test_a_name_stands_once_in_an_application(lab):
    lab.rollout()
    with pytest.raises(NameTaken):
        lab.rollout()


def test_whoever_wrote_a_part_of_it_cannot_approve_it(lab):
    """Nor once somebody else edited it after them, or asked to go on after a halt."""
    experiment = lab.rollout(steps=[{"percent_bp": 100, "needs_approval": True}])
    services.edit(experiment=experiment, **lab.said("bob"), hypothesis="faster")
    services.edit(experiment=experiment, **lab.said("dan"), hypothesis="and smaller")
    lab.do("submit", experiment, "cleo")
    for author in ("ada", "bob", "dan"):
        with pytest.raises(errors.OwnExperiment, match="expected approval by somebody else than ada, bob, dan"):
            lab.do("approve", experiment, author)
    lab.do("approve", experiment, "cleo")
    assert experiment.state == State.APPROVED
    for verb, actor in (("start", "ada"), ("halt", "ada"), ("resume", "eve"), ("approve", "cleo")):
        lab.do(verb, experiment, actor)
    with pytest.raises(errors.OwnExperiment):
        lab.do("approve_step", experiment, "bob")
    assert (experiment.edited_by, experiment.editors) == ("eve", ["bob", "dan"])


def test_an_edit_voids_the_approval(lab):
    experiment = lab.approved(lab.rollout())
    services.edit(experiment=experiment, **lab.said("bob"), steps=[{"percent_bp": 700}])
    assert experiment.state == State.DRAFT
    lab.do("submit", experiment)
    assert experiment.approvers() == []
    assert [step.percent_bp for step in experiment.steps.all()] == [700]


def test_a_channel_that_asks_for_two_people_gets_two(lab):
    from distribution import approvals
    from distribution.services import settings_of

    approvals.change_settings(
        settings=settings_of(lab.channel), approvals_required=2, lift_approvals_required=1, actor="root", now=NOW
    )
    experiment = lab.do("submit", lab.rollout())
    lab.do("approve", experiment, "grace")
    assert experiment.state == State.IN_REVIEW
    with pytest.raises(errors.ApprovedAlready):
        lab.do("approve", experiment, "grace")
    lab.do("approve", experiment, "hedy")
    assert experiment.state == State.APPROVED


def test_approval_brings_the_treatment_to_the_publisher_and_to_no_device(lab):
    lab.approved(lab.rollout())
    release = Release.objects.get(model_version=lab.versions[2])
    assert (release.state, release.release_counter) == (Release.State.ARM, 2)
    assert requests() >= 2


def test_starting_opens_a_phase_and_holds_the_layer(lab):
    experiment = lab.running()
    phase = experiment.phase
    assert (phase.number, phase.cause, phase.percent_bp, phase.seed) == (1, "start", 100, 1)
    assert phase.ranges == {"treatment": [[0, 100]], "control": [[9900, 10_000]]}
    assert phase.expected_shares == {"treatment": 0.5, "control": 0.5}
    assert phase.eligibility["versions"] == {"1": ["tflite-float32"], "2": ["tflite-float32"]}
    held = LayerAllocation.objects.get(released_at=None)
    assert (held.first_bucket, held.end_bucket) == (0, 10_000)
    assert (phase.layer_salt, phase.arm_salt) == (f"layer:{held.layer.uuid}:1", f"arm:{experiment.uuid}:1")


def test_the_control_is_what_is_current_when_it_starts(lab):
    from distribution import services as releasing

    experiment = lab.approved(lab.rollout())
    third = factories.converted_version(lab.app)
    releasing.publish(channel=lab.channel, version=third, actor="ada", now=NOW)
    lab.do("start", experiment)
    assert experiment.phase.arms.get(is_control=True).model_version == third


def test_a_scheduled_start_waits_for_its_time(lab):
    experiment = lab.approved(lab.rollout(starts_at=NOW + timedelta(hours=2)))
    lab.do("start", experiment)
    assert experiment.state == State.SCHEDULED
    assert services.start_due(NOW + timedelta(hours=1)) == 0
    assert services.start_due(NOW + timedelta(hours=2)) == 1
    experiment.refresh_from_db()
    assert experiment.state == State.RUNNING
    assert AuditEntry.objects.first().actor == services.SCHEDULE


def test_ramps_open_phases_with_the_same_seed(lab):
    experiment = lab.running()
    for to_bp, treatment, control in (
        (2500, [[0, 2500]], [[7500, 10_000]]),
        (7000, [[0, 7000]], [[7000, 10_000]]),
        (10_000, [[0, 10_000]], []),
        (500, [[0, 500]], [[9500, 10_000]]),
    ):
        count = requests()
        lab.do("ramp", experiment, to_bp=to_bp)
        assert ranges(experiment) == {"treatment": treatment, "control": control}
        assert requests() == count + 1
    assert experiment.step.percent_bp == 500
    assert {phase.seed for phase in experiment.phases.all()} == {1}
    assert [phase.closed_at is None for phase in experiment.phases.all()] == [False] * 4 + [True]


@pytest.mark.parametrize("to_bp", [-1, 10_001, 100])
def test_a_ramp_to_nowhere_is_refused(lab, to_bp):
    with pytest.raises(errors.DesignRefused):
        lab.do("ramp", lab.running(), to_bp=to_bp)


def test_only_rerandomising_draws_a_new_seed(lab):
    experiment = lab.running()
    salt = experiment.arm_salt
    lab.do("rerandomise", experiment)
    assert (experiment.seed, experiment.phase.number, experiment.phase.percent_bp) == (2, 2, 100)
    assert experiment.phase.arm_salt == experiment.arm_salt != salt


def test_a_fix_takes_over_without_approval_and_units_stay(lab):
    experiment = lab.running()
    lab.do("ramp", experiment, to_bp=2500)
    before = ranges(experiment)
    factories.converted_version(lab.app)
    lab.do("supersede", experiment, version=3)
    assert experiment.phase.arms.get(is_control=False).model_version.number == 3
    assert ranges(experiment) == before
    assert (experiment.phase.cause, experiment.seed, experiment.state) == ("supersede", 1, State.RUNNING)
    with pytest.raises(errors.DesignRefused, match="expected the name of an arm"):
        lab.do("supersede", experiment, version=3, arm="control")


def test_no_fix_is_what_the_control_has(lab):
    experiment = lab.running()
    with pytest.raises(errors.DesignRefused, match="expected another version than 1, which the control has"):
        lab.do("supersede", experiment, version=1)
    assert experiment.phases.count() == 1


def test_a_time_that_is_over_is_refused(lab):
    """A script in another zone would start at once, or set what ends within a minute."""
    experiment, over = lab.approved(lab.rollout()), NOW.astimezone(timezone(timedelta(hours=-8)))
    told = "expected a time after 2026-11-22T12:00:00Z, got 2026-11-22T12:00:00Z"
    for said in (
        lambda: lab.do("start", experiment, starts_at=over),
        lambda: services.set_override(experiment=experiment, unit="u", arm="control", expires_at=over, **lab.said()),
        lambda: services.set_holdback(channel=lab.channel, model=lab.model, version=1, until=over, **lab.said()),
    ):
        with pytest.raises(errors.DesignRefused, match=told):
            said()
    assert experiment.state == State.APPROVED


def test_pausing_keeps_devices_and_resuming_needs_nobody(lab):
    experiment = lab.running()
    before, count = ranges(experiment), requests()
    lab.do("pause", experiment)
    lab.do("resume", experiment)
    assert (ranges(experiment), experiment.phases.count(), requests()) == (before, 1, count)
    assert experiment.state == State.RUNNING


def test_halting_needs_one_person_and_going_on_another(lab):
    experiment = lab.running()
    before = ranges(experiment)
    lab.do("halt", experiment, "ada")
    assert (experiment.state, experiment.state_reason) == (State.HALTED, "because")
    with pytest.raises(errors.NothingToApprove):
        lab.do("approve", experiment, "grace")
    lab.do("resume", experiment, "bob")
    assert experiment.state == State.HALTED
    with pytest.raises(errors.OwnExperiment):
        lab.do("approve", experiment, "bob")
    lab.do("approve", experiment, "grace")
    assert (experiment.state, ranges(experiment)) == (State.RUNNING, before)


def test_one_class_is_halted_and_the_others_go_on(lab):
    experiment = lab.running()
    with pytest.raises(errors.DesignRefused, match="expected a device class of demo"):
        lab.do("halt", experiment, device_class="no-such")
    with pytest.raises(errors.ClassNotHalted):
        lab.do("resume", experiment)
    lab.do("halt", experiment, device_class="everything-else")
    assert (experiment.state, experiment.halted_classes) == (State.RUNNING, ["everything-else"])
    lab.do("resume", experiment)
    lab.do("approve", experiment, "grace")
    assert (experiment.state, experiment.halted_classes) == (State.RUNNING, [])


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.HALTED])
def test_rolling_back_frees_the_layer(lab, state):
    experiment = brought_to(lab, state)
    lab.do("rollback", experiment)
    assert (experiment.state, experiment.phase) == (State.ROLLED_BACK, None)
    assert not LayerAllocation.objects.filter(released_at=None).exists()
    assert Release.objects.to_channel().first().model_version == lab.versions[1]


def test_completing_makes_the_treatment_current(lab):
    experiment = lab.do("complete", lab.running())
    assert (experiment.state, experiment.phase) == (State.COMPLETED, None)
    release = Release.objects.to_channel().first()
    assert (release.model_version, release.release_counter) == (lab.versions[2], 2)
    assert not LayerAllocation.objects.filter(released_at=None).exists()


def test_an_experiment_without_a_winner_changes_nothing(lab):
    experiment = lab.do("complete", lab.running(lab.ab()))
    assert experiment.state == State.STOPPED
    assert Release.objects.to_channel().first().model_version == lab.versions[1]


def test_the_winner_is_an_arm_with_a_version(lab):
    experiment = lab.running(lab.ab(arms=[{"name": "new", "version": 2}, {"name": "embedded", "control": True}]))
    for winner in ("embedded", "nobody"):
        with pytest.raises(errors.DesignRefused, match=r"expected an arm with a version \(new\)"):
            lab.do("complete", experiment, winner=winner)
    lab.do("complete", experiment, winner="new")
    assert Release.objects.to_channel().first().model_version == lab.versions[2]


def test_two_share_a_layer_only_beside_each_other(lab):
    first = lab.running(lab.ab("first", layer_range=(0, 5000)))
    second = lab.approved(lab.ab("second", layer_range=(4999, 10_000)))
    with pytest.raises(errors.LayerTaken, match=r"first holds \[0, 5000\)"):
        lab.do("start", second)
    assert (second.state, second.phase) == (State.APPROVED, None)
    lab.do("rollback", first)
    lab.do("start", second)


def test_of_fifty_that_start_at_once_one_gets_the_layer(lab):
    experiments = [lab.approved(lab.ab(f"e{index}", layer_range=(index, 10_000))) for index in range(50)]
    barrier = Barrier(50)

    def attempt(experiment):
        try:
            connection.ensure_connection()
            barrier.wait(300)
            lab.do("start", experiment)
        except errors.LayerTaken:
            return "taken"
        else:
            return "running"
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(attempt, experiments))
    assert sorted(results) == ["running"] + ["taken"] * 49
    assert LayerAllocation.objects.filter(released_at=None).count() == 1
    assert Experiment.objects.live().count() == 1


def test_of_fifty_ranges_that_are_claimed_at_once_none_overlap_and_none_is_refused_in_vain(lab):
    chance = Random(20261123)
    spans = [(first, first + chance.randint(1, 1500)) for first in chance.choices(range(8500), k=50)]
    experiments = [lab.approved(lab.ab(f"e{index}", layer_range=span)) for index, span in enumerate(spans)]
    barrier = Barrier(50)

    def attempt(experiment):
        try:
            connection.ensure_connection()
            barrier.wait(300)
            lab.do("start", experiment)
        except errors.LayerTaken:
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        started = list(pool.map(attempt, experiments))
    held = sorted(span for span, is_started in zip(spans, started, strict=True) if is_started)
    assert all(end <= first for (_, end), (first, _) in pairwise(held))
    for first, end in (span for span, is_started in zip(spans, started, strict=True) if not is_started):
        assert any(other < end and first < other_end for other, other_end in held)
    rows = LayerAllocation.objects.filter(released_at=None).values_list("first_bucket", "end_bucket")
    assert sorted(rows) == held
    assert len(held) > 5


def test_of_two_at_one_version_one_is_stale(lab):
    experiment = lab.running()
    seen = experiment.row_version
    lab.do("ramp", experiment, to_bp=300, row_version=seen)
    with pytest.raises(Stale, match=f"expected version {seen}"):
        lab.do("halt", experiment, row_version=seen)
    assert experiment.state == State.RUNNING


def test_overrides_name_an_arm_and_keep_no_unit(lab):
    experiment = lab.running()
    services.set_override(experiment=experiment, unit="my-phone", arm="treatment", **lab.said())
    services.set_override(experiment=experiment, unit="my-phone", arm="control", **lab.said())
    row = experiment.overrides.get()
    assert (row.arm, len(row.unit_key)) == ("control", 64)
    with pytest.raises(errors.DesignRefused, match=r"expected the name of an arm \(treatment, control\), got 'nobody'"):
        services.set_override(experiment=experiment, unit="my-phone", arm="nobody", **lab.said())
    services.clear_override(experiment=experiment, unit_key=row.unit_key, **lab.said())
    with pytest.raises(errors.OverrideNotFound):
        services.clear_override(experiment=experiment, unit_key=row.unit_key, **lab.said())
    lab.do("rollback", experiment)
    with pytest.raises(errors.WrongState):
        services.set_override(experiment=experiment, unit="my-phone", arm="control", **lab.said())


def test_no_override_names_the_embedded_model(lab):
    experiment = lab.running(lab.ab(arms=[{"name": "new", "version": 2}, {"name": "app", "control": True}]))
    with pytest.raises(errors.DesignRefused, match=r"with a version \(new\), got 'app', which is the model embedded"):
        services.set_override(experiment=experiment, unit="my-phone", arm="app", **lab.said())
    assert not experiment.overrides.exists()


def test_overrides_and_holdbacks_end_by_themselves(lab):
    experiment = lab.running()
    later = NOW + timedelta(hours=1)
    services.set_override(experiment=experiment, unit="u", arm="control", expires_at=later, **lab.said())
    services.set_holdback(channel=lab.channel, model=lab.model, version=1, until=later, **lab.said())
    assert services.expire_exceptions(NOW) == 0
    assert services.expire_exceptions(later) == 2
    assert services.expire_exceptions(later) == 0
    assert not experiment.overrides.exists()
    told = AuditEntry.objects.get(verb="clear_override_of_experiment")
    assert (told.actor, told.reason, told.after) == ("schedule", "it has expired", services.told(experiment))
    assert AuditEntry.objects.filter(verb="lift_holdback", actor="schedule").exists()
    with pytest.raises(errors.NotHeldBack):
        services.lift_holdback(channel=lab.channel, model=lab.model, **lab.said())


def test_the_slice_held_back_survives_its_version(lab):
    told = {"channel": lab.channel, "model": lab.model}
    first = services.set_holdback(version=1, **told, **lab.said())
    salt = first.salt
    second = services.set_holdback(version=2, percent_bp=300, **told, **lab.said())
    assert (second.salt, second.span) == (salt, (0, 300))
    with pytest.raises(errors.DesignRefused, match="expected 1 to 5000"):
        services.set_holdback(version=1, percent_bp=5001, **told, **lab.said())
    services.lift_holdback(**told, **lab.said())
