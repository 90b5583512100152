"""`explain` is the poll's own answer with its reasons: 10 000 random devices, and what the endpoint tells."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest
from django.test import Client

from distribution import publishing, services
from distribution.catalog import Catalog, Overrides, override_key
from distribution.decision import Outcome, Reason, Step, decide
from distribution.device_plane.poll import Poll
from distribution.device_plane.state import load_app
from distribution.device_plane.tree import LocalTree
from distribution.trust.keys import KeyFolder
from distribution.trust.publisher import sign_pending
from registry.device_classes import DeviceProfile
from tests import factories
from tests.distribution.random_catalogs import random_catalog
from tests.distribution.random_devices import random_device
from tests.distribution.test_decision import CLASSES, PHONE, decided, model, ramp, unit_in, variant
from tests.factories import NOW

DEVICES, CHANNELS = 10_000, 200


def steps_of(unit="unit", profile=PHONE, current_version=None, **members):
    catalog = Catalog("demo", "production", 60, CLASSES, {"digits": model(**members)})
    steps = []
    traced = decide(profile, unit, "digits", catalog, current_version, trace=steps)
    assert traced == decided(unit, profile, current_version, **members)
    return steps


def test_every_rule_up_to_the_variant():
    versions = {3: (variant(3),)}
    assert steps_of(versions=versions) == [
        Step("kill_switch", Outcome.NOT_APPLIED, "not engaged"),
        Step("device_class", Outcome.APPLIED, "every condition holds", "android"),
        Step("current", Outcome.APPLIED, "version 3"),
        Step("variant", Outcome.FAILED, "version 3 has none", "tflite-full-int8"),
        Step("variant", Outcome.APPLIED, "version 3 runs on the device", "tflite-float32"),
    ]


def test_a_device_outside_says_which_condition_fails_first():
    steps = steps_of(profile=DeviceProfile("ios"))
    assert Step("device_class", Outcome.FAILED, "os ios is not one of android", "android") in steps
    assert Step("device_class", Outcome.FAILED, "no class accepts the device") in steps


def test_an_experiment_says_by_which_bucket_it_was_passed_over():
    narrow = ramp(10_000, span=(0, 5000))
    outside = unit_in("layer:1:1", 5000, 10_000)
    told = [step for step in steps_of(outside, experiments=(narrow,)) if step.rule == "experiment"]
    assert [step.outcome for step in told] == [Outcome.FAILED]
    assert told[0].detail.startswith("layer bucket ")
    versions = {3: (variant(3),), 4: (variant(4, "coreml-fp16"),)}
    told = steps_of(experiments=(ramp(10_000),), versions=versions)
    assert (
        Step("experiment", Outcome.FAILED, "not eligible: arm treatment has no variant for the device", "digits-v4")
        in told
    )


def told_of(rule, **asked):
    return [step[1:] for step in steps_of(**asked) if step.rule == rule]


@pytest.mark.parametrize("rule", ["current", "none"])
def test_without_a_unit_the_models_rule_is_told(rule):
    told = [(Outcome.APPLIED, f"none was sent, the model's rule is {rule}", "")]
    assert told_of("unit", unit=None, no_unit=rule) == told


def test_a_list_of_overrides_is_told_to_hold_the_unit_or_not():
    pinned = Overrides("o", {override_key("o", "unit"): 2})
    listed, stranger = (told_of("override", unit=unit, overrides=pinned) for unit in ("unit", "other"))
    assert listed == [(Outcome.APPLIED, "the unit is pinned to version 2", "")]
    assert stranger == [(Outcome.NOT_APPLIED, "the unit is not listed", "")]


def test_the_arm_is_told_and_that_a_halted_treatment_is_not_given_to_others():
    unit = unit_in("arm:1:1", 0, 1)
    arm = (Outcome.APPLIED, "arm bucket 0 is in treatment", "digits-v4")
    halted = (Outcome.APPLIED, "the device does not run the treatment, it gets the control", "digits-v4")
    assert told_of("experiment", unit=unit, experiments=(ramp(5000),)) == [arm]
    assert told_of("halted", unit=unit, experiments=(ramp(5000),)) == []
    assert told_of("experiment", unit=unit, experiments=(ramp(5000, state="halted"),)) == [arm]
    assert told_of("halted", unit=unit, experiments=(ramp(5000, state="halted"),)) == [halted]


def test_without_a_release_the_embedded_model_is_told():
    assert told_of("current", current=None) == [
        (Outcome.APPLIED, "nothing is released: the app keeps its embedded model", "")
    ]


def test_a_floor_that_the_device_cannot_run_is_told():
    versions = {2: (variant(2, "coreml-fp16"),), 3: (variant(3),), 4: (variant(4),)}
    told = steps_of(current=4, floors=(2, 3), current_version=1, versions=versions)
    assert [(step.outcome, step.detail) for step in told if step.rule == "floor"] == [
        (Outcome.FAILED, "version 2 has no variant for the device"),
        (Outcome.APPLIED, "version 3 comes before 4"),
    ]


class Published:
    """A channel with a published catalog, and the device plane's own state of it."""

    def __init__(self, folder, store):
        self.application = factories.application()
        self.channel = self.application.channels.get()
        self.keys = KeyFolder(folder)
        self.store = store
        factories.converted_version(self.application, names=("tflite-float32", "tflite-full-int8", "coreml-fp16"))
        self.model = self.application.registered_models.get()
        services.publish(channel=self.channel, version=self.model.versions.get(), actor="ada", now=NOW)
        self.run()

    def run(self):
        publishing.publish_application(self.application, clock=lambda: NOW)
        sign_pending(application=self.application, keys=self.keys, now=NOW)
        publishing.publish_application(self.application, clock=lambda: NOW)

    def state(self):
        return load_app(LocalTree(self.store / "tree"), self.application.slug)


