"""Protected versions from a release to the tree that devices read, signed by a publisher who looks at the bytes."""

import io
import json

import pytest

from distribution import patches, services
from distribution.device_plane.firebase import Facade
from distribution.errors import ReleasedBytesDiffer
from distribution.explaining import explain
from distribution.models import EncryptedFile, ModelProtection, Patch, Release
from distribution.protection.chunks import ALGORITHM, decrypt
from distribution.protection.configured import key_encryption_keys
from distribution.protection.encrypting import encrypt_pending, unwrapped
from distribution.trust.embedding import embedded
from registry.blob_store import blob_store
from registry.models import Artifact
from tests.distribution.trusted import ENTRY
from tests.sdk.fake_runtime import model_file
from tests.simulators import DeviceSimulator

pytestmark = [pytest.mark.django_db(transaction=True)]
PADDING = 9_000


@pytest.fixture
def protected(world, kek):
    """The world of the other tests, whose second version is protected and released, but not encrypted yet."""
    ModelProtection.objects.create(model=world.application.registered_models.get(), is_on=True)
    version = world.version(2, padding=PADDING)
    services.publish(channel=world.application.channels.get(), version=version, actor="ada", now=world.clock())
    world.run()
    return version


def encrypt(world):
    encrypt_pending(application=world.application, now=world.clock())
    world.run()


def manifest(world, version):
    path = world.tree_folder / "manifests/production/digits"
    found = [json.loads(each.read_bytes())["signed"] for each in path.glob(f"*.{version.number}.tflite-float32.json")]
    return max(found, key=lambda signed: signed["version"])


def test_it_waits_until_it_is_encrypted_and_what_was_there_stays(world, protected):
    release = Release.objects.get(model_version=protected)
    assert release.state == Release.State.WAITING
    encrypt(world)
    release.refresh_from_db()
    assert release.state == Release.State.LIVE


def test_manifest_and_targets_list_the_ciphertext(world, protected):
    encrypt(world)
    signed = manifest(world, protected)
    file = EncryptedFile.objects.select_related("artifact", "plaintext", "content_key").get()
    entry = signed["files"][ENTRY]
    assert (entry["sha256"], entry["length"]) == (file.artifact.sha256, file.artifact.size_bytes)
    assert signed["encryption"] == {
        "algorithm": ALGORITHM,
        "key_id": file.content_key.key_id,
        "files": {ENTRY: {"length": file.plaintext.size_bytes, "sha256": file.plaintext.sha256}},
    }
    targets = world.tree.targets("targets", world.tree.current().role_versions["targets"]).signed.targets
    target = targets[f"models/digits/2/tflite-float32/{ENTRY}"]
    assert (target.hashes["sha256"], target.length) == (entry["sha256"], entry["length"])
    blob = world.tree_folder / f"blobs/sha256/{entry['sha256'][:2]}/{entry['sha256']}"
    secret = unwrapped(file.content_key, key_encryption_keys())
    told = {"sha256": file.plaintext.sha256, "length": file.plaintext.size_bytes}
    assert b"".join(decrypt(io.BytesIO(blob.read_bytes()), key=secret, **told)) == model_file(2, padding=PADDING)


