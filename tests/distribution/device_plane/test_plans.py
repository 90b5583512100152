"""A plan answers as `decide()` does, whatever the channel, the device, the unit, and whoever asked before."""

import random
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from distribution.catalog import (
    Catalog,
    CatalogArm,
    CatalogExperiment,
    CatalogModel,
    CatalogVariant,
    Layer,
    Overrides,
    Reference,
    override_key,
)
from distribution.decision import Reason, decide
from distribution.device_plane import plans
from distribution.device_plane.plans import Plan
from distribution.device_plane.poll import Poll
from distribution.device_plane.query import parse_query
from distribution.device_plane.state import AppState, ChannelState
from experiments.bucketing import BOUNDARIES, bucket
from registry.device_classes import DeviceClass, DeviceProfile, Selector, match
from tests.distribution.random_catalogs import MODELS, random_catalog
from tests.simulators import NOW

REFERENCES = {
    name: Reference(f"manifests/{name}.json", "0" * 64, 2) for name in ("tflite-float32", "tflite-full-int8", "coreml")
}
BUILT = tuple(
    CatalogVariant(name, "coreml" if name == "coreml" else "litert", reference)
    for name, reference in REFERENCES.items()
)
PLAIN = Catalog(
    "demo",
    "production",
    60,
    (DeviceClass("any", Selector(), tuple(REFERENCES), ("xnnpack",)),),
    {"digits": CatalogModel(manifest_version=1, current=1, versions={1: BUILT})},
)
PHONE = DeviceProfile("android", runtime="litert", runtime_version="2.1")


def state_of(catalog, revision=1):
    manifests = {reference.path: b"{}" for reference in REFERENCES.values()}
    channel = ChannelState(catalog, b"", b"", "", manifests)
    return AppState("demo", revision, NOW, b"", {"production": channel}), channel


def plan_of(catalog, profile=PHONE, current=None):
    return Plan(profile, "digits", catalog, current, match(profile, catalog.device_classes))


def ramps(number):
    """Experiments over one model, each in a layer of its own."""
    return tuple(
        CatalogExperiment(
            f"e{index}",
            "rollout",
            "running",
            1,
            Layer(f"layer:{index}", (0, 9_000)),
            f"arm:{index}",
            (CatalogArm("treatment", 1, False, ((0, 100),)), CatalogArm("control", 1, True, ((9_900, 10_000),))),
        )
        for index in range(number)
    )


@pytest.mark.parametrize("seed", range(60))
def test_a_poll_decides_as_decide_does_in_any_channel_and_order(seed):
    chance = random.Random(seed)
    catalog = random_catalog(PLAIN, chance)
    app, channel = state_of(catalog)
    poll = Poll(most_nodes=chance.choice([5, 60, 65_536]))
    for _ in range(150):
        query = {
            "os": chance.choice(["android", "ios"]),
            "os_version": chance.choice(["10", "14"]),
            "runtime": chance.choice(["litert", "coreml", ""]),
            "runtime_version": chance.choice(["1.0", "2.1", ""]),
            "ram_mb": chance.choice(["2048", "8192"]),
        }
        name = chance.choice(MODELS)
        if chance.random() < 0.5:
            query["current"] = f"{name}:{chance.randint(1, 4)}"
        raw = urlencode(query).encode()
        unit = None if chance.random() < 0.1 else f"unit-{chance.randrange(300)}"
        parsed = parse_query(raw, name)
        expected = decide(parsed.profile, unit, name, catalog, parsed.current.get(name))
        prepared = poll.prepare(channel, raw, name)
        assert poll._outcome(prepared.plans[0], unit).decision == expected, (raw, unit)
        assert (b'"reason":"%s"' % expected.reason.encode()) in poll.answer(app, channel, raw, name, unit).body


