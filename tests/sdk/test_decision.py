"""The decision on the device, by the vectors that bind every implementation."""

import json

import pytest
from aerogram_sdk import DeviceProfile
from aerogram_sdk.bucketing import boundary, bucket, in_range, truncated_hash
from aerogram_sdk.catalog import Catalog
from aerogram_sdk.decision import decide, override_key
from aerogram_sdk.device_classes import match
from aerogram_sdk.errors import CatalogMalformed
from aerogram_sdk.manifest import canonical_bytes
from aerogram_sdk.versions import compare_versions
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import Signature
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Key, Targets

from sdk_stubs.vectors import generate
from tests.sdk.conftest import SDK

VECTORS = {
    name: json.loads((SDK.parent / "vectors" / f"{name}.json").read_text("utf-8"))
    for name in ("buckets", "device_classes", "decisions", "catalogs", "signatures")
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


@pytest.mark.parametrize("case", VECTORS["catalogs"]["refused"], ids=lambda case: case["name"])
def test_a_catalog_that_leaves_something_to_guess_is_refused(case):
    with pytest.raises(CatalogMalformed, match=r"^catalog\."):
        Catalog.from_json(case["catalog"])


@pytest.mark.parametrize("case", VECTORS["catalogs"]["accepted"], ids=lambda case: case["name"])
def test_a_catalog_that_leaves_nothing_to_guess(case):
    assert Catalog.from_json(case["catalog"]).application == "demo"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"_type": "x"}, "catalog._type: expected one of aerogram-catalog, got 'x'"),
        ({"poll_after_seconds": 0}, "catalog.poll_after_seconds: expected an integer of 1 or more, got 0"),
        ({"device_classes": [{"name": "any"}]}, r"catalog.device_classes\[0\].selector: expected an object, got None"),
        ({"models": {"digits": {"current": "4"}}}, "catalog.models.digits.current: expected an integer of 1 or more"),
    ],
)
def test_a_refusal_says_where_and_what(changes, told):
    with pytest.raises(CatalogMalformed, match=told):
        catalog(**changes)


@pytest.mark.parametrize("document", [None, [], "catalog", {}])
def test_no_catalog_at_all(document):
    with pytest.raises(CatalogMalformed):
        Catalog.from_json(document)


class TestSignatures:
    """This SDK verifies by the stock TUF client's code; the vectors are what it and the others must agree on."""

    VECTORS = VECTORS["signatures"]

    def verify(self, case):
        keys = {keyid: Key.from_dict(keyid, dict(self.VECTORS["keys"][keyid])) for keyid in case["keyids"]}
        role = DelegatedRole("releases-production", case["keyids"], case["threshold"], terminating=True, paths=["*"])
        signatures = {each["keyid"]: Signature(each["keyid"], each["sig"]) for each in case["envelope"]["signatures"]}
        signed = canonical_bytes(case["envelope"]["signed"])
        Targets(delegations=Delegations(keys, {role.name: role})).verify_delegate(role.name, signed, signatures)

    @pytest.mark.parametrize("case", VECTORS["accepted"], ids=lambda case: case["name"])
    def test_accepted(self, case):
        self.verify(case)

    @pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
    def test_refused(self, case):
        with pytest.raises(UnsignedMetadataError):
            self.verify(case)


def test_the_vectors_are_what_this_version_computes():
    assert generate.stale() == []
