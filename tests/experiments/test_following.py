"""Publish, roll back, yank and stop while experiments run: who is served what, and what is written down."""

import pytest

from distribution import services as releasing
from experiments import errors, services
from experiments.lifecycle import State
from experiments.models import Experiment, LayerAllocation
from experiments.services.waiting import plan_advice
from registry.models import AuditEntry
from registry.services import yank_version
from tests import factories
from tests.distribution.test_experiments import UNITS, Channel, units_in

pytestmark = pytest.mark.django_db(transaction=True)

PHONE_STEPS = [{"percent_bp": 2500, "hold_seconds": 3600}, {"percent_bp": 10_000}]
ARMS = [{"name": "old", "version": 1, "control": True}, {"name": "new", "version": 2}]


class Fleet(Channel):
    """A published channel: 1 is live, 2 and 3 are converted."""

    def __init__(self, store, keys):
        super().__init__(store, keys)
        self.versions = {1: self.model.versions.get(number=1), 2: self.model.versions.get(number=2)}
        self.versions[3] = factories.converted_version(self.app)

    def started(self, **more):
        experiment = self.approved(**{"steps": PHONE_STEPS} | more)
        self.do("start", experiment)
        return experiment

    def publish(self, number, actor="grace"):
        releasing.publish(channel=self.channel, version=self.versions[number], **self.said(actor))
        self.settled()

    def roll_back(self, to_version):
        releasing.roll_back(channel=self.channel, model=self.model, to_version=to_version, **self.said("grace"))
        self.settled()

    def yank(self, number, *, run=True):
        yank_version(version=self.versions[number], **self.said("grace"))
        if run:
            self.settled()

    def settled(self):
        """Run until nothing is left to publish, as tasks would."""
        while self.app.publish_requests.filter(consumed_at=None).exists():
            self.publisher.run()

    def versions_served(self):
        """Version by arm; None: outside of the arms."""
        found = {}
        for decision in self.answers(UNITS[:120]).values():
            found.setdefault(decision.get("arm"), set()).add(decision.get("version"))
        return found


@pytest.fixture
def fleet(services, own_store, tmp_path):
    return Fleet(own_store, tmp_path / "publisher")


def entry(verb):
    return AuditEntry.objects.filter(verb=f"{verb}_experiment").first()


def fresh(experiment):
    return Experiment.objects.get(pk=experiment.pk)


@pytest.mark.parametrize("state", [State.RUNNING, State.HALTED])
def test_a_release_becomes_the_control_of_a_rollout_in_a_new_phase(fleet, state):
    experiment = fleet.started()
    if state is State.HALTED:
        fleet.do("halt", experiment)
    treated = units_in(fleet.answers(UNITS[:120]), "treatment")
    fleet.publish(3)
    row, phase = fresh(experiment), experiment.phase
    assert (row.state, phase.number, phase.cause, phase.percent_bp, phase.seed) == (state, 2, "follow", 2500, 1)
    treatment = {3} if state is State.HALTED else {2}  # who does not run it gets the control
    assert fleet.versions_served() == {"treatment": treatment, "control": {3}, None: {3}}
    assert units_in(fleet.answers(UNITS[:120]), "treatment") == treated, "nobody was drawn anew"
    told = entry("follow")
    assert (told.actor, told.reason) == ("grace", "digits:3 on production is what devices have now: because")
    assert told.after["phase"]["arms"]["control"]["version"] == 3


def test_a_release_that_waits_for_its_signature_is_no_control_yet(fleet):
    from distribution import publishing

    experiment = fleet.started()
    releasing.publish(channel=fleet.channel, version=fleet.versions[3], **fleet.said())
    publishing.publish_application(fleet.app, clock=fleet.publisher.clock)
    assert fresh(experiment).phases.count() == 1
    assert fleet.versions_served() == {"treatment": {2}, "control": {1}, None: {1}}


def test_a_rollout_of_what_waits_keeps_the_control_it_began_with(fleet):
    """Otherwise it would change twice while the publisher is away."""
    from distribution import publishing

    releasing.publish(channel=fleet.channel, version=fleet.versions[3], **fleet.said())
    experiment = fleet.approved(steps=PHONE_STEPS)
    services.start(experiment=experiment, **fleet.said())
    publishing.publish_application(fleet.app, clock=fleet.publisher.clock)
    assert experiment.phase.arms.get(is_control=True).model_version.number == 3
    assert fresh(experiment).phases.count() == 1


def test_rolling_the_release_back_takes_the_control_along(fleet):
    fleet.publish(3)
    experiment = fleet.started()
    assert fleet.versions_served()["control"] == {3}
    fleet.roll_back(1)
    assert fleet.versions_served() == {"treatment": {2}, "control": {1}, None: {1}}
    assert [phase.cause for phase in experiment.phases.all()] == ["start", "follow"]


