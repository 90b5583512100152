import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distribution.catalog import (
    Catalog,
    CatalogArm,
    CatalogExperiment,
    CatalogModel,
    CatalogVariant,
    Holdback,
    Layer,
    Overrides,
    Reference,
    override_key,
)
from distribution.decision import Reason, decide
from experiments.bucketing import bucket, ramp_ranges
from registry.device_classes import DeviceClass, DeviceProfile, Selector
from sdk_stubs.vectors.generate import units
from sdk_stubs.vectors.hand_written import HAND_WRITTEN
from tests.distribution.test_catalog import catalogs

VECTORS = json.loads((Path(__file__).parents[2] / "sdk_stubs/vectors/decisions.json").read_text())
PHONE = DeviceProfile("android", runtime="litert", runtime_version="2.1")
OLD_PHONE = DeviceProfile("android", runtime="litert", runtime_version="1.0")
CLASSES = (DeviceClass("android", Selector(os=("android",)), ("tflite-full-int8", "tflite-float32")),)


def variant(version, name="tflite-float32", **members):
    reference = Reference(f"manifests/production/digits/7.{version}.{name}.json", "0" * 64, 1)
    return CatalogVariant(name, "litert", reference, **members)


def model(**members):
    versions = {version: (variant(version),) for version in (1, 2, 3, 4)}
    return CatalogModel(**{"manifest_version": 7, "current": 3, "versions": versions} | members)


def ramp(treatment_bp, *, state="running", kind="rollout", span=(0, 10_000), control=3):
    treatment, rest = ramp_ranges(treatment_bp)
    return CatalogExperiment(
        slug="digits-v4",
        kind=kind,
        state=state,
        phase=2,
        layer=Layer("layer:1:1", span),
        arm_salt="arm:1:1",
        arms=(CatalogArm("treatment", 4, False, (treatment,)), CatalogArm("control", control, True, (rest,))),
    )


def decided(unit="unit", profile=PHONE, current_version=None, classes=CLASSES, **members):
    catalog = Catalog("demo", "production", 60, classes, {"digits": model(**members)})
    return decide(profile, unit, "digits", catalog, current_version)


def unit_in(salt, first, end):
    """A unit whose bucket under `salt` lies in [first, end)."""
    return next(unit for unit in map(str, range(100_000)) if first <= bucket(unit, salt) < end)


def test_vectors():
    catalog = Catalog.from_json(VECTORS["catalog"])
    profiles = [
        DeviceProfile(**document | {"accelerators": frozenset(document["accelerators"])})
        for document in VECTORS["profiles"]
    ]
    for case in VECTORS["cases"]:
        profile = profiles[case["profile"]]
        found = decide(profile, case["unit"], case["model"], catalog, case["current_version"])
        assert found.to_json() == case["decision"]
        assert (found.manifest.path if found.manifest else None) == case["manifest"]


def test_every_reason_stands_in_the_vectors():
    assert {case["decision"]["reason"] for case in VECTORS["cases"]} == {reason.value for reason in Reason}


def test_the_current_release():
    found = decided()
    assert (found.reason, found.version, found.variant) == (Reason.CURRENT_RELEASE, 3, "tflite-float32")
    assert found.device_class == "android"
    assert found.manifest.path == "manifests/production/digits/7.3.tflite-float32.json"


def test_an_unknown_model():
    catalog = Catalog("demo", "production", 60, CLASSES, {})
    assert decide(PHONE, "unit", "faces", catalog).to_json() == {"reason": "unknown_model"}


def test_the_kill_switch_goes_before_everything():
    switch = Reference("manifests/production/digits/8.use_embedded.json", "1" * 64, 1)
    pinned = Overrides("o", {override_key("o", "unit"): 4})
    for unit in ("unit", None):
        found = decided(unit, kill_switch=switch, overrides=pinned, no_unit="none")
        assert (found.reason, found.manifest, found.version) == (Reason.KILL_SWITCH, switch, None)


