"""The key service: who is given a content key, and each way of not being given one."""

import logging
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client

from distribution import services
from distribution.delivery_rules import pin, unit_key
from distribution.models import (
    AppAttestKey,
    AttestationSettings,
    ContentKey,
    KeyCall,
    MinimumReleaseCounter,
    ModelProtection,
)
from distribution.protection import challenges, releasing
from distribution.protection import services as protection
from distribution.protection.configured import key_encryption_keys
from distribution.protection.encrypting import encrypt_pending, unwrapped
from registry.services import create_channel, yank_version
from tests import factories
from tests.distribution.protection.attested import APP_ID, PACKAGE, Authority, Enclave, Play
from tests.distribution.protection.installation import Installation, app_assertion, app_attest, play_integrity
from tests.factories import NOW

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("services", "own_store"),
    pytest.mark.urls("deploy.key_urls"),
]


@pytest.fixture
def now(monkeypatch):
    """The service's clock, which the test moves."""
    clock = factories.Clock(datetime.now(UTC).replace(microsecond=0))
    monkeypatch.setattr("distribution.protection.views.timezone.now", clock)
    return clock


@pytest.fixture
def version(kek, now):
    version = factories.converted_version(factories.application())
    ModelProtection.objects.create(model=version.model, is_on=True)
    services.publish(channel=channel_of(version), version=version, actor="ada", now=NOW)
    encrypt_pending(application=version.model.application, now=NOW)
    return version


@pytest.fixture
def key(version):
    return ContentKey.objects.get()


@pytest.fixture
def phone(key):
    return Installation(key.key_id)


@pytest.fixture
def anybody(version):
    """The application asks for no attestation."""
    AttestationSettings.objects.create(application=version.model.application, mode="none")


@pytest.fixture
def enclave(version, now, monkeypatch):
    """A phone's, of the application that is set up for App Attest under a root of our own."""
    authority = Authority(now())
    monkeypatch.setattr(protection, "APPLE_ROOT", authority.pem)
    AttestationSettings.objects.create(application=version.model.application, apple_app_id=APP_ID)
    return Enclave(authority)


@pytest.fixture
def play(version):
    play = Play()
    set_attestation(version, play_package_name=PACKAGE, **keys_of(play))
    return play


def keys_of(play):
    return {"play_verification_key": play.verification_key, "play_decryption_key": play.decryption_key}


def set_attestation(version, **changes):
    told = {
        "mode": "required",
        "apple_app_id": "",
        "apple_production": True,
        "play_package_name": "",
        "play_verification_key": "",
        "play_decryption_key": None,
        "play_certificates": [],
        "play_verdict": "MEETS_DEVICE_INTEGRITY",
    }
    row = protection.attestation_of(version.model.application)
    protection.set_attestation(row=row, actor="ada", now=NOW, **(told | changes))


def channel_of(version, slug="production"):
    return version.model.application.channels.get(slug=slug)


def secret_of(key):
    return unwrapped(key, key_encryption_keys())


def code(answer, status=403):
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["Cache-Control"] == "no-store"
    return answer.json()["code"]


# -- who is given it


def test_without_attestation_whoever_asks_is_given_it(phone, key, anybody):
    answer = phone.ask()
    assert phone.opened(answer) == secret_of(key)
    assert answer["Cache-Control"] == "no-store"
    assert secret_of(key) not in answer.content


def test_nobody_is_given_it_until_the_application_says_what_to_prove(phone):
    assert code(phone.ask()) == "attestation_required"


def test_a_genuine_iphone_attests_once_and_asserts_from_then_on(phone, key, enclave):
    assert phone.opened(phone.ask(prove=app_attest(enclave))) == secret_of(key)
    for _ in range(2):
        assert phone.opened(phone.ask(prove=app_assertion(enclave))) == secret_of(key)
    assert AppAttestKey.objects.get().counter == 2
    assert [call.attestation for call in KeyCall.objects.all()] == ["app-assertion", "app-assertion", "app-attest"]


def test_a_genuine_android_device(phone, key, play):
    assert phone.opened(phone.ask(prove=play_integrity(play))) == secret_of(key)


# -- who is not, by attestation


def reason(answer):
    assert code(answer) == "attestation_refused"
    return KeyCall.objects.first().reason


