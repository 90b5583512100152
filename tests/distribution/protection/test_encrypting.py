"""Released variants of protected models on their way into the store, encrypted; on real rows and a real store."""

import io
import logging
from base64 import b64encode

import pytest
from django.db import DatabaseError, connection, transaction

from distribution import services, tasks
from distribution.models import ContentKey, EncryptedFile, EncryptedVariant, ModelProtection, Release
from distribution.protection import encrypting, errors
from distribution.protection.chunks import decrypt
from distribution.protection.configured import key_encryption_keys
from distribution.protection.encrypting import encrypt_pending, unwrapped
from registry.blob_store import blob_store
from registry.models import Artifact, AuditEntry, PublishRequest
from registry.services import create_channel
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services", "own_store")]


@pytest.fixture
def app():
    return factories.application()


def protect(version, *, is_on=True):
    ModelProtection.objects.update_or_create(model=version.model, defaults={"is_on": is_on})


def release(version):
    channel = version.model.application.channels.get(slug="production")
    return services.publish(channel=channel, version=version, actor="ada", now=NOW)


def released(app, contents=None, name="tflite-float32"):
    version = factories.version(app)
    variant = factories.variant(version, name, contents)
    protect(version)
    release(version)
    return variant


def stored(artifact):
    with blob_store().open(artifact.sha256) as stream:
        return stream.read()


def test_every_file_but_the_samples_lies_encrypted(app, kek):
    variant = released(app, {"model.tflite": b"weights" * 5000, "labels.txt": b"cat\n", "sanity.json": b"{}"})
    assert encrypt_pending(application=app, now=NOW) == 1
    key = EncryptedVariant.objects.get().content_key
    secret = unwrapped(key, key_encryption_keys())
    files = {file.artifact_id: file for file in variant.files.select_related("artifact")}
    assert {files[row.plaintext_id].path for row in key.files.all()} == {"model.tflite", "labels.txt"}
    for row in key.files.select_related("artifact", "plaintext"):
        data, plain = stored(row.artifact), stored(row.plaintext)
        assert plain[:7] not in data
        told = {"sha256": row.plaintext.sha256, "length": row.plaintext.size_bytes}
        assert b"".join(decrypt(io.BytesIO(data), key=secret, **told)) == plain
    assert PublishRequest.objects.filter(reason="1 variants encrypted").exists()
    assert encrypt_pending(application=app, now=NOW) == 0


def test_the_key_is_nowhere_but_wrapped(app, kek, own_store, caplog):
    caplog.set_level(logging.DEBUG)
    released(app)
    encrypt_pending(application=app, now=NOW)
    key = ContentKey.objects.get()
    secret = unwrapped(key, key_encryption_keys())
    for form in (secret, secret.hex().encode(), b64encode(secret)):
        assert form not in bytes(key.wrapped)
        assert form.decode("latin-1") not in caplog.text
        for entry in AuditEntry.objects.all():
            assert form.decode("latin-1") not in str(vars(entry))
        for path in own_store.rglob("*"):
            assert not path.is_file() or form not in path.read_bytes()


def test_unchanged_files_keep_their_ciphertext(app, kek):
    """So that they are neither uploaded nor downloaded again."""
    same = {"model.tflite": b"weights" * 5000, "sanity.json": b"{}"}
    first = released(app, same)
    encrypt_pending(application=app, now=NOW)
    second = released(app, {**same, "sanity.json": b'{"other": 1}'})
    before = Artifact.objects.count()
    assert encrypt_pending(application=app, now=NOW) == 1
    assert Artifact.objects.count() == before
    assert first.encrypted.content_key == second.encrypted.content_key
    third = released(app, {**same, "model.tflite": b"other"})
    encrypt_pending(application=app, now=NOW)
    assert third.encrypted.content_key != first.encrypted.content_key


def test_other_models_and_other_applications_have_other_keys(app, kek):
    contents = {"model.tflite": b"weights"}
    for application in (app, factories.application("other")):
        for model in ("digits", "faces"):
            version = factories.version(application, model)
            factories.variant(version, contents=contents)
            protect(version)
            release(version)
        assert encrypt_pending(application=application, now=NOW) == 2
    assert ContentKey.objects.count() == 4
    assert len(set(EncryptedFile.objects.values_list("artifact", flat=True))) == 4


