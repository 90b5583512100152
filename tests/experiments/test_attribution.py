"""The table of `attribution`, line by line, with units whose buckets are known."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.attribution import FrozenArm, FrozenPhase, FrozenVariant, arm_of, phases_on
from experiments.bucketing import bucket
from registry.class_index import ClassIndex
from registry.device_classes import DeviceClass, DeviceProfile, Selector
from tests.factories import NOW

HOUR = timedelta(hours=1)
ANDROID = DeviceClass("android", Selector(os=("android",)), ("tflite-float32",))
PHONE = DeviceProfile("android", runtime="litert", runtime_version="2.1")
FLOAT = (FrozenVariant("tflite-float32", "litert"),)
TREATMENT = FrozenArm("treatment", 2, is_control=False, ranges=((0, 2_500),), variants=FLOAT)
CONTROL = FrozenArm("control", 1, is_control=True, ranges=((7_500, 8_000), (9_000, 10_000)), variants=FLOAT)
PHASE = FrozenPhase(
    key=1,
    experiment=1,
    slug="faster",
    number=1,
    channel="production",
    opened_at=NOW,
    closed_at=NOW + HOUR,
    layer_salt="layer",
    layer_range=(1_000, 9_000),
    arm_salt="arm",
    arms=(TREATMENT, CONTROL),
    classes=ClassIndex([ANDROID]),
)


def unit_at(**buckets):
    """A unit that falls into each of the [first, end) under its salt."""
    return next(
        unit
        for unit in map(str, range(1_000_000))
        if all(first <= bucket(unit, salt) < end for salt, (first, end) in buckets.items())
    )


def arm_named(unit, phase=PHASE, profile=PHONE, device_class=ANDROID, unit_key="key"):
    found = arm_of(unit, unit_key, profile, device_class, phase)
    return found and found.name


@pytest.mark.parametrize(
    ("position", "arm"),
    [
        ((0, 5), "treatment"),
        ((2_495, 2_500), "treatment"),
        ((2_500, 2_505), None),
        ((7_495, 7_500), None),
        ((7_500, 7_505), "control"),
        ((8_000, 8_005), None),
        ((9_995, 10_000), "control"),
    ],
)
def test_a_unit_is_of_the_arm_whose_ranges_hold_its_bucket(position, arm):
    assert arm_named(unit_at(layer=(1_000, 9_000), arm=position)) == arm


@pytest.mark.parametrize(
    ("position", "is_in"),
    [((990, 1_000), False), ((1_000, 1_010), True), ((8_990, 9_000), True), ((9_000, 9_010), False)],
)
def test_a_unit_outside_the_layers_range_is_of_no_arm(position, is_in):
    assert (arm_named(unit_at(layer=position, arm=(0, 2_500))) is not None) is is_in


def test_a_unit_in_the_holdback_slice_takes_no_part():
    phase = replace(PHASE, holdback=("held", (0, 200)))
    inside, outside = (unit_at(layer=(1_000, 9_000), arm=(0, 2_500), held=span) for span in ((0, 200), (200, 10_000)))
    assert (arm_named(inside, phase), arm_named(outside, phase)) == (None, "treatment")


def test_a_unit_that_is_absent_or_overridden_takes_no_part():
    unit, phase = unit_at(layer=(1_000, 9_000), arm=(0, 2_500)), replace(PHASE, overrides=frozenset({"key"}))
    everybody = replace(PHASE, layer_range=(0, 10_000), arms=(replace(TREATMENT, ranges=((0, 10_000),)),))
    assert (arm_named("", everybody), arm_named("u", everybody)) == (None, "treatment")
    assert (arm_named(unit, phase), arm_named(unit, phase, unit_key="other")) == (None, "treatment")


def test_a_device_without_class_or_without_a_variant_of_any_one_arm_takes_no_part():
    unit = unit_at(layer=(1_000, 9_000), arm=(0, 2_500))
    apple = replace(CONTROL, variants=(FrozenVariant("coreml-fp16", "coreml"),))
    newer = replace(CONTROL, variants=(replace(FLOAT[0], min_runtime_version="3"),))
    embedded = replace(CONTROL, version=None, variants=None)
    assert arm_named(unit, device_class=None) is None
    nothing_to_run = replace(PHASE, arms=(replace(TREATMENT, version=None, variants=None), embedded))
    assert (arm_named(unit, nothing_to_run, device_class=None), arm_named(unit, nothing_to_run)) == (None, "treatment")
    assert [arm_named(unit, replace(PHASE, arms=(TREATMENT, other))) for other in (apple, newer, embedded)] == [
        None, None, "treatment"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("after", "is_open"),
    [(-timedelta.resolution, False), (0 * HOUR, True), (HOUR - timedelta.resolution, True), (HOUR, False)],
)
def test_a_phase_is_open_from_its_beginning_until_its_end(after, is_open):
    assert PHASE.is_open(NOW + after) is is_open
    assert replace(PHASE, closed_at=None).is_open(NOW + after) is (after >= 0 * HOUR)


def test_a_phase_of_the_channel_that_was_open_then_is_asked():
    beta, later = replace(PHASE, key=2, channel="beta"), replace(PHASE, key=3, opened_at=NOW + HOUR, closed_at=None)
    phases = [PHASE, beta, later]
    assert list(phases_on("production", phases, NOW)) == [PHASE]
    assert list(phases_on("beta", phases, NOW)) == [beta]
    assert list(phases_on("nightly", phases, NOW)) == []
    assert list(phases_on("production", phases, NOW + HOUR)) == [later]


def test_without_a_channel_only_what_can_be_no_other_channels_is_asked():
    beta, second = replace(PHASE, key=2, channel="beta"), replace(PHASE, key=3)
    assert list(phases_on("", [PHASE, second], NOW)) == [PHASE, second]
    assert list(phases_on("", [PHASE, beta], NOW)) == []
    assert list(phases_on("", [PHASE, replace(beta, closed_at=NOW)], NOW)) == [PHASE]
    assert list(phases_on("", [], NOW)) == []


@given(st.from_regex(r"[A-Za-z0-9._:~-]{0,30}", fullmatch=True))
def test_a_units_arm_depends_on_nothing_but_its_buckets(unit):
    expected = None
    if unit and 1_000 <= bucket(unit, "layer") < 9_000:
        position = bucket(unit, "arm")
        expected = (
            "treatment" if position < 2_500 else "control" if 7_500 <= position < 8_000 or position >= 9_000 else None
        )
    assert arm_named(unit) == expected
