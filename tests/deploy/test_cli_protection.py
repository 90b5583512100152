"""Protection by REST, through the command line: settings, keys without keys, and who asked for them."""

import json
from base64 import b64encode

import pytest

from distribution import services
from distribution.models import ContentKey, KeyCall
from distribution.protection.encrypting import encrypt_pending
from registry.models import AuditEntry, Role
from tests import factories
from tests.deploy.test_cli import aerogram, app  # noqa: F401 - fixtures
from tests.distribution.protection.attested import PACKAGE, Play
from tests.distribution.protection.conftest import kek  # noqa: F401 - a fixture
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store", "kek")]


@pytest.fixture
def asked(aerogram):  # noqa: F811
    """What a verb answers as JSON."""

    def ask(*arguments, role=Role.ADMINISTRATOR, code=0):
        found, printed = aerogram("--json", *arguments, role=role)
        assert found == code, printed
        return json.loads(printed)

    return ask


@pytest.fixture
def key(app):  # noqa: F811
    """Of a version that was released while its model was protected."""

    def make():
        version = factories.converted_version(app)
        services.publish(channel=app.channels.get(), version=version, actor="ada", now=NOW)
        encrypt_pending(application=app, now=NOW)
        return ContentKey.objects.get()

    return make


def test_protect_a_model(asked, app, key):  # noqa: F811
    factories.version(app)
    assert asked("protect", "digits") == {"model": "digits", "is_on": False}
    assert asked("protect", "digits", "--on", "--reason", "ours")["is_on"]
    assert asked("protect", "digits", "--on", role=Role.RELEASER, code=1)["code"] == "not_allowed"
    entry = AuditEntry.objects.get(verb="set_protection")
    assert (entry.before, entry.after, entry.reason) == ({"is_on": False}, {"is_on": True}, "ours")
    row = key()
    (listed,) = asked("content-keys", role=Role.VIEWER)
    assert (listed["key_id"], listed["variants"]) == (row.key_id, ["digits:2 tflite-float32"])
    assert "wrapped" not in listed


def test_a_change_made_from_an_old_state_is_refused(app, client):  # noqa: F811
    factories.version(app)
    headers = {"Authorization": f"Bearer {factories.token(factories.user(superuser=True))}"}
    url = "/api/v1/applications/demo/models/digits/protection"
    told = {"data": {"is_on": True}, "content_type": "application/json"}
    assert client.put(url, **told, headers=headers).status_code == 428
    tag = client.get(url, headers=headers)["ETag"]
    assert client.put(url, **told, headers=headers | {"If-Match": tag}).status_code == 200
    assert client.put(url, **told, headers=headers | {"If-Match": tag}).status_code == 412


def test_set_up_play_integrity(asked, tmp_path):
    play, file = Play(), tmp_path / "attestation.json"
    told = {
        "play_package_name": PACKAGE,
        "play_verification_key": play.verification_key,
        "play_decryption_key": play.decryption_key,
    }
    file.write_text(json.dumps(told))
    answer = asked("attestation", "--set", str(file))
    assert answer["has_play_decryption_key"]
    assert play.decryption_key not in json.dumps(answer)
    file.write_text(json.dumps({"mode": "none"}))
    answer = asked("attestation", "--set", str(file))
    assert (answer["mode"], answer["has_play_decryption_key"], answer["play_package_name"]) == ("none", True, PACKAGE)
    for entry in AuditEntry.objects.filter(verb="set_attestation"):
        assert play.decryption_key not in str(vars(entry))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "some"},
        {"apple_app_id": "com.example.app"},
        {"play_package_name": "com.example.app"},
        {"play_decryption_key": b64encode(bytes(5)).decode()},
        {"play_verdict": "GENUINE"},
        {"play_certificates": ["00"]},
        {"app": "x"},
    ],
)
def test_what_cannot_be_right_is_refused(asked, tmp_path, wrong):
    file = tmp_path / "attestation.json"
    file.write_text(json.dumps(wrong))
    assert asked("attestation", "--set", str(file), code=1)["code"] == "invalid"


def test_revoke_a_key_and_look_who_asked(asked, app, key):  # noqa: F811
    factories.version(app)
    asked("protect", "digits", "--on")
    row = key()
    for outcome in ("released", "key_revoked"):
        KeyCall.objects.create(
            application=app,
            content_key=row,
            channel="production",
            unit_key="0" * 64,
            outcome=outcome,
            challenge_sha256=outcome,
            at=NOW,
        )
    assert asked("revoke-key", row.key_id, "--reason", "leaked", role=Role.EDITOR, code=1)["code"] == "not_allowed"
    assert asked("revoke-key", row.key_id, "--reason", "leaked", role=Role.RELEASER)["revoke_reason"] == "leaked"
    assert asked("revoke-key", row.key_id, "--reason", "again", code=1)["code"] == "already_revoked"
    assert asked("revoke-key", "0" * 32, "--reason", "x", code=1)["code"] == "key_not_found"
    (call,) = asked("key-calls", "--outcome", "released", role=Role.VIEWER)
    assert (call["key_id"], call["outcome"], call["model"]) == (row.key_id, "released", "digits")
    assert len(asked("key-calls")) == 2


def test_words_for_people(aerogram, app):  # noqa: F811
    factories.version(app)
    for words in (("protect", "digits"), ("attestation",), ("content-keys",), ("key-calls",)):
        assert aerogram(*words)[0] == 0
