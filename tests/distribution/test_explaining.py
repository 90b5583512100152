"""`explain` is the poll's own answer with its reasons: 10 000 random devices, and what the endpoint tells."""

import json
import random
from urllib.parse import urlencode

import pytest
from django.test import Client

from distribution import publishing, services
from distribution.catalog import Catalog, override_key
from distribution.decision import Outcome, Reason, Step, decide
from distribution.device_plane.poll import Poll
from distribution.device_plane.state import load_app
from distribution.device_plane.tree import LocalTree
from distribution.trust.keys import KeyFolder
from distribution.trust.publisher import sign_pending
from registry.device_classes import DeviceProfile
from tests import factories
from tests.distribution.test_decision import CLASSES, PHONE, decided, model, ramp, unit_in, variant
from tests.factories import NOW

DEVICES = 10_000
CHOICES = {
    "os": ["", "android", "ios", "fuchsia"],
    "os_version": ["", "10", "12.1", "14", "17.5"],
    "app_version": ["", "1", "3.9", "4.0.1"],
    "runtime": ["", "litert", "coreml", "onnxruntime"],
    "runtime_version": ["", "1.0", "2.0", "2.1.3", "18"],
    "device": ["", "Google/Pixel 8", "Apple/iPhone15,2", "samsung/SM-S911B"],
    "soc": ["", "Tensor G3", "SM8550", "MT6985"],
    "ram_mb": ["", "2048", "3000", "6144", "16384"],
    "accelerators": ["", "gpu", "npu", "gpu,npu"],
}


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


@pytest.mark.django_db(transaction=True)
def test_explain_agrees_with_the_poll_for_ten_thousand_devices(published, monkeypatch):
    """Both read the published tree; the poll's own bytes are compared. The catalog is then enriched in memory, for
    what no release alone can put there (experiments, pins, floors)."""
    from distribution import explaining

    plain = published.state()
    found = explaining.published_catalog(published.channel)
    assert found == (plain.revision, plain.channels["production"].catalog)
    rich = rich_state(plain)
    monkeypatch.setattr(
        explaining, "published_catalog", lambda channel: (rich.revision, rich.channels["production"].catalog)
    )
    poll, chance, reasons = Poll(), random.Random(5), set()
    for number in range(DEVICES):
        query = {name: chance.choice(values) for name, values in CHOICES.items()}
        query = {name: value for name, value in query.items() if value and chance.random() < 0.8}
        name = chance.choice(["digits", "ramped", "pinned", "absent"])
        if chance.random() < 0.5:
            query["current"] = f"{name}:{chance.randint(1, 3)}"
        unit = None if chance.random() < 0.1 else f"unit-{number % 500}"
        raw = urlencode(query).encode()
        told = explaining.explain(published.channel, name, raw, unit)
        answer = poll.answer(rich, rich.channels["production"], raw, name, unit)
        polled = json.loads(answer.body)["models"][name]
        assert told.decision.to_json() == polled["decision"], (query, unit)
        manifest = told.decision.manifest
        expected = None if manifest is None else json.loads(rich.channels["production"].manifests[manifest.path])
        assert polled["manifest"] == expected
        assert told.steps
        assert (told.decision.manifest is None) <= (told.first_failed is not None or unit is None)
        reasons.add(told.decision.reason)
    assert reasons >= set(Reason) - {Reason.KILL_SWITCH, Reason.USE_EMBEDDED, Reason.HALTED, Reason.EXPERIMENT_ARM}


def rich_state(plain):
    """The published channel with two more models of the same manifests: one ramped, one pinned, held back, floored."""
    from dataclasses import replace

    from distribution.catalog import Holdback, Overrides

    channel = plain.channels["production"]
    digits = channel.catalog.models["digits"]
    versions = dict.fromkeys((1, 2, 3), digits.versions[1])
    treatment, *others = ramp(3000).arms
    experiment = replace(ramp(3000), arms=(replace(treatment, version=2), *(replace(arm, version=1) for arm in others)))
    pins = Overrides("salt", {override_key("salt", f"unit-{number}"): 2 for number in range(100)})
    models = {
        "digits": digits,
        "ramped": replace(digits, current=1, versions=versions, experiments=(experiment,)),
        "pinned": replace(
            digits,
            current=3,
            versions=versions,
            no_unit="none",
            floors=(2,),
            overrides=pins,
            holdback=Holdback("h", (0, 2000), 1),
        ),
    }
    catalog = replace(channel.catalog, models=models)
    return replace(plain, channels={"production": replace(channel, catalog=catalog)})


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