@pytest.mark.parametrize("position", [1, 4_999, 5_000, 9_999])
def test_the_hashes_at_a_boundary_fall_as_their_buckets_do(position, monkeypatch):
    """A unit whose hash is exactly a boundary cannot be found by trying, so hashes are made."""
    boundary = BOUNDARIES[position]

    class Digest:
        def __init__(self, value):
            self.value = value

        def digest(self):
            return self.value.to_bytes(6, "big") + bytes(26)

    arms = (CatalogArm("below", 1, False, ((0, position),)), CatalogArm("above", 1, True, ((position, 10_000),)))
    experiment = CatalogExperiment("e", "ab", "running", 1, Layer("l", (0, 10_000)), "a", arms)
    catalog = replace(PLAIN, models={"digits": replace(PLAIN.models["digits"], experiments=(experiment,))})
    plan = plan_of(catalog)
    for value in (0, boundary - 1, boundary, boundary + 1, 2**48 - 1) * 2:
        made = Digest(value)
        monkeypatch.setattr("experiments.bucketing.sha256", lambda _, made=made: made)
        monkeypatch.setattr(plans, "sha256", lambda _, made=made: made)
        expected = "below" if bucket("unit", "a") < position else "above"
        assert plan.outcome("unit").decision.arm == expected, value


def test_a_known_branch_asks_decide_no_more(monkeypatch):
    catalog = replace(PLAIN, models={"digits": replace(PLAIN.models["digits"], experiments=ramps(1))})
    plan, asked = plan_of(catalog), []
    monkeypatch.setattr(plans, "decide", lambda *a, **k: asked.append(a[1]) or decide(*a, **k))
    decisions = {plan.outcome(f"unit-{number}").decision for number in range(3_000)}
    assert {decision.arm for decision in decisions} == {"treatment", "control", None}
    assert len(asked) == 4  # outside the layer; inside it below, between and above the arms


def test_an_override_wins_over_what_was_learnt_of_other_units():
    pins = Overrides("o", {override_key("o", "pinned"): 1})
    catalog = replace(PLAIN, models={"digits": replace(PLAIN.models["digits"], experiments=ramps(1), overrides=pins)})
    plan = plan_of(catalog)
    for number in range(100):
        assert plan.outcome(f"unit-{number}").decision.reason is not Reason.OVERRIDE
    assert plan.outcome("pinned").decision.reason is Reason.OVERRIDE


def test_a_plan_stops_growing_and_still_decides(monkeypatch):
    """Forty layers have more branches than memory; what is not kept is decided anew."""
    monkeypatch.setattr(plans, "MOST_NODES", 200)
    catalog = replace(PLAIN, models={"digits": replace(PLAIN.models["digits"], experiments=ramps(40))})
    plan = plan_of(catalog)
    for number in range(300):
        unit = f"unit-{number}"
        assert plan.outcome(unit).decision == decide(PHONE, unit, "digits", catalog)
    assert plan.nodes <= 200


def test_all_plans_together_are_bounded():
    catalog = replace(PLAIN, models={"digits": replace(PLAIN.models["digits"], experiments=ramps(40))})
    app, channel = state_of(catalog)
    poll = Poll(most_nodes=500)
    for number in range(300):
        query = b"runtime_version=%d" % number
        poll.answer(app, channel, query, "digits", f"unit-{number}")
        assert poll._nodes <= 500
        assert sum(plan.nodes for plan, _ in poll._plans._entries.values()) <= 500 + 80
    assert poll.generation > 0


def test_a_new_revision_is_told_even_where_the_catalog_is_the_same():
    app, channel = state_of(PLAIN)
    poll = Poll()
    before = poll.answer(app, channel, b"", "digits", "unit")
    after = poll.answer(replace(app, revision=2), channel, b"", "digits", "unit")
    assert (before.etag, dict(before.headers_200)[b"aerogram-revision"]) == (after.etag, b"1")
    assert dict(after.headers_200)[b"aerogram-revision"] == b"2"
