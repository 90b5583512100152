import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.device_classes import (
    DeviceClass,
    DeviceProfile,
    Selector,
    SelectorError,
    compare_versions,
    match,
    version_key,
)

VECTORS = json.loads((Path(__file__).parents[2] / "sdk_stubs/vectors/device_classes.json").read_text())

versions = st.lists(st.integers(0, 10**6), min_size=1, max_size=8).map(lambda parts: ".".join(map(str, parts)))
words = st.text("abc-", min_size=1, max_size=4)
selectors = st.builds(
    Selector,
    os=st.lists(words, max_size=2).map(tuple),
    os_version_min=st.none() | versions,
    os_version_max=st.none() | versions,
    app_version_min=st.none() | versions,
    app_version_max=st.none() | versions,
    runtime=st.lists(words, max_size=2).map(tuple),
    runtime_version_min=st.none() | versions,
    runtime_version_max=st.none() | versions,
    ram_mb_min=st.none() | st.integers(0, 10_000),
    ram_mb_max=st.none() | st.integers(0, 10_000),
    soc=st.lists(words, max_size=2).map(tuple),
    accelerators_all=st.lists(words, max_size=2).map(tuple),
    device_include=st.lists(words, max_size=2).map(tuple),
    device_exclude=st.lists(words, max_size=2).map(tuple),
)
profiles = st.builds(
    DeviceProfile,
    os=words,
    os_version=st.just("") | versions,
    app_version=st.just("") | versions,
    ram_mb=st.none() | st.integers(0, 10_000),
    device=words,
    accelerators=st.frozensets(words, max_size=3),
)


def profile_from(document):
    return DeviceProfile(**document | {"accelerators": frozenset(document["accelerators"])})


def test_vectors():
    classes = [DeviceClass.from_json(document) for document in VECTORS["classes"]]
    for case in VECTORS["match"]:
        found = match(profile_from(case["profile"]), classes).device_class
        assert (found.name if found else None) == case["device_class"]
    for case in VECTORS["compare_versions"]:
        assert compare_versions(case["a"], case["b"]) == case["result"]


@pytest.mark.parametrize(
    ("a", "b", "result"),
    [
        ("1.9", "1.10", -1),
        ("14", "14.0.0", 0),
        ("14.0.1", "14", 1),
        ("", "0", 0),
        ("2", "10", -1),
        ("1.2-beta", "1.2", 0),
        ("1.0.0.0.0.0.0.1", "1", 1),
        ("1.0.0.0.0.0.0.0.1", "1", 0),
    ],
)
def test_versions_compare_by_number(a, b, result):
    assert compare_versions(a, b) == result


@given(st.text(max_size=300))
def test_any_text_has_a_version_key(text):
    assert len(version_key(text)) <= 8


@given(versions, versions)
def test_comparison_is_antisymmetric(a, b):
    assert compare_versions(a, b) == -compare_versions(b, a)


@pytest.mark.parametrize(
    ("selector", "profile", "why"),
    [
        (Selector(os=("ios",)), DeviceProfile("android"), "os android is not one of ios"),
        (Selector(os_version_min="10"), DeviceProfile("a", os_version="9.9"), "os_version 9.9 is below 10"),
        (Selector(os_version_max="10"), DeviceProfile("a", os_version="10.1"), "os_version 10.1 is above 10"),
        (Selector(os_version_max="10"), DeviceProfile("a"), "os_version is unknown"),
        (Selector(app_version_min="2"), DeviceProfile("a", app_version="1"), "app_version 1 is below 2"),
        (Selector(runtime=("litert",)), DeviceProfile("a"), "runtime unknown is not one of litert"),
        (Selector(runtime_version_min="2"), DeviceProfile("a", runtime_version="1"), "runtime_version 1 is below 2"),
        (Selector(runtime_version_max="2"), DeviceProfile("a", runtime_version="3"), "runtime_version 3 is above 2"),
        (Selector(ram_mb_min=4000), DeviceProfile("a"), "ram_mb is unknown"),
        (Selector(ram_mb_min=4000), DeviceProfile("a", ram_mb=3999), "ram_mb 3999 is below 4000"),
        (Selector(ram_mb_max=4000), DeviceProfile("a", ram_mb=4001), "ram_mb 4001 is above 4000"),
        (Selector(soc=("SM8550",)), DeviceProfile("a", soc="SM8450"), "soc SM8450 is not one of SM8550"),
        (
            Selector(accelerators_all=("gpu", "npu")),
            DeviceProfile("a", accelerators=frozenset({"gpu"})),
            "accelerators lack npu",
        ),
        (Selector(device_include=("x",)), DeviceProfile("a", device="y"), "device y is not one of x"),
        (Selector(device_exclude=("y",)), DeviceProfile("a", device="y"), "device y is excluded"),
    ],
)
def test_a_condition_that_does_not_hold_says_why(selector, profile, why):
    assert selector.mismatch(profile) == why