def test_a_revoked_key_is_used_for_nothing_new(app, kek):
    contents = {"model.tflite": b"weights"}
    first = released(app, contents)
    encrypt_pending(application=app, now=NOW)
    ContentKey.objects.update(revoked_at=NOW)
    second = released(app, contents)
    encrypt_pending(application=app, now=NOW)
    assert second.encrypted.content_key != first.encrypted.content_key


def test_without_the_key_encryption_key_the_release_waits_and_says_why(app, caplog):
    variant = released(app)
    assert encrypt_pending(application=app, now=NOW) == 0
    assert "key_encryption_key_missing" in caplog.text
    assert not ContentKey.objects.exists()
    assert encrypting.waiting_variants(app) == [variant]


@pytest.mark.parametrize("content", ["", "not base64", "YWJj"])
def test_a_file_of_keys_that_is_none(kek, content):
    kek.write_text(content)
    with pytest.raises(errors.KeyEncryptionKeyMissing):
        key_encryption_keys()


def test_bytes_that_are_not_what_was_registered_are_not_encrypted(app, kek, own_store, caplog):
    variant = released(app)
    artifact = variant.files.get(path=variant.entry).artifact
    (own_store / f"sha256/{artifact.sha256[:2]}/{artifact.sha256}").write_bytes(b"other")
    assert encrypt_pending(application=app, now=NOW) == 0
    assert "released_bytes_differ" in caplog.text
    assert not EncryptedFile.objects.exists()


def test_a_worker_that_was_killed_half_way_is_followed_by_another(app, kek, monkeypatch):
    variant = released(app, {"model.tflite": b"one" * 1000, "labels.txt": b"two"})
    real, calls = encrypting._encrypt_file, []

    def dies(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(encrypting, "_encrypt_file", dies)
    with pytest.raises(KeyboardInterrupt):
        encrypt_pending(application=app, now=NOW)
    assert not EncryptedVariant.objects.exists()
    key = ContentKey.objects.get()
    assert encrypt_pending(application=app, now=NOW) == 1
    assert variant.encrypted.content_key == key
    assert key.files.count() == 2


def test_protection_is_decided_when_a_version_is_first_released(app, kek):
    version = factories.converted_version(app)
    release(version)
    protect(version)
    beta = services.publish(channel=channel(app, "beta"), version=version, actor="ada", now=NOW)
    assert not beta.is_protected
    second = factories.converted_version(app)
    assert release(second).is_protected
    protect(version, is_on=False)
    Release.objects.update(live_revision=1)
    again = services.roll_back(channel=app.channels.get(slug="production"), model=version.model, actor="ada", now=NOW)
    assert (again.model_version, again.is_protected) == (version, False)
    assert services.publish(channel=channel(app, "gamma"), version=second, actor="ada", now=NOW).is_protected
    assert not release(factories.converted_version(app)).is_protected


def channel(app, slug):
    return create_channel(application=app, slug=slug, actor="ada", now=NOW)


@pytest.mark.parametrize("table", ["encryptedvariant", "encryptedfile"])
def test_what_is_signed_does_not_change(app, kek, table):
    released(app)
    encrypt_pending(application=app, now=NOW)
    with pytest.raises(DatabaseError, match="does not change"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE distribution_{table} SET content_key_id = content_key_id + 1")


@pytest.mark.django_db(transaction=True)
def test_a_release_asks_for_it_and_beat_finds_what_was_lost(app, kek, monkeypatch):
    sent = []
    monkeypatch.setattr(
        tasks.encrypt_variants,
        "apply_async",
        lambda arguments, queue=None, retry=True: sent.append((tuple(arguments), queue)),
    )
    plain = factories.converted_version(app)
    release(plain)
    assert sent == []
    variant = released(app)
    assert sent == [((app.pk,), "publish")]
    tasks.encrypt_pending()
    assert variant.encrypted
    before = PublishRequest.objects.count()
    tasks.encrypt_pending()
    tasks.forget_key_calls()
    assert PublishRequest.objects.count() == before, "nothing was left to do"
