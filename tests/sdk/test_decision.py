"""The decision on the device, by the vectors that bind every implementation."""

import copy
import json

import pytest
from aerogram_sdk import DeviceProfile
from aerogram_sdk.bucketing import boundary, bucket, in_range, truncated_hash
from aerogram_sdk.catalog import Catalog
from aerogram_sdk.decision import decide, override_key
from aerogram_sdk.device_classes import match
from aerogram_sdk.errors import CatalogMalformed
from aerogram_sdk.versions import compare_versions
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.conftest import SDK

VECTORS = {
    name: json.loads((SDK.parent / "vectors" / f"{name}.json").read_text("utf-8"))
    for name in ("buckets", "device_classes", "decisions")
}
DECISIONS = VECTORS["decisions"]
MEMBERS = ("reason", "version", "variant", "experiment", "phase", "arm", "device_class")


def profile_of(document):
    return DeviceProfile(**document | {"accelerators": frozenset(document["accelerators"])})


def catalog(**changes):
    return Catalog.from_json(DECISIONS["catalog"] | changes)


class TestBuckets:
    VECTORS = VECTORS["buckets"]

    @pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['unit'][:8]}-{case['salt'][:5]}")
    def test_hash_and_bucket(self, case):
        assert truncated_hash(case["unit"], case["salt"]).hex() == case["hash"]
        assert bucket(case["unit"], case["salt"]) == case["bucket"]

    def test_boundaries_ranges_and_nimbus(self):
        for case in self.VECTORS["boundaries"]:
            assert boundary(case["index"]) == case["value"]
        for case in self.VECTORS["ranges"]:
            assert in_range(case["bucket"], tuple(case["range"])) is case["inside"]
        for case in self.VECTORS["nimbus"]:
            assert in_range(bucket(case["unit"], case["salt"]), tuple(case["range"])) is case["inside"]
        for case in self.VECTORS["overrides"]:
            assert override_key(case["salt"], case["unit"]) == case["key"]

    @given(st.integers(0, 9_999), st.sampled_from([-1, 0, 1]))
    def test_hashes_at_a_boundary(self, index, off):
        """No unit can be found whose hash is exactly a boundary, so hashes are made."""
        hashed = min(max(boundary(index) + off, 0), 2**48 - 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aerogram_sdk.bucketing.truncated_hash", lambda *_: hashed.to_bytes(6, "big"))
            position = bucket("unit", "salt")
        assert boundary(position) <= hashed < boundary(position + 1)

    def test_the_last_hash_belongs_to_the_last_bucket(self, monkeypatch):
        monkeypatch.setattr("aerogram_sdk.bucketing.truncated_hash", lambda *_: b"\xff" * 6)
        assert bucket("unit", "salt") == 9_999


class TestDeviceClasses:
    VECTORS = VECTORS["device_classes"]

    def test_versions(self):
        for case in self.VECTORS["compare_versions"]:
            assert compare_versions(case["a"], case["b"]) == case["result"], case

    @pytest.mark.parametrize(("name", "left_out"), [("match", 0), ("match_without_fallback", 1)])
    def test_match(self, name, left_out):
        documents = self.VECTORS["classes"][: len(self.VECTORS["classes"]) - left_out]
        classes = catalog(device_classes=documents, models={}).device_classes
        for case in self.VECTORS[name]:
            found = match(profile_of(case["profile"]), classes)
            assert (found.name if found else None) == case["device_class"], case


def test_decisions():
    parsed, profiles = catalog(), [profile_of(document) for document in DECISIONS["profiles"]]
    for case in DECISIONS["cases"]:
        found = decide(profiles[case["profile"]], case["unit"], case["model"], parsed, case["current_version"])
        told = {name: getattr(found, name) for name in MEMBERS if getattr(found, name) is not None}
        assert told == case["decision"], case
        assert (found.manifest.path if found.manifest else None) == case["manifest"], case


def changed(path, value):
    document = copy.deepcopy(DECISIONS["catalog"])
    *parents, last = path
    place = document
    for name in parents:
        place = place[name]
    place[last] = value
    return document


RAMP = ("models", "ramped", "experiments", 0)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("_type",), "aerogram-manifest", r"catalog._type: expected one of aerogram-catalog"),
        (("spec_version",), "2", r"catalog.spec_version"),
        (("application",), "../demo", r"catalog.application"),
        (("poll_after_seconds",), 0, r"integer of 1 or more, got 0"),
        (("poll_after_seconds",), True, r"integer of 1 or more, got True"),
        (
            ("device_classes", 0, "selector"),
            {"battery_min": 50},
            r"battery_min: expected a condition this version knows",
        ),
        (("device_classes", 0, "selector"), {"os": "ios"}, r"device_classes\[0\].selector.os: expected a list"),
        (("device_classes", 0, "name"), "fallback", r"unique names"),
        (("models",), {"Digits": {}}, r"names like"),
        (("models", "plain", "current"), 9, r"version 9, which something names"),
        (("models", "plain", "versions", "04"), {"variants": []}, r"versions: expected names like"),
        (("models", "plain", "no_unit"), "newest", r"one of current, none"),
        (("models", "plain", "floors"), [True], r"list of integers"),
        (("models", "floored", "floors"), [2], r"version 2, which something names"),
        (("models", "ramped", "holdback", "range"), [0, 10_001], r"bucket ranges"),
        (("models", "ramped", "holdback", "version"), 9, r"version 9"),
        (("models", "ramped", "overrides", "salt"), 'a"b', r"overrides.salt: expected a string like"),
        (("models", "ramped", "overrides", "units"), {"unit": 3}, r"units: expected names like"),
        ((*RAMP, "kind"), "canary", r"kind: expected one of"),
        ((*RAMP, "state"), "paused", r"state: expected one of"),
        ((*RAMP, "arms", 0, "ranges"), [[0, 7501]], r"bucket 7500 in one"),
        ((*RAMP, "arms", 0, "control"), True, r"at most one control"),
        ((*RAMP, "arms", 0, "version"), 9, r"version 9"),
        (("models", "compared", "experiments", 1, "layer", "range"), [5999, 9000], r"bucket 5999 in one"),
        (
            ("models", "killed", "kill_switch", "manifest", "path"),
            "../x.json",
            r"manifest.path: expected a string like",
        ),
    ],
)
def test_a_catalog_that_leaves_something_to_guess_is_refused(path, value, told):
    with pytest.raises(CatalogMalformed, match=told):
        Catalog.from_json(changed(path, value))


@pytest.mark.parametrize("document", [None, [], "catalog", {}])
def test_no_catalog_at_all(document):
    with pytest.raises(CatalogMalformed):
        Catalog.from_json(document)


def test_members_of_a_newer_version_are_ignored():
    assert Catalog.from_json(DECISIONS["catalog"] | {"colour": "blue"}) == catalog()
