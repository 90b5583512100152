"""Patches from a publish to the list that devices read; made in a real process, kept in a real store."""

import hashlib
import io
import json
from datetime import timedelta

import numpy as np
import pytest
from tuf.api.metadata import Key, Signature

from distribution import errors, patches, services, tasks
from distribution.canonical_json import canonical_bytes
from distribution.deltas.decoder import apply_patch
from distribution.models import Patch
from distribution.trust.tree import SignedTree
from registry.blob_store import blob_store
from registry.models import AuditEntry
from tests import factories
from tests.distribution.test_publishing import Publisher
from tests.factories import NOW, Clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


@pytest.fixture
def publisher(tmp_path, services):
    return Publisher(factories.application(), tmp_path / "publisher")


@pytest.fixture
def sent(monkeypatch):
    """Tasks as they would reach the broker: (name, arguments, queue)."""
    found = []
    for task in (tasks.make_patch, tasks.list_patches, tasks.publish_application):
        name = task.name.rpartition(".")[2]
        monkeypatch.setattr(
            task,
            "apply_async",
            lambda arguments, queue=None, retry=True, name=name: found.append((name, tuple(arguments), queue)),
        )
    return found


def weights(step, size=60_000):
    """Fine-tuned a little `step` times."""
    values = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    for number in range(step):
        values = values + (np.random.default_rng(10 + number).random(size) < 0.03).astype(np.uint8)
    return values.tobytes()


def released(publisher, content):
    version = factories.version(publisher.application)
    factories.variant(version, contents={"model.tflite": content})
    services.publish(channel=publisher.application.channels.get(), version=version, actor="ada", now=NOW)
    publisher.run()
    return hashlib.sha256(content).hexdigest()


def request(publisher):
    return patches.request_patches(application=publisher.application, now=NOW)


def make_all(publisher):
    for row in Patch.objects.filter(state=Patch.State.WAITING).order_by("id"):
        patches.make_patch(patch_id=row.pk, clock=Clock())
    patches.list_again(application=publisher.application)


def listed(publisher, target):
    content = SignedTree(blob_store(), publisher.application.slug).read_patches(target)
    return json.loads(content) if content else None


def test_a_second_version_is_offered_as_a_patch_of_the_first(publisher, sent):
    base = released(publisher, weights(0))
    target = released(publisher, weights(1))
    request(publisher)
    assert listed(publisher, target) is None
    make_all(publisher)
    document = listed(publisher, target)
    (entry,) = document["signed"]["patches"]
    assert (entry["from"], entry["algorithm"]) == (base, "weightdiff-1")
    assert entry["length"] < 0.3 * 60_000
    tree = publisher.tree
    patch = tree.read(f"blobs/sha256/{entry['sha256'][:2]}/{entry['sha256']}")
    result = io.BytesIO()
    apply_patch(io.BytesIO(patch), io.BytesIO(weights(0)), result, sha256=target, length=60_000)
    assert result.getvalue() == weights(1)


def test_the_list_is_signed_with_the_snapshot_key(publisher, sent):
    released(publisher, weights(0))
    target = released(publisher, weights(1))
    request(publisher)
    make_all(publisher)
    document = listed(publisher, target)
    root = publisher.tree.root().signed
    signed_by = [root.keys[keyid] for keyid in root.roles["snapshot"].keyids]
    (signature,) = document["signatures"]
    key: Key = signed_by[0]
    key.verify_signature(Signature(signature["keyid"], signature["sig"]), canonical_bytes(document["signed"]))


def test_a_publish_asks_for_patches_and_waits_for_none(publisher, sent):
    released(publisher, weights(0))
    released(publisher, weights(1))
    tasks.publish_application(publisher.application.pk)
    assert [(name, queue) for name, _, queue in sent if name == "make_patch"] == [("make_patch", "light")]
    sent.clear()
    tasks.publish_application(publisher.application.pk)
    assert not [name for name, *_ in sent if name == "make_patch"]


def test_the_last_five_published_and_what_apps_ship_with_are_bases(publisher, sent):
    digests = [released(publisher, weights(step)) for step in range(7)]
    embedded = factories.artifact(weights(0, 50_000))
    patches.register_embedded(
        application=publisher.application,
        model=publisher.application.registered_models.get(),
        artifact=embedded,
        file_name="digits.tflite",
        actor="ada",
        now=NOW,
    )
    rows = Patch.objects.filter(target__sha256=digests[-1])
    assert {row.base.sha256 for row in rows} == {*digests[1:6], embedded.sha256}
    assert AuditEntry.objects.filter(verb="register_embedded_model").count() == 1


def test_a_rollback_is_patched_too(publisher, sent):
    first, second = released(publisher, weights(0)), released(publisher, weights(1))
    request(publisher)
    channel = publisher.application.channels.get()
    model = publisher.application.registered_models.get()
    services.roll_back(channel=channel, model=model, actor="ada", now=NOW)
    publisher.run()
    request(publisher)
    assert {(row.base.sha256, row.target.sha256) for row in Patch.objects.all()} == {(first, second), (second, first)}


def test_a_patch_that_saves_too_little_is_not_offered(publisher, sent):
    released(publisher, np.random.default_rng(5).bytes(60_000))
    target = released(publisher, np.random.default_rng(6).bytes(60_000))
    request(publisher)
    make_all(publisher)
    assert Patch.objects.get().state == Patch.State.NOT_WORTH_IT
    assert listed(publisher, target) is None


def test_a_base_above_the_cap_gets_no_patch(publisher, sent, settings):
    settings.AEROGRAM_PATCH_MEMORY_MIB = 256
    released(publisher, weights(0))
    released(publisher, weights(1))
    request(publisher)
    make_all(publisher)
    assert Patch.objects.get().state == Patch.State.TOO_LARGE


def test_a_process_that_runs_out_of_memory_fails_alone(publisher, sent, settings, monkeypatch):
    settings.AEROGRAM_PATCH_MEMORY_MIB = 20
    monkeypatch.setattr(patches, "largest_bytes", lambda: 1 << 30)
    released(publisher, weights(0))
    released(publisher, weights(1))
    request(publisher)
    make_all(publisher)
    row = Patch.objects.get()
    assert (row.state, row.sha256) == (Patch.State.FAILED, "")
    assert row.detail.startswith("exit code")


def test_small_files_and_sanity_vectors_are_fetched_whole(publisher, sent):
    released(publisher, weights(0, 1_000))
    released(publisher, weights(1, 1_000))
    assert request(publisher) == []


def test_a_list_is_signed_again_only_when_it_changed_or_the_key_did(publisher, sent):
    released(publisher, weights(0))
    target = released(publisher, weights(1))
    request(publisher)
    make_all(publisher)
    first = listed(publisher, target)
    assert patches.list_again(application=publisher.application) == 0
    assert listed(publisher, target) == first


def test_lost_tasks_are_sent_again(publisher, sent):
    released(publisher, weights(0))
    released(publisher, weights(1))
    request(publisher)
    sent.clear()
    assert patches.request_again(older_than=NOW) == 0
    assert patches.request_again(older_than=NOW + timedelta(minutes=31)) == 1
    assert [name for name, *_ in sent] == ["make_patch"]


def test_a_digest_that_nobody_published_is_refused(publisher):
    with pytest.raises(errors.EmbeddedFileUnknown):
        patches.artifact_in_use(application=publisher.application, sha256="0" * 64)
