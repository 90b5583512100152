"""The decision in OpenFeature's words: the same one as a poll's, and the stock client understands it."""

import json
import random
from dataclasses import replace

import pytest

from distribution.catalog import Catalog, Holdback, Overrides, override_key
from distribution.decision import Reason, decide
from distribution.device_plane import ofrep
from distribution.device_plane.app import create_app
from distribution.device_plane.query import profile_of
from distribution.device_plane.state import ChannelState
from tests.distribution.device_plane.served import served
from tests.distribution.random_catalogs import MODELS, random_catalog
from tests.distribution.random_catalogs import unit as random_unit
from tests.distribution.test_decision import CLASSES, model, ramp, unit_in, variant
from tests.simulators import NOW

PHONE = {"os": "android", "runtime": "litert", "runtime_version": "2.1"}
DEVICES, CHANNELS = 10_000, 200
CHOICES = {
    "os": ["android", "ios"],
    "os_version": ["10", "14"],
    "app_version": ["1", "4.0.1"],
    "runtime": ["litert", "coreml"],
    "runtime_version": ["1.0", "2.1.3"],
    "ram_mb": [2048, 6144],
    "accelerators": [["gpu"], ["gpu", "npu"]],
}


def channel(**members):
    catalog = Catalog("demo", "production", 60, CLASSES, {"digits": model(**members)})
    return ChannelState(catalog, b"", b"", "0" * 64, {})


def asked(state, unit="unit", key="model.digits", **context):
    body = json.dumps({"context": {"targetingKey": unit, **PHONE, **context}}).encode()
    return ofrep.evaluate(state, key, body)