@pytest.mark.parametrize(("rule", "version"), [("current", 3), ("none", None)])
def test_without_a_unit_the_models_own_rule_decides(rule, version):
    found = decided(None, no_unit=rule, experiments=(ramp(10_000),), holdback=Holdback("h", (0, 10_000), 1))
    assert (found.reason, found.version) == (Reason.NO_UNIT, version)
    assert (found.manifest is None) is (version is None)


def test_an_override_goes_before_holdback_and_experiment():
    pinned = Overrides("o", {override_key("o", "unit"): 2})
    members = {"overrides": pinned, "experiments": (ramp(10_000),), "holdback": Holdback("h", (0, 10_000), 1)}
    assert (decided("unit", **members).reason, decided("unit", **members).version) == (Reason.OVERRIDE, 2)
    assert decided("other", **members).reason == Reason.HOLDBACK


def test_the_holdback_goes_before_the_experiment():
    members = {"experiments": (ramp(10_000),), "holdback": Holdback("h", (0, 200), 1)}
    assert decided(unit_in("h", 0, 200), **members).version == 1
    assert decided(unit_in("h", 200, 10_000), **members).reason == Reason.ROLLOUT_TREATMENT


def test_a_device_that_cannot_run_the_version_held_back_is_outside_the_slice():
    versions = {1: (variant(1, "coreml-fp16"),), 3: (variant(3),)}
    assert decided(versions=versions, holdback=Holdback("h", (0, 10_000), 1)).reason == Reason.CURRENT_RELEASE


@pytest.mark.parametrize(
    ("first", "end", "reason", "version"),
    [
        (0, 2500, Reason.ROLLOUT_TREATMENT, 4),
        (7500, 10_000, Reason.ROLLOUT_CONTROL, 3),
        (2500, 7500, Reason.CURRENT_RELEASE, 2),
    ],
)
def test_a_ramp_splits_by_the_arm_salt(first, end, reason, version):
    found = decided(unit_in("arm:1:1", first, end), experiments=(ramp(2500),), current=2)
    assert (found.reason, found.version) == (reason, version)
    assert found.experiment == ("digits-v4" if reason is not Reason.CURRENT_RELEASE else None)


@pytest.mark.parametrize(
    ("kind", "treatment", "control"),
    [
        ("ab", "experiment_arm", "experiment_arm"),
        ("aa", "experiment_arm", "experiment_arm"),
        ("holdback", "experiment_arm", "holdback"),
    ],
)
def test_the_kind_names_the_reason_and_only_who_stays_is_held_back(kind, treatment, control):
    for first, end, arm, reason in ((0, 5000, "treatment", treatment), (5000, 10_000, "control", control)):
        found = decided(unit_in("arm:1:1", first, end), experiments=(ramp(5000, kind=kind),))
        assert (
            found.to_json() | {"reason": reason, "experiment": "digits-v4", "phase": 2, "arm": arm} == found.to_json()
        )


def test_experiments_of_one_layer_exclude_each_other():
    first = ramp(10_000, span=(0, 5000))
    second = replace(ramp(10_000, span=(5000, 10_000)), slug="other", arm_salt="arm:2:1")
    assert decided(unit_in("layer:1:1", 0, 5000), experiments=(first, second)).experiment == "digits-v4"
    assert decided(unit_in("layer:1:1", 5000, 10_000), experiments=(first, second)).experiment == "other"


def test_a_device_for_which_any_arm_lacks_a_variant_is_outside_in_both_arms():
    versions = {3: (variant(3),), 4: (variant(4, "tflite-full-int8", min_runtime_version="2.0"),)}
    for first, end in ((0, 5000), (5000, 10_000)):
        unit = unit_in("arm:1:1", first, end)
        assert decided(unit, versions=versions, experiments=(ramp(5000),)).experiment == "digits-v4"
        outside = decided(unit, OLD_PHONE, versions=versions, experiments=(ramp(5000),))
        assert (outside.reason, outside.experiment) == (Reason.CURRENT_RELEASE, None)