def test_bounds_are_inclusive():
    selector = Selector(os_version_min="10", os_version_max="10", ram_mb_min=4000, ram_mb_max=4000)
    assert selector.mismatch(DeviceProfile("a", os_version="10.0", ram_mb=4000)) is None


def test_the_first_class_that_matches_wins_and_earlier_ones_say_why_not():
    classes = [
        DeviceClass("ios", Selector(os=("ios",)), ()),
        DeviceClass("android", Selector(os=("android",)), ()),
        DeviceClass("fallback", Selector(), ()),
    ]
    found = match(DeviceProfile("android"), classes)
    assert found.device_class == classes[1]
    assert found.trace == (("ios", "os android is not one of ios"),)
    assert match(DeviceProfile("web"), classes).device_class == classes[2]
    assert match(DeviceProfile("web"), classes[:2]).device_class is None


@given(selectors)
def test_a_selector_survives_json(selector):
    device_class = DeviceClass("some", selector, ("tflite-float32",), ("npu", "gpu"))
    assert Selector.from_json(json.loads(json.dumps(selector.to_json()))) == selector
    assert DeviceClass.from_json(json.loads(json.dumps(device_class.to_json()))) == device_class


@pytest.mark.parametrize(
    ("selector", "why"),
    [
        (Selector(os_version_min="10.1", os_version_max="10"), "os_version from 10.1 to 10"),
        (Selector(app_version_min="2", app_version_max="1.9"), "app_version from 2 to 1.9"),
        (Selector(runtime_version_min="2", runtime_version_max="1"), "runtime_version from 2 to 1"),
        (Selector(ram_mb_min=4001, ram_mb_max=4000), "ram_mb from 4001 to 4000"),
        (Selector(device_include=("x", "y"), device_exclude=("y", "x", "z")), "each of x, y excluded"),
        (Selector(os_version_min="10", os_version_max="10.0", ram_mb_min=4000, ram_mb_max=4000), None),
        (Selector(device_include=("x", "y"), device_exclude=("y",)), None),
        (Selector(device_exclude=("y",), app_version_min="2", ram_mb_max=0, runtime_version_max="0"), None),
        (Selector(app_version_max="2", ram_mb_min=1), None),
        (Selector(), None),
    ],
)
def test_conditions_that_no_device_can_meet_together_are_told(selector, why):
    assert selector.contradiction() == why


@given(selectors, profiles)
def test_no_device_meets_a_contradiction(selector, profile):
    assert selector.contradiction() is None or selector.mismatch(profile) is not None


@pytest.mark.parametrize("length", [64, 65])
def test_names_and_versions_have_at_most_64_characters(length):
    documents = [
        {"name": "n" * length, "selector": {}},
        {"name": "n", "selector": {"os_version_min": "1" * length}},
    ]
    for document in documents:
        if length == 64:
            DeviceClass.from_json(document)
        else:
            with pytest.raises(SelectorError, match="expected a string of at most 64 characters"):
                DeviceClass.from_json(document)


@given(profiles, st.lists(selectors, max_size=5))
def test_matching_is_total_and_an_empty_selector_takes_every_device(profile, some):
    classes = [DeviceClass(f"c{index}", selector, ()) for index, selector in enumerate(some)]
    found = match(profile, [*classes, DeviceClass("fallback", Selector(), ())])
    assert found.device_class is not None
    assert len(found.trace) == len(classes) or found.device_class in classes


def test_the_fallback_is_an_empty_object():
    assert Selector().to_json() == {}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"os": "android"}, "selector.os: expected a list"),
        ({"ram_mb_min": -1}, "selector.ram_mb_min: expected an integer from 0"),
        ({"ram_mb_min": True}, "selector.ram_mb_min: expected an integer"),
        ({"os_min": "9"}, "selector.os_min: expected one of"),
        ([], "selector: expected an object"),
        ({"soc": [1]}, "selector.soc: expected a list of strings"),
    ],
)
def test_a_malformed_selector_is_refused_with_its_place(document, message):
    with pytest.raises(SelectorError, match=message):
        Selector.from_json(document)