def test_each_publish_opens_one_phase_however_often_publishing_runs(fleet):
    experiment = fleet.started()
    fleet.publish(3)
    for _ in range(3):
        releasing.request_publish(fleet.app, "again", fleet.publisher.clock())
        fleet.settled()
    assert experiment.phases.count() == 2


@pytest.mark.parametrize("state", [State.RUNNING, State.HALTED])
def test_releasing_the_treatment_itself_completes_its_rollout(fleet, state):
    experiment = fleet.started()
    if state is State.HALTED:
        fleet.do("halt", experiment)
    fleet.publish(2)
    row = fresh(experiment)
    assert (row.state, row.phase, entry("follow").after["details"]) == ("completed", None, {"winner": "treatment"})
    assert not LayerAllocation.objects.filter(released_at=None).exists()
    assert fleet.versions_served() == {None: {2}}


def test_a_comparison_keeps_its_arms_whatever_is_released(fleet):
    experiment = fleet.started(kind="ab", version=None, arms=ARMS, steps=[{"percent_bp": 5000}])
    fleet.publish(3)
    assert experiment.phases.count() == 1
    assert fleet.versions_served() == {"old": {1}, "new": {2}, None: {3}}


def test_without_its_control_a_rollout_goes_on_with_what_is_left(fleet):
    fleet.publish(3)
    experiment = fleet.started()
    fleet.yank(3, run=False)
    assert fresh(experiment).phase.arms.get(is_control=True).model_version.number == 1, "in the same transaction"
    fleet.settled()
    assert fleet.versions_served() == {"treatment": {2}, "control": {1}, None: {1}}
    assert entry("follow").reason == "digits:3 was yanked: because"


def test_where_nothing_is_left_the_control_is_the_embedded_model_until_there_is_a_release(fleet):
    experiment = fleet.started()
    fleet.yank(1)
    assert experiment.phase.arms.get(is_control=True).model_version is None
    assert fleet.versions_served() == {"treatment": {2}, "control": {None}, None: {None}}
    fleet.publish(3)
    assert fleet.versions_served() == {"treatment": {2}, "control": {3}, None: {3}}


@pytest.mark.parametrize("state", [State.RUNNING, State.HALTED])
def test_a_rollout_of_what_is_yanked_is_rolled_back_with_it(fleet, state):
    experiment = fleet.started()
    if state is State.HALTED:
        fleet.do("halt", experiment)
    fleet.yank(2, run=False)
    row = fresh(experiment)
    assert (row.state, row.phase, row.state_reason) == ("rolled_back", None, "digits:2 was yanked: because")
    assert entry("rollback").actor == "grace"
    fleet.settled()
    assert fleet.versions_served() == {None: {1}}


@pytest.mark.parametrize(("kind", "number"), [("ab", 1), ("aa", 2)])
def test_a_comparison_of_what_is_yanked_is_rolled_back(fleet, kind, number):
    arms = [{**arm, "version": 2} for arm in ARMS] if kind == "aa" else ARMS
    experiment = fleet.started(kind=kind, version=None, arms=arms, steps=[{"percent_bp": 5000}])
    fleet.publish(3)
    fleet.yank(number)
    assert fresh(experiment).state == "rolled_back"
    assert fleet.versions_served() == {None: {3}}


def test_an_experiment_of_other_versions_hears_of_no_yank(fleet):
    experiment = fleet.started()
    before = fresh(experiment).row_version
    fleet.yank(3)
    assert fresh(experiment).row_version == before


def test_a_yank_does_not_wait_for_beat(fleet, monkeypatch):
    from distribution import tasks

    sent = []
    monkeypatch.setattr(tasks.publish_application, "apply_async", lambda arguments, **_: sent.append(arguments))
    fleet.yank(3, run=False)
    assert sent == [(fleet.app.pk,)]


def test_a_yank_lifts_the_holdback_of_its_version(fleet):
    from experiments import errors

    services.set_holdback(channel=fleet.channel, model=fleet.model, version=1, **fleet.said())
    fleet.yank(1)
    with pytest.raises(errors.NotHeldBack):
        services.holdback_of(fleet.channel, fleet.model)
    assert AuditEntry.objects.get(verb="lift_holdback").reason == "digits:1 was yanked: because"


def test_what_was_yanked_while_it_waited_is_not_started(fleet):
    experiment = fleet.approved()
    fleet.yank(2)
    with pytest.raises(errors.DesignRefused, match="not yanked, got 2"):
        services.start(experiment=experiment, **fleet.said())


def test_a_kill_switch_stops_every_arm_and_the_plan_and_lifting_it_brings_both_back(fleet):
    experiment = fleet.started(steps=[{"percent_bp": 2500, "monitored": False}, {"percent_bp": 10_000}])
    stop = {"channel": fleet.channel, "model": fleet.model}
    assert not plan_advice(experiment, fleet.publisher.clock()).unmet
    releasing.engage_kill_switch(**stop, **fleet.said())
    fleet.settled()
    assert fleet.catalogued()["kill_switch"] is not None
    told = services.status(experiment, fleet.publisher.clock())
    assert (told["decision"], [reason.split(":")[0] for reason in told["reasons"]]) == ("hold", ["kill_switch"])
    assert services.advance_due(fleet.publisher.clock()) == 0
    releasing.lift_approved(**stop, **fleet.said())
    fleet.settled()
    assert fleet.versions_served() == {"treatment": {2}, "control": {1}, None: {1}}
    assert services.advance_due(fleet.publisher.clock()) == 1