def test_other_apps_other_devices_and_other_requests(phone, enclave, play, version):
    set_attestation(version, apple_app_id=APP_ID, play_package_name=PACKAGE, **keys_of(play))
    assert code(phone.ask()) == "attestation_required"
    other = Enclave(enclave.authority, app_id="ABCDE12345.com.example.other")
    assert reason(phone.ask(prove=app_attest(other))) == "wrong_app"
    assert reason(phone.ask(prove=app_attest(Enclave(Authority(NOW))))) == "untrusted_chain"
    assert reason(phone.ask(prove=app_assertion(enclave))) == "unknown_key"
    assert reason(phone.ask(prove=play_integrity(play, device=[]))) == "device_not_genuine"
    assert reason(phone.ask(prove=play_integrity(play, package="com.example.other"))) == "wrong_app"
    assert reason(phone.ask(prove=lambda _: app_attest(enclave)(bytes(32)))) == "wrong_nonce"
    assert reason(phone.ask(prove=lambda _: play_integrity(play)(bytes(32)))) == "wrong_nonce"


def test_an_attestation_cannot_be_relayed_to_another_receiver(phone, play):
    """A genuine phone attests for an attacker's challenge; what counts is the public key that it attested with."""
    attacker = Installation(phone.key_id)
    challenge = attacker.challenge()
    genuine = phone.binding(challenge)
    answer = attacker.ask(challenge, prove=lambda _: play_integrity(play)(genuine))
    assert reason(answer) == "wrong_nonce"


def test_a_key_of_one_installation_asserts_for_no_other(phone, enclave, key):
    phone.opened(phone.ask(prove=app_attest(enclave)))
    other = Installation(key.key_id, unit="another-installation")
    assert reason(other.ask(prove=app_assertion(enclave))) == "wrong_key"


def test_an_assertion_that_was_seen_is_refused(phone, enclave):
    phone.opened(phone.ask(prove=app_attest(enclave)))
    phone.opened(phone.ask(prove=app_assertion(enclave)))
    enclave.counter -= 1
    assert reason(phone.ask(prove=app_assertion(enclave))) == "replayed"


# -- who is not, by challenge


def test_a_challenge_is_answered_once(phone, anybody):
    challenge = phone.challenge()
    assert phone.ask(challenge).status_code == 200
    assert code(phone.ask(challenge), 400) == "challenge_refused"
    assert KeyCall.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_answers_at_once_one_is_given_the_key(phone, anybody, monkeypatch):
    """As if both had looked before either wrote."""
    monkeypatch.setattr(releasing, "_require_challenge", lambda *_: None)
    challenge = phone.challenge()

    def ask(_):
        try:
            return phone.ask(challenge).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(ask, range(2))) == [200, 400]


def test_a_refused_call_uses_its_challenge_too(phone, enclave):
    challenge = phone.challenge()
    assert code(phone.ask(challenge)) == "attestation_required"
    assert code(phone.ask(challenge, prove=app_attest(enclave)), 400) == "challenge_refused"


def test_a_challenge_ends(phone, anybody, now):
    challenge = phone.challenge()
    now.advance(seconds=challenges.LIFE.total_seconds())
    assert code(phone.ask(challenge), 400) == "challenge_expired"


@pytest.mark.parametrize("member", ["unit", "channel", "application", "key_id"])
def test_a_challenge_is_for_one_request(phone, anybody, member):
    challenge = phone.challenge()
    setattr(phone, member, "b" * 32)
    assert code(phone.ask(challenge), 400) == "challenge_refused"


def test_what_comes_without_a_genuine_challenge_costs_nothing(phone, anybody, django_assert_num_queries):
    with django_assert_num_queries(0):
        phone.challenge()
        assert code(phone.ask(bytes(56)), 400) == "challenge_refused"
    assert not KeyCall.objects.exists()


# -- who is not, by what was released


def test_a_kill_switch_withholds_it(phone, anybody, version):
    told = {"channel": channel_of(version), "model": version.model, "actor": "ada", "now": NOW, "reason": "x"}
    services.engage_kill_switch(**told)
    assert code(phone.ask()) == "key_withheld"
    services.lift_approved(**told)
    assert phone.ask().status_code == 200


def test_a_revoked_key_is_given_to_nobody(phone, anybody, key):
    protection.revoke_key(key=key, actor="ada", now=NOW, reason="leaked")
    assert code(phone.ask()) == "key_revoked"


def test_what_was_yanked_or_is_below_the_minimum_is_opened_for_nobody(phone, anybody, version):
    row = MinimumReleaseCounter.objects.create(model=version.model, value=2)
    assert code(phone.ask()) == "key_revoked"
    row.delete()
    assert phone.ask().status_code == 200
    yank_version(version=version, reason="bad", actor="ada", now=NOW)
    assert code(phone.ask()) == "key_revoked"