def test_an_arm_is_the_variant_and_the_value_says_what_to_run():
    state = channel(experiments=(ramp(3000),))
    treated = unit_in("arm:1:1", 0, 3000)
    assert asked(state, treated).document == {
        "key": "model.digits",
        "reason": "SPLIT",
        "variant": "treatment",
        "metadata": {
            "reason": "rollout_treatment", "experiment": "digits-v4", "phase": 2, "arm": "treatment",
            "version": 4, "variant": "tflite-float32", "device_class": "android",
        },
        "value": {
            "version": 4,
            "variant": "tflite-float32",
            "manifest_url": "/v1/apps/demo/channels/production/manifests/digits",
            "manifest_sha256": "0" * 64,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("members", "context", "reason", "variant_name"),
    [
        ({"holdback": Holdback("h", (0, 10_000), 2)}, {}, "SPLIT", "holdback"),
        ({"current": None}, {}, "DEFAULT", "use_embedded"),
        ({"versions": {3: (variant(3, "coreml-fp16"),)}}, {}, "DEFAULT", "no_compatible_variant"),
        ({"no_unit": "none"}, {"targetingKey": None}, "DEFAULT", "no_unit"),
    ],
)
def test_without_a_value_the_apps_own_default_holds(members, context, reason, variant_name):
    told = asked(channel(**members), **context).document
    assert "value" not in told
    assert (told["reason"], told["variant"]) == (reason, variant_name)


def test_the_kill_switch_disables_the_flag():
    told = asked(channel(kill_switch=variant(3).manifest)).document
    assert (told["reason"], told["metadata"]["reason"], "value" in told) == ("DISABLED", "kill_switch", False)


def test_a_pin_is_a_match():
    pinned = Overrides("o", {override_key("o", "unit"): 2})
    told = asked(channel(overrides=pinned)).document
    assert (told["reason"], told["value"]["version"]) == ("TARGETING_MATCH", 2)


def test_what_the_device_runs_counts():
    state = channel(experiments=(ramp(3000, state="halted"),))
    treated = unit_in("arm:1:1", 0, 3000)
    for context, version in (({}, 3), ({"current": {"digits": 4}}, 4)):
        assert asked(state, treated, **context).document["value"]["version"] == version


@pytest.mark.parametrize(
    ("members", "current", "told"),
    [
        ({"experiments": (ramp(10_000, state="halted"),)}, 3, ("halted", 3)),
        ({"experiments": (ramp(10_000, state="halted"),)}, 4, ("treatment", 4)),
        ({"experiments": (ramp(10_000),), "floors": (2,)}, 1, ("floor", 2)),
        ({"overrides": Overrides("o", {override_key("o", "unit"): 2})}, 3, ("override", 2)),
        ({"experiments": (ramp(10_000, kind="holdback"),)}, 3, ("treatment", 4)),
        ({}, 3, ("current", 3)),
    ],
)
def test_the_variant_is_an_arm_only_where_its_version_is_served(members, current, told):
    found = asked(channel(**members), current={"digits": current}).document
    assert (found["variant"], found["value"]["version"]) == told


def test_the_arm_that_stays_in_a_holdback_experiment_keeps_the_apps_default():
    stays = channel(experiments=(ramp(5000, kind="holdback"),))
    found = asked(stays, unit_in("arm:1:1", 5000, 10_000)).document
    assert (found["variant"], found["metadata"]["reason"], "value" in found) == ("control", "holdback", False)


@pytest.mark.parametrize("key", ["model.none", "digits", "model.", "", "model.Digits"])
def test_another_flag_is_not_found(key):
    answer = asked(channel(), key=key)
    assert (answer.status, answer.document["errorCode"]) == (404, "FLAG_NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (b"{", "PARSE_ERROR", "expected JSON"),
        (b"[" * 100_000, "PARSE_ERROR", "expected JSON"),
        (b"[]", "INVALID_CONTEXT", "expected an object"),
        (b'{"context": 1}', "INVALID_CONTEXT", "expected an object"),
        (b'{"context": {"targetingKey": 7}}', "INVALID_CONTEXT", "targetingKey"),
        (b'{"context": {"targetingKey": "a b"}}', "INVALID_CONTEXT", "targetingKey"),
        (b'{"context": {"os": "Android 15"}}', "INVALID_CONTEXT", "os: expected"),
        (b'{"context": {"ram_mb": -1}}', "INVALID_CONTEXT", "ram_mb: expected"),
        (b'{"context": {"current": "digits:3"}}', "INVALID_CONTEXT", "current: expected"),
        (b'{"context": {"current": {"digits": true}}}', "INVALID_CONTEXT", "current: expected"),
    ],
)
def test_a_context_that_cannot_be_read_is_named(body, code, told):
    for answer in (ofrep.evaluate(channel(), "model.digits", body), ofrep.evaluate_all(channel(), body)):
        assert (answer.status, answer.document["errorCode"]) == (400, code)
        assert told in answer.document["errorDetails"]


def test_every_reason_has_a_word():
    assert set(ofrep.REASONS) == set(Reason) - {Reason.UNKNOWN_MODEL}


def test_it_agrees_with_decide_for_ten_thousand_devices():
    """With the one function that polls, explain and SDKs are held to."""
    chance = random.Random(20261122)
    versions = {1: tuple(variant(1, name) for name in ("tflite-float32", "tflite-full-int8", "coreml-fp16"))}
    plain = channel(versions=versions, current=1)
    reasons = set()
    for _ in range(CHANNELS):
        state = replace(plain, catalog=random_catalog(plain.catalog, chance))
        for _ in range(DEVICES // CHANNELS):
            reasons.add(agreed(state, chance))
    assert reasons == set(ofrep.REASONS)


def agreed(state, chance):
    context = {name: chance.choice(values) for name, values in CHOICES.items() if chance.random() < 0.8}
    unit = None if chance.random() < 0.1 else random_unit(chance.randrange(1000))
    name, current = chance.choice(MODELS), chance.choice([None, 1, 2, 3, 4])
    decision = decide(profile_of(context), unit, name, state.catalog, current)
    if current is not None:
        context["current"] = {name: current}
    body = json.dumps({"context": {"targetingKey": unit, **context}}).encode()
    told = ofrep.evaluate(state, f"model.{name}", body).document
    assert told["metadata"] == decision.to_json()
    assert told.get("value", {}).get("version") in (decision.version, None)
    assert ("value" in told) == (
        decision.manifest is not None and decision.version is not None and decision.reason is not Reason.HOLDBACK
    )
    assert told in ofrep.evaluate_all(state, body).document["flags"]
    return decision.reason


class TestServed:
    @pytest.fixture
    def server(self, tree, sink):
        plane = create_app(tree, sink, clock=lambda: NOW, reader_threads=2)
        plane.applications.refresh()
        app = plane.applications.by_name["demo"]
        state = app.channels["production"]
        digits = replace(state.catalog.models["digits"], holdback=Holdback("h", (0, 5000), 3))
        catalog = replace(state.catalog, models={**state.catalog.models, "digits": digits})
        plane.applications.by_name = {"demo": replace(app, channels={"production": replace(state, catalog=catalog)})}
        with served(plane) as running:
            yield running

    def post(self, server, path, body, **headers):
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"POST /v1/apps/demo/channels/production/ofrep/v1/evaluate/flags{path} HTTP/1.1\r\nHost: x\r\n{lines}"
        with server.connect() as connection:
            return connection.ask(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def test_the_stock_client_resolves_arm_metadata_and_the_code_default_of_a_holdback(self, server):
        provider = pytest.importorskip("openfeature.contrib.provider.ofrep")
        from openfeature.evaluation_context import EvaluationContext

        client = provider.OFREPProvider(f"http://127.0.0.1:{server.port}/v1/apps/demo/channels/production")
        default = {"version": 0}
        outside, inside = unit_in("h", 5000, 10_000), unit_in("h", 0, 5000)
        served_one = client.resolve_object_details("model.digits", default, EvaluationContext(outside, PHONE))
        held_back = client.resolve_object_details("model.digits", default, EvaluationContext(inside, PHONE))
        client.session.close()
        assert served_one.value["version"] == 3
        assert (served_one.reason, served_one.variant) == ("TARGETING_MATCH", "current")
        assert served_one.flag_metadata["reason"] == "current_release"
        assert (held_back.value, held_back.variant) == (default, "holdback")
        assert held_back.flag_metadata["reason"] == "holdback"

    def test_an_unknown_flag_is_the_stock_clients_own_error(self, server):
        provider = pytest.importorskip("openfeature.contrib.provider.ofrep")
        from openfeature.exception import FlagNotFoundError

        client = provider.OFREPProvider(f"http://127.0.0.1:{server.port}/v1/apps/demo/channels/production")
        with pytest.raises(FlagNotFoundError, match="name of a model"):
            client.resolve_object_details("model.none", {})
        client.session.close()

    def test_all_flags_have_a_tag_and_304(self, server):
        body = json.dumps({"context": {"targetingKey": "unit", **PHONE}})
        first = self.post(server, "", body)
        etag = next(line[6:] for line in first.head.split(b"\r\n") if line.lower().startswith(b"etag: "))
        assert [flag["key"] for flag in json.loads(first.body)["flags"]] == ["model.digits", "model.faces"]
        assert self.post(server, "", body, If_None_Match=etag.decode()).status == 304
        assert self.post(server, "", body, If_None_Match='"other"').status == 200

    def test_a_body_without_an_end_is_refused(self, server):
        assert self.post(server, "/model.digits", " " * (ofrep.MOST_BODY_BYTES + 1)).status == 413