def test_explaining_a_unit_of_an_experiment_begins_where_the_decision_does(fleet):
    fleet.publish(2)
    experiment = fleet.started(version=1, steps=[{"percent_bp": 10_000}])
    for unit, arm in zip(UNITS, ("treatment", "control"), strict=False):
        services.set_override(experiment=experiment, unit=unit, arm=arm, **fleet.said())
    stop = {"channel": fleet.channel, "model": fleet.model}

    def outcomes():
        return [services.explain(experiment, unit)["outcome"] for unit in UNITS[:3]]

    assert outcomes() == ["override", "override", "in_arm"]
    releasing.engage_kill_switch(**stop, **fleet.said())
    assert outcomes() == ["kill_switch"] * 3
    releasing.lift_approved(**stop, **fleet.said())
    releasing.raise_minimum_release_counter(model=fleet.model, value=2, **fleet.said())
    fleet.settled()
    assert outcomes() == ["not_served", "override", "not_served"]
    served = [fleet.answers([unit])[unit] for unit in UNITS[:3]]
    assert [(found["reason"], found["version"]) for found in served] == [
        ("current_release", 2), ("override", 2), ("current_release", 2)
    ]  # fmt: skip


def test_whoever_publishes_is_told_who_does_not_get_it(fleet):
    rollout = fleet.started(layer_range=(0, 4000))
    services.set_holdback(channel=fleet.channel, model=fleet.model, version=1, **fleet.said())
    assert services.kept_apart(fleet.channel, fleet.versions[3]) == [
        f"{rollout} keeps 10 % of units on version 2 (treatment) until it ends or is superseded",
        "the holdback keeps 2 % of the units on version 1",
    ]
    assert services.kept_apart(fleet.channel, fleet.versions[2]) == ["the holdback keeps 2 % of the units on version 1"]
    fleet.do("rollback", rollout)
    compared = fleet.started(slug="compare", kind="ab", version=None, arms=ARMS, steps=[{"percent_bp": 10_000}])
    assert services.kept_apart(fleet.channel, fleet.versions[2]) == [
        f"{compared} keeps 50 % of units on version 1 (old) until it ends or is superseded",
        "the holdback keeps 2 % of the units on version 1",
    ]


def test_an_arm_below_the_minimum_release_counter_is_told_and_holds_the_plan(fleet):
    """Phones refuse its files, so no catalog names it: every unit gets what is current, and nobody would know why."""
    fleet.publish(2)
    experiment = fleet.started(version=1, steps=[{"percent_bp": 2500, "monitored": False}, {"percent_bp": 10_000}])
    assert not plan_advice(experiment, fleet.publisher.clock()).unmet
    releasing.raise_minimum_release_counter(model=fleet.model, value=2, **fleet.said())
    fleet.settled()
    assert fleet.versions_served() == {None: {2}}
    told = services.status(experiment, fleet.publisher.clock())
    assert (told["decision"], told["lacking"]["withheld"]) == ("hold", (1,))
    assert told["reasons"] == [
        "minimum: version 1 is below the model's minimum release counter: devices are told nothing of the experiment"
    ]
    assert services.advance_due(fleet.publisher.clock()) == 0
    with pytest.raises(errors.StepUnmet, match="minimum: version 1"):
        fleet.do("advance", experiment)
    fleet.do("pause", experiment)
    assert services.status(experiment, fleet.publisher.clock())["reasons"] == ["because", *told["reasons"]]
    fleet.do("resume", experiment)
    fleet.do("supersede", experiment, version=3)
    fleet.settled()
    assert fleet.versions_served() == {"treatment": {3}, "control": {2}, None: {2}}
    assert services.status(experiment, fleet.publisher.clock())["lacking"]["withheld"] == ()


def test_no_arm_and_no_slice_gets_a_version_below_the_minimum(fleet):
    fleet.publish(2)
    experiment = fleet.approved(version=1)
    releasing.raise_minimum_release_counter(model=fleet.model, value=2, **fleet.said())
    told = "expected a version released as counter 2 or later, the minimum of digits, got digits:1"
    with pytest.raises(errors.DesignRefused, match=told):
        fleet.do("start", experiment)
    with pytest.raises(errors.DesignRefused, match=told):
        fleet.approved(version=1, slug="another", layer_range=(0, 100))
    with pytest.raises(errors.DesignRefused, match=told):
        services.set_holdback(channel=fleet.channel, model=fleet.model, version=1, **fleet.said())
