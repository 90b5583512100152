"""Every way a server, a network or a publisher can be wrong: named, reported by stage, and the model keeps running."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from aerogram_sdk import AerogramClient, Conditions, SignatureSchema, errors
from aerogram_sdk.activator import device_errors
from securesystemslib.signer import CryptoSigner

from tests.sdk.conftest import score, staged
from tests.sdk.fake_runtime import SCHEMA, model_file
from tests.sdk.repository_simulator import Release, dropped, extended, flipped, refused, replayed, shortened, stamp

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture
def assert_refused(client) -> Callable[..., errors.AerogramError]:
    """Update, and see the refusal in the outcome, in the events and in what still runs."""

    def check(
        error: type[errors.AerogramError],
        stage: str,
        *,
        state: str = "refused",
        runs: float = 3.0,
        by: AerogramClient | None = None,
    ) -> errors.AerogramError:
        device = by or client
        (outcome,) = device.update(["digits"])
        assert outcome.error is not None, outcome
        assert type(outcome.error) is error, outcome.error
        assert (outcome.state, outcome.error.stage) == (state, stage)
        failed = [event for event in device.pending_events() if event["outcome"] == "failed"]
        told = [(event["stage"], event["error"]) for event in failed if event["error"] != "held_back"]
        assert told == [(stage, error.code)]
        assert score(device) == runs
        return outcome.error

    return check


@pytest.fixture
def second(installed, simulator, release) -> Release:
    """Version 2 is offered and published, large enough to break in the middle."""
    second = release(2, padding=200_000)
    simulator.offer(second)
    simulator.publish()
    return second


@pytest.fixture
def blob(second, simulator) -> str:
    digest = simulator.put_blob(second.files["model.json"])
    return f"blobs/sha256/{digest}"


# -- files


def test_flipped_byte_in_a_blob(assert_refused, server, blob, client):
    server.fault(blob, flipped(1000))
    assert_refused(errors.HashMismatch, "verify")
    server.heal()
    assert client.update(["digits"])[0].state == "updated", "what arrived wrong must not be kept"


@pytest.mark.parametrize("fault", [shortened(100), dropped(1000)], ids=["whole answer too short", "connection broken"])
def test_truncated_download(assert_refused, server, blob, fault):
    server.fault(blob, fault)
    assert_refused(errors.DownloadTruncated, "download", state="unavailable")


@pytest.mark.parametrize("announced", [True, False])
def test_longer_file_than_listed(assert_refused, server, blob, tmp_path, announced):
    server.fault(blob, extended(b"!" * 100_000, announced=announced))
    assert_refused(errors.DownloadTooLong, "download")
    assert not [path for path in (tmp_path / "store").rglob("*.part") if path.stat().st_size > 200_000]


def test_missing_blob(assert_refused, server, blob):
    server.fault(blob, refused(404))
    assert_refused(errors.DownloadUnavailable, "download", state="unavailable")


def test_file_absent_from_the_publishers_targets(assert_refused, simulator, installed, server):
    unpublished = Release("digits", 2, "numpy-float", {"model.json": model_file(2)}, counter=2)
    simulator.put_blob(unpublished.files["model.json"])
    simulator.offer(unpublished)
    simulator.publish()
    assert_refused(errors.FileNotPublished, "verify")
    assert server.asked("/blobs/") == []
    assert len(server.asked("/manifests")) == 2, "polls once more before it is an error"


def test_file_listed_with_another_hash(assert_refused, simulator, second):
    forged = Release("digits", 2, "numpy-float", second.files | {"model.json": model_file(66)}, counter=2)
    simulator.put_blob(forged.files["model.json"])
    simulator.offer(forged)
    simulator.publish()
    assert_refused(errors.FileNotAsPublished, "verify")


@pytest.mark.parametrize(
    "change", [{"model": "faces"}, {"model_version": 3}, {"variant": "other"}, {"release_counter": 99}], ids=str
)
def test_file_published_for_another_release(assert_refused, simulator, second, change):
    simulator.targets.targets[second.target("model.json")].unrecognized_fields["custom"] |= change
    simulator.publish()
    assert_refused(errors.FileOfAnotherRelease, "verify")


def test_below_the_minimum_release_counter(assert_refused, simulator, second):
    simulator.raise_minimum("digits", 3)
    simulator.publish()
    assert_refused(errors.ReleaseWithdrawn, "verify")


def test_minimum_missing_is_refused(assert_refused, simulator, second):
    del simulator.targets.targets[second.target("model.json")].unrecognized_fields["custom"]["minimum_release_counter"]
    simulator.publish()
    assert_refused(errors.ReleaseWithdrawn, "verify")


# -- the manifest


def resigned(simulator, release, key=None, **changes):
    version = simulator.manifest_versions["digits"]
    return simulator.sign_manifest(simulator.manifest(release, version) | changes, key)


def test_manifest_signed_by_another_key(assert_refused, simulator, second):
    simulator.answer("digits", resigned(simulator, second, CryptoSigner.generate_ecdsa()))
    assert_refused(errors.ManifestUnsigned, "verify")


def test_manifest_signed_by_another_role(assert_refused, simulator, second):
    simulator.answer("digits", resigned(simulator, second, simulator.keys["targets"]))
    assert_refused(errors.ManifestUnsigned, "verify")


def test_manifest_signed_by_another_key_under_the_right_keyid(assert_refused, simulator, second):
    manifest = resigned(simulator, second, CryptoSigner.generate_ecdsa())
    manifest["signatures"][0]["keyid"] = simulator.keys["releases"].public_key.keyid
    simulator.answer("digits", manifest)
    assert_refused(errors.ManifestUnsigned, "verify")


def test_manifest_changed_after_signing(assert_refused, simulator, second):
    simulator.entries["digits"]["manifest"]["signed"]["entry"] = "sanity.json"
    assert_refused(errors.ManifestUnsigned, "verify")


def test_below_the_threshold_of_the_releases_role(assert_refused, simulator, second):
    other = CryptoSigner.generate_ecdsa()
    simulator.targets.add_key(other.public_key, simulator.role)
    simulator.targets.delegations.roles[simulator.role].threshold = 2
    simulator.cosigners[simulator.role] = [other]
    simulator.publish()
    simulator.entries["digits"]["manifest"]["signatures"] *= 2
    assert_refused(errors.ManifestUnsigned, "verify")


def test_manifest_for_another_application(assert_refused, simulator, second):
    simulator.answer("digits", resigned(simulator, second, application="another"))
    assert_refused(errors.ManifestWrongApplication, "verify")


def test_manifest_for_another_channel(assert_refused, simulator, second):
    simulator.answer("digits", resigned(simulator, second, channel="staging"))
    assert_refused(errors.ManifestWrongChannel, "verify")


def test_manifest_for_another_model(assert_refused, simulator, second):
    faces = simulator.release(Release("faces", 2, "numpy-float", second.files, counter=2))
    simulator.answer("digits", simulator.offer(faces)["manifest"])
    simulator.publish()
    assert_refused(errors.ManifestWrongModel, "verify")


def test_expired_manifest(assert_refused, simulator, second):
    simulator.offer(second, expires=stamp(YESTERDAY))
    simulator.publish()
    assert_refused(errors.ManifestExpired, "verify")


def test_older_manifest_replayed(assert_refused, simulator, client, installed, second):
    old = resigned(simulator, installed, version=1)
    assert client.update(["digits"])[0].state == "updated"
    simulator.answer("digits", old)
    assert_refused(errors.ManifestReplayed, "verify", runs=6.0)


def test_replay_is_refused_by_memory_alone(assert_refused, simulator, client, installed, second):
    old = resigned(simulator, installed, version=1)
    assert client.update(["digits"])[0].state == "updated"
    simulator.answer("digits", old)
    simulator.manifest_versions["digits"] = 1
    simulator.publish()
    assert_refused(errors.ManifestReplayed, "verify", runs=6.0)


def test_manifest_behind_the_release_index(assert_refused, simulator, second, server):
    simulator.manifest_versions["digits"] += 1
    simulator.publish()
    assert_refused(errors.ManifestNotCurrent, "verify")
    assert len(server.asked("/manifests")) == 2
    assert len(server.asked("trust/timestamp.json")) == 2


def test_manifest_not_in_the_release_index(assert_refused, simulator, second):
    del simulator.manifest_versions["digits"]
    simulator.publish()
    assert_refused(errors.ManifestNotCurrent, "verify")


@pytest.mark.parametrize(
    "change",
    [
        {"spec_version": "2"},
        {"_type": "targets"},
        {"directive": "delete"},
        {"version": "2"},
        {"files": {}},
        {"files": {"../model.json": {"length": 1, "sha256": "0" * 64}}},
        {"entry": "other.json"},
        {"expires": "tomorrow"},
        {"sanity": {"path": "other.json", "tolerance": "0"}},
    ],
    ids=str,
)
def test_malformed_manifest(assert_refused, simulator, second, change):
    simulator.answer("digits", resigned(simulator, second, **change))
    assert_refused(errors.ManifestMalformed, "verify")


@pytest.mark.parametrize("manifest", [[], {"signed": {}}, {"signed": {"a": 1.5}, "signatures": []}], ids=str)
def test_something_that_is_no_manifest(assert_refused, simulator, installed, manifest):
    simulator.answer("digits", manifest)
    assert_refused(errors.ManifestMalformed, "verify")


# -- trust metadata


def test_expired_timestamp(assert_refused, simulator, second):
    simulator.timestamp.expires = YESTERDAY.replace(microsecond=0)
    simulator.publish()
    assert_refused(errors.MetadataExpired, "verify")


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets", "delegated"])
def test_metadata_expired_by_a_clock_that_is_ahead(assert_refused, simulator, second, new_client, role):
    for other in ("root", "timestamp", "snapshot", "targets", "delegated"):
        getattr(simulator, other).expires += timedelta(days=0 if other == role else 30)
    simulator.root.version += 1
    simulator.sign_root()
    simulator.publish()
    ahead = new_client(clock=lambda: datetime.now(UTC) + timedelta(days=8))
    assert_refused(errors.MetadataExpired, "verify", by=ahead)


def test_timestamp_rolled_back(assert_refused, simulator, server, client, second):
    old = simulator.static["trust/timestamp.json"]
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    simulator.offer(second, version=9)
    server.fault("trust/timestamp.json", replayed(old))
    assert_refused(errors.MetadataRolledBack, "verify", runs=6.0)


def test_snapshot_dropping_a_role(assert_refused, simulator, second):
    simulator.publish()
    del simulator.snapshot.meta[f"{simulator.role}.json"]
    simulator.sign_snapshot()
    assert_refused(errors.MetadataInvalid, "verify")


@pytest.mark.parametrize("role", ["targets", "releases", "online"])
def test_metadata_signed_by_another_key(assert_refused, simulator, second, role):
    right = simulator.keys[role]
    simulator.keys[role] = CryptoSigner.generate_ecdsa()
    simulator.publish()
    simulator.keys[role] = right
    assert_refused(errors.MetadataUnsigned, "verify")


def test_metadata_that_is_no_metadata(assert_refused, server, second):
    server.fault("trust/timestamp.json", replayed(b"{}"))
    assert_refused(errors.MetadataInvalid, "verify")


def test_metadata_larger_than_any_metadata(assert_refused, server, second):
    server.fault("trust/timestamp.json", extended(b" " * 20_000))
    assert_refused(errors.MetadataInvalid, "verify")


def test_release_index_without_versions(assert_refused, simulator, second):
    simulator.delegated.targets["catalogs/production.json"].unrecognized_fields["custom"] = {
        "manifest_versions": {"digits": "2"}
    }
    simulator.sign_delegated()
    assert_refused(errors.MetadataInvalid, "verify")


@pytest.mark.parametrize("fault", [refused(503), dropped(0), dropped(50)], ids=["503", "no answer", "broken"])
def test_trust_metadata_not_to_be_had(assert_refused, server, second, fault):
    server.fault("trust/timestamp.json", fault)
    assert_refused(errors.TrustUnavailable, "offered", state="unavailable")


# -- the model


def test_sanity_mismatch(assert_refused, simulator, installed, release, tmp_path):
    simulator.offer(release(2, sanity_factor=2.5))
    simulator.publish()
    assert_refused(errors.SanityMismatch, "sanity")
    assert list((tmp_path / "store/demo/staging").iterdir()) == []


def test_manifest_cannot_loosen_the_publishers_tolerance(assert_refused, simulator, installed, release):
    simulator.offer(release(2, sanity_factor=2.5, tolerance="100"))
    simulator.publish()
    assert_refused(errors.SanityMismatch, "sanity")


def test_sanity_vectors_that_cannot_be_read(assert_refused, simulator, installed, release):
    broken = release(2)
    broken.files["sanity.json"] = b'{"tolerance": "0.1", "samples": [{"inputs": 3}]}'
    simulator.offer(simulator.release(broken))
    simulator.publish()
    assert_refused(errors.SanityInvalid, "sanity")


def test_load_failure(assert_refused, simulator, installed, release):
    simulator.offer(release(2, model=json.dumps({"magic": "something else"}).encode()))
    simulator.publish()
    assert_refused(errors.LoadFailed, "compile")


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": []},
        {"inputs": [SCHEMA["inputs"][0] | {"shape": [1, 3]}]},
        {"outputs": [SCHEMA["outputs"][0] | {"dtype": "int32"}]},
    ],
    ids=["no input", "other shape", "other type"],
)
def test_schema_not_accepted(assert_refused, new_client, server, simulator, installed, release, change):
    simulator.offer(release(2, schema=SCHEMA | change))
    simulator.publish()
    picky = new_client(accepts={"digits": SignatureSchema.from_json(SCHEMA)})
    assert_refused(errors.SchemaNotAccepted, "offered", by=picky)
    assert server.asked("/blobs/") == []


def test_schema_missing_where_one_is_wanted(assert_refused, new_client, simulator, installed, release):
    simulator.offer(release(2, schema=None))
    simulator.publish()
    picky = new_client(accepts={"digits": SignatureSchema.from_json(SCHEMA)})
    assert_refused(errors.SchemaNotAccepted, "offered", by=picky)


@pytest.mark.parametrize("change", [{"runtime": "coreml"}, {"min_runtime": "1.1"}], ids=str)
def test_runtime_not_carried(assert_refused, simulator, second, change):
    simulator.offer(second, **change)
    simulator.publish()
    assert_refused(errors.RuntimeUnsupported, "offered")


# -- the device


def test_no_space(assert_refused, server, second, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100_000))
    assert_refused(errors.NoSpace, "download")
    assert server.asked("/blobs/") == []


@pytest.mark.parametrize(("number", "error"), [(28, errors.NoSpace), (30, errors.StoreFailed)], ids=["ENOSPC", "EROFS"])
def test_what_the_operating_system_refuses(number, error):
    with pytest.raises(error), device_errors():
        raise OSError(number, "told so")


@pytest.mark.parametrize(
    ("policy", "conditions"),
    [
        ({"wifi_only": True}, Conditions(metered=True)),
        ({"charging_only": True}, Conditions(charging=False)),
        ({"max_cellular_bytes": 1000}, Conditions(metered=True)),
    ],
    ids=["wifi only", "charging only", "too large"],
)
def test_policy_asks_to_wait(assert_refused, new_client, simulator, second, policy, conditions):
    simulator.offer(second, policy=policy)
    simulator.publish()
    assert_refused(errors.PolicyDeferred, "offered", state="unavailable", by=new_client(conditions=lambda: conditions))


def test_policy_is_met(new_client, simulator, second):
    policy = {"wifi_only": True, "charging_only": True, "max_cellular_bytes": 1}
    simulator.offer(second, policy=policy)
    simulator.publish()
    assert new_client(conditions=Conditions).update(["digits"])[0].state == "updated"


def test_store_that_cannot_be_used(client, server, second, tmp_path):
    lock = next((tmp_path / "store").rglob("install.lock"))
    lock.unlink()
    lock.mkdir()
    (outcome,) = client.update(["digits"])
    assert (outcome.state, type(outcome.error)) == ("refused", errors.StoreFailed)
    assert score(client) == 3.0


# -- the poll


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (refused(503, Retry_After="7200"), errors.PollFailed),
        (refused(404), errors.PollFailed),
        (dropped(0), errors.PollFailed),
        (dropped(20), errors.PollFailed),
        (replayed(b"<html>"), errors.PollMalformed),
        (replayed(b"[]"), errors.PollMalformed),
        (replayed(b'{"models": {}}'), errors.PollMalformed),
        (replayed(b'{"models": {"digits": 1}}'), errors.PollMalformed),
        (extended(b" " * (5 << 20)), errors.PollMalformed),
    ],
    ids=[
        "503",
        "404",
        "no answer",
        "broken",
        "no JSON",
        "a list",
        "model missing",
        "no object",
        "too large",
    ],
)
def test_poll_without_an_answer(client, server, second, fault, error):
    server.fault("/manifests", fault)
    (outcome,) = client.update(["digits"])
    assert (outcome.state, type(outcome.error), outcome.version) == ("unavailable", error, 1)
    assert staged(client) == [], "a poll that failed assigned nothing"
    assert score(client) == 3.0


def test_poll_is_not_followed_elsewhere(client, server, second):
    """Another host must not learn the installation id."""
    server.fault("/manifests", refused(302, Location=server.url + "/v1/apps/demo/elsewhere"), times=1)
    assert type(client.update(["digits"])[0].error) is errors.PollFailed
    assert server.asked("elsewhere") == []


def test_retry_after_is_kept(client, server, second):
    server.fault("/manifests", refused(503, Retry_After="7200"))
    (outcome,) = client.update(["digits"])
    assert outcome.error.status == 503
    assert 7200 <= outcome.next_poll_seconds <= 8640


def test_one_bad_model_does_not_sink_the_others(client, simulator, installed, release):
    other = simulator.release(Release("faces", 1, "numpy-float", {"model.json": model_file(5)}))
    simulator.offer(other)
    simulator.offer(release(2, sanity_factor=9))
    simulator.publish()
    outcomes = client.update(["digits", "faces"])
    assert [(outcome.model, outcome.state) for outcome in outcomes] == [("digits", "refused"), ("faces", "updated")]
