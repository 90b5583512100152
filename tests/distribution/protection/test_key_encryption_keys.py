"""Key-encryption keys: rotation, and what the system check says when they are missing."""

from base64 import b64encode

import pytest
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import connection

from distribution import services
from distribution.models import AttestationSettings, ContentKey, ModelProtection
from distribution.protection import services as protection
from distribution.protection.checks import protection_is_set_up
from distribution.protection.configured import key_encryption_keys
from distribution.protection.encrypting import encrypt_pending, unwrapped
from distribution.protection.errors import KeyEncryptionKeyMissing
from registry.errors import Invalid
from registry.models import AuditEntry
from tests import factories
from tests.distribution.protection.attested import PACKAGE, Play
from tests.distribution.protection.conftest import KEK
from tests.factories import NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("services", "own_store")]
NEW = bytes(32)


def lines(*keys):
    return "".join(b64encode(key).decode() + "\n" for key in keys)


@pytest.fixture
def key(kek):
    version = factories.converted_version(factories.application())
    protection.set_protection(
        protection=protection.protection_of(version.model), is_on=True, actor="ada", now=NOW, reason="ours"
    )
    services.publish(channel=version.model.application.channels.get(), version=version, actor="ada", now=NOW)
    encrypt_pending(application=version.model.application, now=NOW)
    return ContentKey.objects.get()


@pytest.fixture
def play(key):
    return attest(key, Play())


def attest(key, play, **changes):
    told = {
        "mode": "required",
        "apple_app_id": "",
        "apple_production": True,
        "play_package_name": PACKAGE,
        "play_verification_key": play.verification_key,
        "play_decryption_key": play.decryption_key,
        "play_certificates": [],
        "play_verdict": "MEETS_DEVICE_INTEGRITY",
    }
    row = protection.attestation_of(key.model.application)
    protection.set_attestation(row=row, actor="ada", now=NOW, **(told | changes))
    return play


def test_a_rotation_wraps_everything_under_the_new_key(key, play, kek):
    secret = unwrapped(key, key_encryption_keys())
    kek.write_text(lines(NEW, KEK))
    call_command("rotate_key_encryption_key", stdout=None)
    kek.write_text(lines(NEW))
    key.refresh_from_db()
    assert unwrapped(key, key_encryption_keys()) == secret
    row = AttestationSettings.objects.get()
    assert protection.play_integrity(row).decryption_key == play.decryption_key
    entry = AuditEntry.objects.get(verb="rotate_key_encryption_key")
    assert entry.after == {"wrapped_anew": 2}
    assert protection.rotate_key_encryption_key(actor="ada", now=NOW) == 0


def test_a_rotation_without_the_old_key_changes_nothing(key, play, kek):
    before = bytes(key.wrapped)
    kek.write_text(lines(NEW))
    with pytest.raises(CommandError, match=key.kek_id):
        call_command("rotate_key_encryption_key")
    assert bytes(ContentKey.objects.get().wrapped) == before


def test_google_s_key_is_kept_wrapped_and_never_told(key, play):
    row = AttestationSettings.objects.get()
    assert play.decryption_key.encode() not in bytes(row.play_decryption_key)
    assert play.decryption_key not in str(protection.shown(row))
    for entry in AuditEntry.objects.all():
        assert play.decryption_key not in str(vars(entry))
    attest(key, play, play_decryption_key=None, play_verdict="MEETS_STRONG_INTEGRITY")
    assert protection.play_integrity(AttestationSettings.objects.get()).decryption_key == play.decryption_key


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"play_verification_key": "AAAA"}, "play_verification_key"),
        ({"play_verification_key": "!"}, "play_verification_key"),
        ({"play_decryption_key": "AAAA"}, "play_decryption_key"),
        ({"play_decryption_key": "secret!"}, "play_decryption_key"),
        ({"play_verification_key": ""}, "play_package_name"),
        ({"play_decryption_key": ""}, "play_package_name"),
    ],
)
def test_keys_of_play_are_looked_at(key, changes, field):
    with pytest.raises(Invalid) as error:
        attest(key, Play(), **changes)
    assert error.value.field == field
    assert "secret" not in str(error.value)


def test_without_a_key_encryption_key_google_s_key_is_not_taken(key, settings):
    settings.AEROGRAM_KEY_ENCRYPTION_KEYS_FILE = ""
    with pytest.raises(KeyEncryptionKeyMissing):
        attest(key, Play())


def told():
    return [message.id for message in checks.run_checks(tags=["database"], databases=["default"])]


def test_the_check_warns_when_protection_is_on_and_the_key_is_missing(key, kek, settings):
    assert "aerogram.W002" not in told()
    kek.write_text(lines(NEW))
    assert told() == ["aerogram.W002"], "there is a key, but not the one"
    assert key.kek_id in protection_is_set_up(databases=["default"])[0].msg
    settings.AEROGRAM_KEY_ENCRYPTION_KEYS_FILE = ""
    assert told() == ["aerogram.W002"]
    settings.AEROGRAM_KEY_ENCRYPTION_KEYS = [b64encode(KEK).decode()]
    assert told() == []


def test_the_check_reminds_of_keys_for_whoever_asks(key, settings):
    AttestationSettings.objects.create(application=key.model.application, mode="none")
    assert told() == ["aerogram.W003"]
    settings.DEBUG = True
    assert told() == []
    settings.DEBUG = False
    ModelProtection.objects.update(is_on=False)
    assert told() == []


def test_the_check_is_silent_where_nothing_is_protected():
    factories.application()
    assert told() == []


def test_the_check_is_silent_before_the_tables_are_there(monkeypatch):
    monkeypatch.setattr(connection.introspection, "table_names", list)
    assert told() == []