@pytest.fixture
def published(services, own_store, tmp_path):
    return Published(tmp_path / "publisher", own_store)


# Every outcome that a rule can have, with the beginning of what is told where one outcome has several causes.
RULES = {
    ("model", Outcome.FAILED, ""),
    ("kill_switch", Outcome.APPLIED, ""),
    ("kill_switch", Outcome.NOT_APPLIED, ""),
    ("device_class", Outcome.APPLIED, ""),
    ("device_class", Outcome.FAILED, "no class accepts"),
    *(("device_class", Outcome.FAILED, fact) for fact in ("os ", "os_version ", "app_version ", "runtime ")),
    *(("device_class", Outcome.FAILED, fact) for fact in ("runtime_version ", "ram_mb ", "soc ", "accelerators ")),
    ("device_class", Outcome.FAILED, "device unknown is not one of"),
    ("device_class", Outcome.FAILED, "device Google/Pixel 8 is excluded"),
    ("unit", Outcome.APPLIED, "none was sent, the model's rule is current"),
    ("unit", Outcome.APPLIED, "none was sent, the model's rule is none"),
    ("override", Outcome.APPLIED, ""),
    ("override", Outcome.NOT_APPLIED, ""),
    ("holdback", Outcome.APPLIED, ""),
    ("holdback", Outcome.FAILED, "bucket "),
    ("holdback", Outcome.FAILED, "version "),
    ("experiment", Outcome.APPLIED, ""),
    ("experiment", Outcome.FAILED, "layer bucket "),
    ("experiment", Outcome.FAILED, "not eligible"),
    ("experiment", Outcome.FAILED, "arm bucket "),
    ("halted", Outcome.APPLIED, ""),
    ("current", Outcome.APPLIED, "version "),
    ("current", Outcome.APPLIED, "nothing is released"),
    ("floor", Outcome.APPLIED, ""),
    ("floor", Outcome.FAILED, ""),
    ("variant", Outcome.APPLIED, ""),
    ("variant", Outcome.FAILED, "version "),
    ("variant", Outcome.FAILED, "runtime is "),
    ("variant", Outcome.FAILED, "runtime_version is unknown"),
    ("variant", Outcome.FAILED, "runtime_version is 2.0"),
}