@pytest.mark.parametrize(
    ("first", "end", "current_version", "reason", "version"),
    [
        (0, 5000, None, Reason.HALTED, 3),
        (0, 5000, 3, Reason.HALTED, 3),
        (0, 5000, 4, Reason.ROLLOUT_TREATMENT, 4),
        (5000, 10_000, 3, Reason.ROLLOUT_CONTROL, 3),
        (5000, 10_000, 4, Reason.ROLLOUT_CONTROL, 3),
    ],
)
def test_halted_keeps_the_treatment_only_where_it_already_runs(first, end, current_version, reason, version):
    unit = unit_in("arm:1:1", first, end)
    found = decided(unit, current_version=current_version, experiments=(ramp(5000, state="halted"),))
    assert (found.reason, found.version) == (reason, version)


def test_a_halted_treatment_without_a_version_is_not_what_a_device_of_unknown_version_runs():
    halted = ramp(10_000, state="halted")
    embedded = (CatalogArm("treatment", None, False, ((0, 10_000),)), halted.arms[1])
    found = decided(current_version=None, experiments=(replace(halted, arms=embedded),))
    assert (found.reason, found.version) == (Reason.HALTED, 3)


def test_the_control_of_a_first_rollout_is_the_embedded_model():
    unit = unit_in("arm:1:1", 5000, 10_000)
    found = decided(unit, current=None, experiments=(ramp(5000, control=None),))
    assert (found.reason, found.version, found.manifest) == (Reason.ROLLOUT_CONTROL, None, None)


def test_without_a_current_release_the_app_keeps_its_embedded_model():
    assert decided(current=None).to_json() == {"reason": "use_embedded", "device_class": "android"}


@pytest.mark.parametrize(
    ("current_version", "floors", "version", "reason"),
    [
        (1, (2,), 2, Reason.FLOOR),
        (1, (2, 3), 2, Reason.FLOOR),
        (2, (2,), 4, Reason.CURRENT_RELEASE),
        (None, (2,), 4, Reason.CURRENT_RELEASE),
        (1, (4,), 4, Reason.CURRENT_RELEASE),
    ],
)
def test_a_floor_may_not_be_skipped(current_version, floors, version, reason):
    found = decided(current=4, floors=floors, current_version=current_version)
    assert (found.version, found.reason) == (version, reason)


def test_a_roll_back_needs_no_floor():
    assert decided(current=1, floors=(2, 3), current_version=4).version == 1


def test_a_floor_the_device_cannot_run_strands_nobody():
    versions = {2: (variant(2, "coreml-fp16"),), 4: (variant(4),)}
    assert decided(current=4, floors=(2,), current_version=1, versions=versions).version == 4


@pytest.mark.parametrize(
    ("profile", "classes"),
    [(DeviceProfile("ios"), CLASSES), (PHONE, ()), (DeviceProfile("android", runtime="coreml"), CLASSES)],
)
def test_no_compatible_variant(profile, classes):
    found = decided(profile=profile, classes=classes)
    assert (found.reason, found.manifest, found.version) == (Reason.NO_COMPATIBLE_VARIANT, None, 3)


tokens = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", max_size=32)
any_profile = st.builds(
    DeviceProfile,
    os=tokens,
    os_version=tokens,
    app_version=tokens,
    runtime=tokens,
    runtime_version=tokens,
    device=tokens,
    soc=tokens,
    ram_mb=st.none() | st.integers(0, 10**8),
    accelerators=st.frozensets(tokens, max_size=3),
)
any_unit = st.none() | st.text("ABCabc019._:~-", min_size=1, max_size=128)