def test_a_channel_gives_keys_of_what_it_serves(phone, anybody, version):
    preview = create_channel(application=version.model.application, slug="preview", actor="ada", now=NOW)
    phone.channel = "preview"
    assert code(phone.ask(), 404) == "key_not_found"
    told = {"version": version, "label": "", "actor": "ada", "now": NOW}
    pin(channel=preview, key=unit_key(version.model.application, phone.unit), **told)
    assert phone.ask().status_code == 200
    phone.unit = "another-installation"
    assert code(phone.ask(), 404) == "key_not_found"


@pytest.mark.parametrize(("member", "value"), [("key_id", "0" * 32), ("channel", "nowhere"), ("application", "nobody")])
def test_what_is_unknown(phone, anybody, member, value):
    setattr(phone, member, value)
    assert code(phone.ask(), 404) == "key_not_found"


def test_another_application_has_no_such_key(phone, anybody):
    factories.application("other")
    phone.application = "other"
    assert code(phone.ask(), 404) == "key_not_found"


def test_without_the_key_encryption_key_it_says_so_and_can_be_asked_again(phone, anybody, kek, settings):
    settings.AEROGRAM_KEY_ENCRYPTION_KEYS_FILE = ""
    assert code(phone.ask(), 503) == "key_encryption_key_missing"
    settings.AEROGRAM_KEY_ENCRYPTION_KEYS_FILE = str(kek)
    assert phone.ask().status_code == 200


# -- how it is asked


def test_so_many_calls_of_an_installation_and_no_more(phone, anybody, settings, now):
    settings.AEROGRAM_KEY_CALLS_PER_HOUR = 2
    assert [phone.ask().status_code for _ in range(3)] == [200, 200, 429]
    answer = phone.ask()
    assert code(answer, 429) == "throttled"
    assert answer["Retry-After"] == "3600"
    other = Installation(phone.key_id, unit="another-installation")
    assert other.ask().status_code == 200
    now.advance(hours=1, seconds=1)
    assert phone.ask().status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"public_key": "AA"}, "public_key"),
        ({"public_key": "!"}, "public_key"),
        ({"challenge": "ä"}, "challenge"),
        ({"channel": "no channel"}, "channel"),
        ({"attestation": {"format": "none"}}, "attestation.format"),
        ({"attestation": {"format": "play-integrity"}}, "attestation.token"),
        ({"attestation": {"format": "app-attest", "key_id": "AA"}}, "attestation.object"),
        ({"attestation": []}, "attestation.non_field_errors"),
        ({"other": 1}, "other"),
    ],
)
def test_a_bad_member_is_named(phone, anybody, changes, field):
    answer = phone.ask(**changes)
    assert code(answer, 400) == "invalid"
    assert answer.json()["field"] == field


@pytest.mark.parametrize("unit", ["", "a b", "x" * 129])
def test_a_unit_that_is_none(phone, unit):
    phone.unit = unit
    answer = phone.post(f"{phone.url}/challenges", {"channel": "production"})
    assert code(answer, 400) == "invalid"
    assert answer.json()["field"] == "Aerogram-Unit"
    assert not unit or unit not in answer.json()["detail"]


def test_a_body_is_bounded(phone):
    answer = Client().post(f"{phone.url}/challenges", b"[" * (65 << 10), content_type="application/json")
    assert code(answer, 413) == "body_too_large"
    assert code(phone.post(phone.url, b"{", content_type="application/json"), 400) in ("parse_error", "invalid")


def test_nothing_else_is_served_here(phone):
    for path in ("/admin/", "/api/v1/applications", "/metrics", "/"):
        assert Client().get(path).status_code == 404
    assert Client().get(phone.url).status_code == 405
    assert Client().get("/healthz").json() == {"status": "ok"}


# -- what is remembered


def test_calls_are_remembered_without_key_and_unit(phone, anybody, key, caplog):
    caplog.set_level(logging.DEBUG)
    phone.ask()
    phone.channel = "production"
    call = KeyCall.objects.get()
    assert (call.outcome, call.channel, call.content_key) == ("released", "production", key)
    secret = secret_of(key)
    told = " ".join(map(str, vars(call).values())) + caplog.text
    for form in (phone.unit, secret.hex(), b64encode(secret).decode(), secret.decode("latin-1")):
        assert form not in told


def test_old_calls_are_forgotten(phone, anybody, now):
    phone.ask()
    assert releasing.forget_calls(now=now() + timedelta(days=399)) == 0
    assert releasing.forget_calls(now=now() + timedelta(days=401)) == 1
