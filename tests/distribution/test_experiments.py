"""From a verb of an experiment to what phones are answered: rows, catalog, poll and explain say the same."""

import json
from uuid import NAMESPACE_URL, uuid5

import pytest

from distribution import explaining
from distribution.device_plane.poll import Poll
from distribution.device_plane.state import load_app
from distribution.device_plane.tree import LocalTree
from distribution.models import Release
from distribution.served_experiments import ServedExperiments
from experiments import services
from experiments.bucketing import bucket, in_range
from experiments.ramps import arm_at
from tests import factories
from tests.distribution.test_publishing import Publisher
from tests.factories import NOW

pytestmark = pytest.mark.django_db(transaction=True)

UNITS = [str(uuid5(NAMESPACE_URL, f"urn:aerogram:phone:{index}")) for index in range(600)]
PHONE = "os=android&runtime=litert&runtime_version=2.1"
REASONS = {"treatment": "rollout_treatment", "control": "rollout_control", None: "current_release"}


class Channel:
    """A published channel with version 1 live and version 2 converted; `poll` asks as a phone does."""

    def __init__(self, store, keys):
        from distribution import services as releasing

        self.store = store
        self.app = factories.application()
        self.publisher = Publisher(self.app, keys)
        self.channel = self.app.channels.get()
        first = factories.converted_version(self.app)
        self.model = first.model
        releasing.publish(channel=self.channel, version=first, actor="ada", now=NOW)
        factories.converted_version(self.app)
        self.publisher.run()

    def said(self, actor="ada"):
        return {"actor": actor, "now": self.publisher.clock(), "reason": "because"}

    def do(self, verb, experiment, actor="ada", **more):
        getattr(services, verb)(experiment=experiment, **self.said(actor), **more)
        return self.publisher.run().number

    def rollout(self, **more):
        said = {"slug": "faster", "kind": "rollout", "version": 2} | more
        return services.create(channel=self.channel, model=self.model, **self.said(), **said)

    def approved(self, **more):
        experiment = self.rollout(**more)
        services.submit(experiment=experiment, **self.said())
        services.approve(experiment=experiment, **self.said("grace"))
        return experiment

    def state(self):
        return load_app(LocalTree(self.store / "tree"), self.app.slug)

    def answers(self, units=UNITS, phone=PHONE, runs=None):
        """Decision by unit, each the same by poll and by explain."""
        state, poll = self.state(), Poll()
        served = state.channels["production"]
        raw = (phone + (f"&current=digits:{runs}" if runs else "")).encode()
        found = {}
        for unit in units:
            answer = json.loads(poll.answer(state, served, raw, "digits", unit).body)["models"]["digits"]
            found[unit] = answer["decision"]
            if answer["manifest"] is not None:
                assert answer["manifest"]["signed"]["model_version"] == answer["decision"]["version"]
        for unit in units[::20]:
            assert explaining.explain(self.channel, "digits", raw, unit).decision.to_json() == found[unit]
        return found

    def catalogued(self):
        return self.publisher.catalog()["models"]["digits"]


@pytest.fixture
def live(services, own_store, tmp_path):
    return Channel(own_store, tmp_path / "publisher")


def by_rows(experiment, unit):
    """The arm that the rows give a unit, worked out from them and not from the catalog."""
    phase = experiment.phase
    if not in_range(bucket(unit, phase.layer_salt), (phase.layer_first, phase.layer_end)):
        return None
    return arm_at(phase.ranges, bucket(unit, phase.arm_salt))


def units_in(answers, arm):
    return {unit for unit, decision in answers.items() if decision.get("arm") == arm}


def test_rows_catalog_poll_and_explain_agree_at_every_percentage(live):
    experiment = live.approved()
    number = live.do("start", experiment)
    before = set()
    for to_bp in (500, 2500, 6000, 10_000):
        revision = live.do("ramp", experiment, to_bp=to_bp)
        assert revision == number + 1, "a ramp is a revision"
        number = revision
        answers = live.answers()
        for unit, decision in answers.items():
            arm = by_rows(experiment, unit)
            assert decision["reason"] == REASONS[arm]
            assert decision["version"] == (2 if arm == "treatment" else 1)
            assert decision.get("phase") == (None if arm is None else experiment.phase.number)
        treated = units_in(answers, "treatment")
        assert before <= treated
        assert len(treated) == pytest.approx(600 * to_bp / 10_000, abs=60)
        before = treated