@pytest.mark.django_db(transaction=True)
def test_explain_agrees_with_the_poll_for_ten_thousand_devices(published, monkeypatch):
    """Both read the published tree; the poll's own bytes are compared. The catalogs are then drawn at random over the
    published manifests, because no release alone brings every rule into one."""
    from distribution import explaining

    plain = published.state()
    found = explaining.published_catalog(published.channel)
    assert found == (plain.revision, plain.channels["production"].catalog)
    chance, reasons, steps = random.Random(5), Counter(), Counter()
    for _ in range(CHANNELS):
        state = drawn(plain, chance)
        catalog = state.channels["production"].catalog
        monkeypatch.setattr(explaining, "published_catalog", lambda channel, told=catalog: (plain.revision, told))
        poll = Poll()
        for _ in range(DEVICES // CHANNELS):
            told = agreed(published.channel, state, poll, chance)
            reasons[told.decision.reason] += 1
            steps.update(told.steps)
    assert reasons.total() == DEVICES
    assert set(reasons) == set(Reason), "every reason of the closed list"
    for rule, outcome, beginning in RULES:
        seen = [step for step in steps if step[:2] == (rule, outcome) and step.detail.startswith(beginning)]
        assert seen, f"{rule} {outcome} {beginning!r} was never reached"
    assert {step[:2] for step in steps} == {rule[:2] for rule in RULES}, "and the list above is complete"


def agreed(channel, state, poll, chance):
    """One device asks both; what was explained, once it is found equal to what was polled."""
    from distribution import explaining

    device = random_device(chance)
    raw, name, unit = device.query, device.model, device.unit
    served = state.channels["production"]
    told = explaining.explain(channel, name, raw, unit)
    answer = poll.answer(state, served, raw, name, unit)
    polled = json.loads(answer.body)["models"][name]
    assert told.decision.to_json() == polled["decision"], (raw, unit)
    manifest = told.decision.manifest
    assert polled["manifest"] == (None if manifest is None else json.loads(served.manifests[manifest.path]))
    if told.decision.reason is Reason.NO_COMPATIBLE_VARIANT:
        assert told.first_failed is not None
    return told


def drawn(plain, chance):
    channel = plain.channels["production"]
    return replace(plain, channels={"production": replace(channel, catalog=random_catalog(channel.catalog, chance))})


@pytest.mark.django_db(transaction=True)
class TestEndpoint:
    PATH = "/api/v1/applications/demo/channels/production/models/digits/explain"

    @pytest.fixture
    def ask(self, published):
        token = factories.token(factories.user("root", superuser=True))

        def ask(query, **headers):
            client = Client(headers={"Authorization": f"Bearer {token}", **headers})
            return client.get(f"{self.PATH}?{query}")

        return ask

    def test_it_tells_the_decision_and_each_rule(self, ask):
        answer = ask("os=android&runtime=litert&runtime_version=2.1&unit=a").json()
        assert answer["decision"]["reason"] == "current_release"
        assert answer["manifest"]["path"].startswith("manifests/production/digits/")
        assert answer["first_failed"] == next(step for step in answer["steps"] if step["outcome"] == "failed")
        assert answer["first_failed"]["rule"] == "device_class"
        assert answer["steps"][-1]["rule"] == "variant"

    def test_the_unit_may_stay_out_of_the_address(self, ask):
        assert ask("os=android")["Content-Type"].startswith("application/json")
        assert ask("os=android").json()["decision"]["reason"] == "no_unit"
        assert ask("os=android", **{"Aerogram-Unit": "a"}).json()["decision"]["reason"] != "no_unit"

    @pytest.mark.parametrize(
        ("query", "field"), [("os=Android", "os"), ("ram_mb=x", "ram_mb"), ("unit=%2Fx", "Aerogram-Unit")]
    )
    def test_a_wrong_field_is_named_as_in_a_poll(self, ask, query, field):
        answer = ask(query)
        assert (answer.status_code, answer.json()["field"]) == (400, field)


@pytest.mark.django_db(transaction=True)
def test_nothing_published_is_said_so(services, own_store):
    app = factories.application()
    factories.version(app)
    token = factories.token(factories.user("root", superuser=True))
    answer = Client(headers={"Authorization": f"Bearer {token}"}).get(TestEndpoint.PATH)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_released")


@pytest.mark.django_db(transaction=True)
def test_the_admins_page_tells_the_same(published, client):
    client.force_login(factories.user("root", superuser=True))
    what = f"{published.channel.pk}:{published.model.pk}"
    device = "os=android&runtime=litert&runtime_version=2.1&runs=1&accelerators=gpu, npu"
    page = client.get(f"/admin/distribution/release/explain/?what={what}&{device}")
    assert page.context["told"].decision.reason == "no_unit"
    assert "every condition holds" in page.content.decode()
    refused = client.get(f"/admin/distribution/release/explain/?what={what}&os=Android")
    assert "os: expected a lower-case token" in refused.content.decode()