def test_nothing_of_the_plaintext_and_no_key_is_in_the_tree(world, protected):
    encrypt(world)
    file = EncryptedFile.objects.select_related("plaintext", "content_key").get()
    secret = unwrapped(file.content_key, key_encryption_keys())
    plain = model_file(2, padding=PADDING)
    files = [path for path in world.tree_folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        assert plain not in content
        assert secret not in content
        assert secret.hex().encode() not in content
    assert not (world.tree_folder / f"blobs/sha256/{file.plaintext.sha256[:2]}/{file.plaintext.sha256}").exists()


def test_the_manifest_of_a_plain_version_says_nothing_of_encryption(world, protected):
    assert "encryption" not in manifest(world, world.application.registered_models.get().versions.get(number=1))


def test_no_patch_leads_to_it_or_from_it(world, protected):
    """A patch is public, and with the other version tells what is encrypted."""
    encrypt(world)
    ModelProtection.objects.update(is_on=False)
    plain = world.version(3, padding=PADDING)
    services.publish(channel=world.application.channels.get(), version=plain, actor="ada", now=world.clock())
    world.run()
    patches.request_patches(application=world.application, now=world.clock())
    hidden = set(EncryptedFile.objects.values_list("plaintext", flat=True))
    hidden |= set(EncryptedFile.objects.values_list("artifact", flat=True))
    rows = Patch.objects.all()
    assert not hidden & {each for row in rows for each in (row.base_id, row.target_id)}
    services.roll_back(
        channel=world.application.channels.get(),
        model=protected.model,
        to_version=2,
        actor="ada",
        now=world.clock(),
    )
    world.run()
    assert not patches.request_patches(application=world.application, now=world.clock())


def test_the_publisher_does_not_sign_the_ciphertext_of_another_file(world, protected, kek):
    """Whoever can change rows, but has not the publisher's key, cannot slip another model under the encryption."""
    encrypt_pending(application=world.application, now=world.clock())
    file = EncryptedFile.objects.select_related("content_key").get()
    other = world.version(7)
    from distribution.protection import encrypting

    secret = unwrapped(file.content_key, key_encryption_keys())
    plaintext = other.variants.get().files.get(path=ENTRY).artifact
    encrypting._encrypt_file(file.content_key, secret, plaintext, world.clock())
    forged = EncryptedFile.objects.get(plaintext=plaintext).artifact
    EncryptedFile.objects.filter(pk=file.pk).delete()
    EncryptedFile.objects.create(content_key=file.content_key, plaintext_id=file.plaintext_id, artifact_id=forged.pk)
    with pytest.raises(ReleasedBytesDiffer, match="encrypted"):
        world.sign()


def test_the_publisher_does_not_sign_the_plaintext_for_the_ciphertext(world, protected):
    encrypt_pending(application=world.application, now=world.clock())
    file = EncryptedFile.objects.get()
    EncryptedFile.objects.filter(pk=file.pk).delete()
    stranger = Artifact.objects.exclude(pk__in=[file.plaintext_id, file.artifact_id]).first()
    EncryptedFile.objects.create(
        content_key_id=file.content_key_id, plaintext_id=file.plaintext_id, artifact_id=stranger.pk
    )
    with pytest.raises(ReleasedBytesDiffer, match="encrypted"):
        world.sign()


def test_publishing_again_encrypts_and_stores_nothing_new(world, protected):
    encrypt(world)
    before = set(blob_store().storage.listdir("sha256")[0]), Artifact.objects.count()
    assert encrypt_pending(application=world.application, now=world.clock()) == 0
    services.roll_back(channel=world.application.channels.get(), model=protected.model, actor="ada", now=world.clock())
    world.run()
    services.publish(channel=world.application.channels.get(), version=protected, actor="ada", now=world.clock())
    encrypt(world)
    assert (set(blob_store().storage.listdir("sha256")[0]), Artifact.objects.count()) == before
    assert Release.objects.filter(model_version=protected, state=Release.State.LIVE).exists()


def test_what_an_app_embeds_tells_that_it_is_encrypted(world, protected):
    encrypt(world)
    told = embedded(world.application.channels.get(), protected.model)
    assert told["variants"]["tflite-float32"]["manifest"]["signed"]["encryption"]["algorithm"] == ALGORITHM


def test_firebase_s_phones_are_not_given_what_they_cannot_open(world, protected, phones):
    phones.plane.facade = Facade("https://models.example", bytes(32))
    ask = DeviceSimulator(phones.plane).get
    phones.refresh()
    assert ask("/v1beta2/projects/demo/models/digits:download").status == 200
    encrypt(world)
    phones.refresh()
    answer = ask("/v1beta2/projects/demo/models/digits:download")
    assert (answer.status, answer.document["error"]["status"]) == (404, "NOT_FOUND")
    assert "is encrypted" in answer.document["error"]["message"]


def test_explain_tells_that_it_is_encrypted(world, protected):
    channel = world.application.channels.get()
    query = b"os=linux&runtime=litert&runtime_version=1.0"
    assert explain(channel, "digits", query, None).to_json()["encryption"] is None
    encrypt(world)
    key_id = EncryptedFile.objects.get().content_key.key_id
    told = explain(channel, "digits", query, None).to_json()
    assert told["encryption"] == {"algorithm": ALGORITHM, "key_id": key_id}