def test_nothing_is_told_before_the_start_and_nothing_changes_for_phones_by_approval(live):
    before = live.catalogued()
    live.approved()
    live.publisher.run()
    assert live.catalogued() == before


def test_an_experiment_waits_until_the_publisher_has_signed_every_arm(live):
    from distribution import publishing

    experiment = live.approved()
    services.start(experiment=experiment, **live.said())
    publishing.publish_application(live.app, clock=live.publisher.clock)
    assert live.catalogued()["experiments"] == []
    live.publisher.run()
    assert [found["slug"] for found in live.catalogued()["experiments"]] == ["faster"]


def test_a_halt_freezes_and_a_rollback_returns(live):
    experiment = live.approved(steps=[{"percent_bp": 5000}])
    live.do("start", experiment)
    treated = sorted(units_in(live.answers(), "treatment"))
    live.do("halt", experiment)
    halted = live.answers(treated)
    assert {(found["reason"], found["version"]) for found in halted.values()} == {("halted", 1)}
    kept = live.answers(treated, runs=2)
    assert {(found["reason"], found["version"]) for found in kept.values()} == {("rollout_treatment", 2)}
    live.do("rollback", experiment)
    gone = live.answers(treated, runs=2)
    assert {(found["reason"], found["version"]) for found in gone.values()} == {("current_release", 1)}
    assert live.catalogued()["experiments"] == []


def test_one_class_is_halted_and_the_others_go_on(live):
    experiment = live.approved(steps=[{"percent_bp": 5000}])
    live.do("start", experiment)
    one = f"{PHONE}&os_version=14&device=Google/Pixel+8&ram_mb=8192&accelerators=gpu,npu"
    other = "os=fuchsia&runtime=litert&runtime_version=2.1"
    (name,) = {found["device_class"] for found in live.answers(phone=other).values()}
    live.do("halt", experiment, device_class=name)
    assert live.catalogued()["experiments"][0]["halted_classes"] == [name]
    going_on, frozen = live.answers(phone=one), live.answers(phone=other)
    treated = units_in(going_on, "treatment")
    assert treated == units_in(frozen, "treatment")
    assert {going_on[unit]["reason"] for unit in treated} == {"rollout_treatment"}
    assert {(frozen[unit]["reason"], frozen[unit]["version"]) for unit in treated} == {("halted", 1)}


def test_completing_makes_the_treatment_current_in_the_same_revision(live):
    experiment = live.approved(steps=[{"percent_bp": 10_000}])
    number = live.do("start", experiment)
    assert live.do("complete", experiment) == number + 1
    assert {(found["reason"], found["version"]) for found in live.answers().values()} == {("current_release", 2)}
    assert Release.objects.filter(state=Release.State.LIVE).get().model_version.number == 2


def test_a_fix_takes_over_the_same_units(live):
    experiment = live.approved(steps=[{"percent_bp": 4000}])
    live.do("start", experiment)
    treated = units_in(live.answers(), "treatment")
    factories.converted_version(live.app)
    live.do("supersede", experiment, version=3)
    answers = live.answers()
    assert units_in(answers, "treatment") == treated
    assert {answers[unit]["version"] for unit in treated} == {3}


