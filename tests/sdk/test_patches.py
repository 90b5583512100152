"""Client rule 5: a patch where the active file is its base, the whole file wherever anything about that fails."""

import json
from hashlib import sha256

import pytest
from aerogram_sdk.manifest import canonical_bytes

from distribution.deltas.encoder import make_patch
from tests.sdk.conftest import score, staged
from tests.sdk.fake_runtime import model_file
from tests.sdk.repository_simulator import dropped, refused

PADDING = 20_000


@pytest.fixture
def first(client, simulator, server, release):
    found = release(1, padding=PADDING)
    simulator.offer(found)
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    client.flush_events()
    server.requests.clear()
    return found


@pytest.fixture
def second(simulator, release, first):
    found = release(2, padding=PADDING)
    simulator.offer(found)
    simulator.publish()
    return found


def digest_of(release):
    return sha256(release.files["model.json"]).hexdigest()


def listed(simulator, target, entries, *, key="online", of=None):
    signed = {"_type": "aerogram-patches", "spec_version": "1", "target": of or target, "patches": entries}
    signature = simulator.keys[key].sign(canonical_bytes(signed))
    document = {"signed": signed, "signatures": [{"keyid": signature.keyid, "sig": signature.signature}]}
    simulator.static[f"patches/{target}"] = json.dumps(document).encode()


def entry(simulator, patch, base, **changes):
    found = {"from": base, "length": len(patch), "sha256": simulator.put_blob(patch), "algorithm": "weightdiff-1"}
    return found | changes


@pytest.fixture
def patch(simulator, first, second):
    made = make_patch(first.files["model.json"], second.files["model.json"])
    listed(simulator, digest_of(second), [entry(simulator, made, digest_of(first))])
    return made


def updated_by_full_file(client, server, second):
    assert client.update(["digits"])[0].state == "updated"
    assert score(client) == 6.0
    assert server.asked(f"blobs/sha256/{digest_of(second)}")
    return ("download", "failed") in staged(client)


def test_a_patch_of_the_active_file_is_all_that_is_fetched(client, server, second, patch):
    assert client.update(["digits"])[0].state == "updated"
    assert score(client) == 6.0
    assert not server.asked(f"blobs/sha256/{digest_of(second)}")
    assert server.asked(f"blobs/sha256/{sha256(patch).hexdigest()}")


def test_no_list_is_normal(client, server, second):
    assert not updated_by_full_file(client, server, second)


def test_a_first_installation_asks_for_no_list(client, server, simulator, release):
    simulator.offer(release(1))
    simulator.publish()
    client.update(["digits"])
    assert not server.asked("/patches/")


def test_a_damaged_patch_is_reported_and_the_file_fetched_whole(client, simulator, server, first, second, patch):
    damaged = patch[:-1] + bytes([patch[-1] ^ 255])
    listed(simulator, digest_of(second), [entry(simulator, damaged, digest_of(first))])
    assert updated_by_full_file(client, server, second)
    errors = [event["error"] for event in client.pending_events() if event.get("error")]
    assert errors == ["patch_failed"]


@pytest.mark.parametrize("key", ["releases", "targets"])
def test_a_list_signed_by_another_key(client, simulator, server, first, second, patch, key):
    listed(simulator, digest_of(second), [entry(simulator, patch, digest_of(first))], key=key)
    assert updated_by_full_file(client, server, second)


def test_a_list_of_another_file(client, simulator, server, first, second, patch):
    listed(simulator, digest_of(second), [entry(simulator, patch, digest_of(first))], of="0" * 64)
    assert updated_by_full_file(client, server, second)


@pytest.mark.parametrize(
    "changes", [{"algorithm": "bsdiff"}, {"from": "0" * 64}, {"length": 10**6}], ids=lambda changes: next(iter(changes))
)
def test_an_entry_that_cannot_be_used_is_passed_over(client, simulator, server, first, second, patch, changes):
    listed(simulator, digest_of(second), [entry(simulator, patch, digest_of(first), **changes)])
    assert not updated_by_full_file(client, server, second)


@pytest.mark.parametrize("change", [refused(500), dropped(5)], ids=["refused", "dropped"])
@pytest.mark.parametrize("part", ["patches/", "blob"])
def test_a_patch_that_cannot_be_had(client, server, second, patch, part, change):
    server.fault(f"blobs/sha256/{sha256(patch).hexdigest()}" if part == "blob" else part, change)
    assert updated_by_full_file(client, server, second)


def test_a_base_that_was_changed_on_the_device(client, server, first, second, patch, tmp_path):
    (path,) = (tmp_path / "store").rglob("bundles/*/files/model.json")
    path.write_bytes(model_file(9))
    assert client.update(["digits"])[0].state == "updated"
    assert server.asked(f"blobs/sha256/{digest_of(second)}")


def test_nothing_of_a_patch_stays_behind(client, second, patch, tmp_path):
    client.update(["digits"])
    assert not list((tmp_path / "store").rglob("downloads/*"))