def layered(spans):
    """An experiment for each (layer, first bucket, end), in this order; none leaves its arms empty."""
    return tuple(
        replace(ramp(10_000, span=(first, end)), slug=f"e{place}", layer=Layer(f"layer:{layer}", (first, end)))
        for place, (layer, first, end) in enumerate(spans)
    )


@st.composite
def exclusive_spans(draw):
    """Up to 12 ranges in each of up to 4 layers, apart from each other within a layer, in any order."""
    spans = []
    for layer in range(draw(st.integers(1, 4))):
        cuts = sorted(draw(st.lists(st.integers(0, 10_000), max_size=24)))
        spans += [(layer, first, end) for first, end in zip(cuts[::2], cuts[1::2], strict=False)]
    return draw(st.permutations(spans))


@given(exclusive_spans(), st.integers(0, 10**6), st.booleans())
def test_the_experiment_of_a_poll_is_the_first_that_one_by_one_would_find(spans, number, old):
    """A poll looks experiments up by layer; who asks why goes through them all. An ineligible one is passed over."""
    versions = {v: (variant(v, min_runtime_version="2.0" if v == 4 and old else ""),) for v in (1, 2, 3, 4)}
    experiments = tuple(
        replace(each, arms=(replace(each.arms[0], version=4 if place % 2 else 2), each.arms[1]))
        for place, each in enumerate(layered(spans))
    )
    catalog = Catalog("demo", "production", 60, CLASSES, {"digits": model(experiments=experiments, versions=versions)})
    looked_up = decide(OLD_PHONE, f"unit-{number}", "digits", catalog)
    assert looked_up == decide(OLD_PHONE, f"unit-{number}", "digits", catalog, trace=[])
    unit_buckets = {layer: bucket(f"unit-{number}", f"layer:{layer}") for layer in range(4)}
    holding = [
        f"e{place}"
        for place, (layer, first, end) in enumerate(spans)
        if first <= unit_buckets[layer] < end and not (old and place % 2)
    ]
    assert looked_up.experiment == (holding[0] if holding else None)


@given(catalogs(), any_profile, any_unit, st.none() | st.integers(0, 10))
def test_a_decision_is_total(catalog, profile, unit, current_version):
    """Every combination of a valid catalog and a bounded request has an answer whose manifest is in the catalog."""
    known = set(catalog.references())
    for name in [*catalog.models, "absent"]:
        found = decide(profile, unit, name, catalog, current_version)
        assert found.manifest is None or found.manifest in known
        assert found == decide(profile, unit, name, catalog, current_version)
        json.dumps(found.to_json())


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10**6))
def test_raising_a_ramp_takes_the_treatment_from_nobody(first, second, number):
    lower, upper = sorted((first, second))
    unit = f"unit-{number}"
    before = decided(unit, experiments=(ramp(lower),))
    after = decided(unit, experiments=(ramp(upper),))
    if before.arm == "treatment":
        assert after.arm == "treatment"
    if upper == 10_000:
        assert after.arm == "treatment"
    if lower == 0:
        assert before.arm is None


def test_a_ramp_admits_the_share_it_names():
    arms = [decided(f"unit-{index}", experiments=(ramp(2000),)).arm for index in range(5000)]
    assert abs(arms.count("treatment") - 1000) < 130
    assert abs(arms.count("control") - 1000) < 130


@pytest.mark.parametrize("case", HAND_WRITTEN)
def test_decisions_worked_out_by_hand(case):
    index, number, name, current, reason, version, chosen = case
    unit = None if number is None else units(number + 1)[number]
    document = VECTORS["profiles"][index]
    profile = DeviceProfile(**document | {"accelerators": frozenset(document["accelerators"])})
    found = decide(profile, unit, name, Catalog.from_json(VECTORS["catalog"]), current)
    assert (found.reason, found.version, found.variant) == (reason, version, chosen)


def test_there_are_enough_vectors():
    assert len(VECTORS["cases"]) >= 500