def test_overrides_pins_and_the_slice_held_back(live):
    from distribution import delivery_rules

    experiment = live.approved(steps=[{"percent_bp": 5000}])
    live.do("start", experiment)
    answers = live.answers()
    outside = next(unit for unit, found in answers.items() if found.get("arm") == "control")
    pinned = next(unit for unit in units_in(answers, "treatment"))
    for unit, arm in ((outside, "treatment"), (pinned, "treatment")):
        services.set_override(experiment=experiment, unit=unit, arm=arm, **live.said())
    delivery_rules.pin(
        channel=live.channel,
        version=live.model.versions.get(number=1),
        key=delivery_rules.unit_key(live.app, pinned),
        label="",
        actor="ada",
        now=NOW,
    )
    held = services.set_holdback(channel=live.channel, model=live.model, version=1, percent_bp=1000, **live.said())
    live.publisher.run()
    answers = live.answers()
    assert (answers[outside]["reason"], answers[outside]["version"]) == ("override", 2)
    assert (answers[pinned]["reason"], answers[pinned]["version"]) == ("override", 1)
    held_back = {unit for unit, found in answers.items() if found["reason"] == "holdback"}
    assert held_back == {unit for unit in UNITS if bucket(unit, held.salt) < 1000} - {outside, pinned}
    services.lift_holdback(channel=live.channel, model=live.model, **live.said())
    live.publisher.run()
    assert "holdback" not in {found["reason"] for found in live.answers().values()}


@pytest.mark.parametrize(("verb", "more"), [("supersede", {"version": 3}), ("rollback", {}), ("ramp", {"to_bp": 9000})])
def test_what_is_said_while_a_catalog_is_compiled_is_of_the_next_one(live, verb, more):
    """A catalog that names a version it does not list is refused by every reader."""
    experiment = live.approved(steps=[{"percent_bp": 5000}])
    live.do("start", experiment)
    factories.converted_version(live.app)
    read = ServedExperiments.of(live.channel, live.model)
    versions = read.versions()
    getattr(services, verb)(experiment=experiment, **live.said(), **more)
    (found,) = read.catalogued(versions.__contains__)
    assert versions == {1, 2}
    assert {(arm.name, arm.version, arm.ranges) for arm in found.arms} == {
        ("treatment", 2, ((0, 5000),)), ("control", 1, ((5000, 10_000),))
    }  # fmt: skip


def test_of_two_overrides_of_a_unit_the_one_of_the_experiment_that_was_written_down_first(live):
    arms = [{"name": "old", "version": 1, "control": True}, {"name": "new", "version": 2}]
    second = {"slug": "second", "kind": "ab", "version": None, "arms": arms, "layer_range": (5000, 10_000)}
    experiments = [live.approved(layer_range=(0, 5000)), live.approved(**second)]
    for experiment, arm in zip(experiments, ("treatment", "old"), strict=True):
        services.start(experiment=experiment, **live.said())
        services.set_override(experiment=experiment, unit=UNITS[0], arm=arm, **live.said())
    live.publisher.run()
    found = live.answers(UNITS[:1])[UNITS[0]]
    assert (found["reason"], found["version"]) == ("override", 2)


def test_a_first_version_is_rolled_out_against_the_embedded_model(live):
    faces = factories.converted_version(live.app, model="faces")
    experiment = services.create(
        channel=live.channel,
        model=faces.model,
        slug="first-faces",
        kind="rollout",
        version=1,
        steps=[{"percent_bp": 5000}],
        **live.said(),
    )
    services.submit(experiment=experiment, **live.said())
    services.approve(experiment=experiment, **live.said("grace"))
    live.do("start", experiment)
    state, poll = live.state(), Poll()
    served = state.channels["production"]
    for unit in UNITS[:50]:
        answer = json.loads(poll.answer(state, served, PHONE.encode(), "faces", unit).body)["models"]["faces"]
        treated = by_rows(experiment, unit) == "treatment"
        assert (answer["manifest"] is not None) == treated
        assert answer["decision"]["reason"] == ("rollout_treatment" if treated else "rollout_control")


def test_a_yanked_treatment_is_served_to_nobody(live):
    from registry import services as registering

    experiment = live.approved(steps=[{"percent_bp": 5000}])
    live.do("start", experiment)
    registering.yank_version(
        version=live.model.versions.get(number=2), reason="wrong", actor="ada", now=live.publisher.clock()
    )
    live.publisher.run()
    assert {found["reason"] for found in live.answers().values()} == {"current_release"}
