"""Protected models from release to inference: real rows, the signer, the tree, both planes, and the SDK."""

from dataclasses import replace

import httpx
import pytest
from aerogram_sdk import errors as sdk
from aerogram_sdk.keys import MemoryKeyStore
from django.core.handlers.wsgi import WSGIHandler

from deploy import key_settings
from distribution import services
from distribution.models import AttestationSettings, ContentKey, EncryptedFile, KeyCall
from distribution.protection import services as protection
from distribution.protection.configured import key_encryption_keys
from distribution.protection.encrypting import encrypt_pending, unwrapped
from registry.services import yank_version
from tests.distribution.protection.attested import APP_ID, Authority, Enclave
from tests.distribution.protection.installation import app_assertion, app_attest
from tests.distribution.trusted import ENTRY, outcome
from tests.sdk.conftest import score, staged
from tests.sdk.fake_runtime import model_file
from tests.sdk.test_device_plane import InProcess

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("deploy.key_urls")]
PADDING = 200_000  # several chunks


class BothPlanes(httpx.BaseTransport):
    """As a proxy in front sees them: keys to the key service, the rest to the device plane."""

    def __init__(self, phones) -> None:
        self.phones, self.keys = phones, httpx.WSGITransport(WSGIHandler())
        self.key_requests: list[httpx.Request] = []
        self.key_answers: list[bytes] = []
        self.change_key_answer = lambda answer: answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if "/keys/" not in request.url.path:
            return InProcess(self.phones.plane).handle_request(request)
        self.key_requests.append(request)
        answer = self.keys.handle_request(request)
        content = answer.read()
        self.key_answers.append(content)
        told = httpx.Response(answer.status_code, headers=answer.headers, content=content)
        return self.change_key_answer(told)


class Protected:
    """A world whose model is protected, and one phone in it."""

    def __init__(self, world, phones) -> None:
        self.world, self.phones, self.planes = world, phones, BothPlanes(phones)
        self.model = world.application.registered_models.get()
        self.channel = world.application.channels.get()
        self.http = httpx.Client(transport=self.planes)
        protection.set_protection(
            protection=protection.protection_of(self.model), is_on=True, actor="ada", now=world.clock()
        )

    def attestation(self, **members):
        row = protection.attestation_of(self.world.application)
        AttestationSettings.objects.filter(pk=row.pk).update(**members)

    def release(self, factor, padding=PADDING, **files):
        version = self.world.version(factor, padding=padding)
        services.publish(channel=self.channel, version=version, actor="ada", now=self.world.clock())
        self.publish()
        return version

    def publish(self):
        self.world.run()
        encrypt_pending(application=self.world.application, now=self.world.clock())
        self.world.run()
        self.phones.refresh()

    def phone(self, name="phone", **changes):
        root = (self.world.tree_folder / "trust/1.root.json").read_bytes()
        return self.phones.phone(name, root, **{"http": self.http, **changes})

    def folder(self, name="phone"):
        return self.phones.folder / name / "demo"


@pytest.fixture
def protected(world, phones, kek, settings):
    settings.ALLOWED_HOSTS = key_settings.ALLOWED_HOSTS
    protected = Protected(world, phones)
    protected.attestation(mode="none")
    yield protected
    protected.http.close()


def test_a_phone_installs_runs_and_reports(protected):
    protected.release(2)
    with protected.phone() as phone:
        assert outcome(phone) == ("updated", 2, None)
        assert score(phone) == 6.0
        assert ("unpack", "ok") in staged(phone)
        assert outcome(phone)[0] == "unchanged"
    assert KeyCall.objects.get().outcome == "released"


def test_the_download_is_ciphertext_and_the_key_is_on_no_disk_of_the_phone(protected):
    protected.release(2)
    seen = []
    real = protected.planes.handle_request
    protected.planes.handle_request = lambda request: seen.append(answer := real(request)) or answer
    with protected.phone() as phone:
        assert outcome(phone)[0] == "updated"
    secret = unwrapped(ContentKey.objects.get(), key_encryption_keys())
    plain = model_file(2, padding=PADDING)
    for content in protected.planes.key_answers:
        assert secret not in content
    files = [path for path in protected.folder().rglob("*") if path.is_file()]
    assert not [path for path in files if secret in path.read_bytes() or secret.hex().encode() in path.read_bytes()]
    holding = {path.parent.name for path in files if path.read_bytes() == plain}
    assert holding == {"files"}, "the plaintext lies in the bundle alone"
    assert not list((protected.folder() / "staging").iterdir())
    assert len(seen) > 8


def test_an_iphone_attests_at_first_and_asserts_later(protected, world, monkeypatch):
    authority = Authority(world.clock())
    monkeypatch.setattr(protection, "APPLE_ROOT", authority.pem)
    protected.attestation(mode="required", apple_app_id=APP_ID)
    protected.release(2)
    enclave = Enclave(authority)
    proofs = [app_attest(enclave), app_assertion(enclave)]
    with protected.phone(attest=lambda binding: proofs.pop(0)(binding)) as phone:  # noqa: PLW0108 - one proof for each call
        assert outcome(phone) == ("updated", 2, None)
        protected.release(3)
        assert outcome(phone) == ("updated", 3, None)
    assert {call.attestation for call in KeyCall.objects.all()} == {"app-attest", "app-assertion"}


def test_a_phone_that_proves_nothing_keeps_what_it_runs(protected):
    protected.attestation(mode="required", apple_app_id=APP_ID)
    with protected.phone() as phone:
        assert outcome(phone) == ("updated", 1, None), "version 1 is not protected"
        protected.release(2)
        state, version, code = outcome(phone)
        assert (state, version, code) == ("refused", 1, "key_refused")
        assert phone.pending_events()[-1]["stage"] == "unpack"
        assert score(phone) == 3.0
        protected.attestation(mode="none")
        assert outcome(phone) == ("updated", 2, None)
    assert not list(protected.folder().rglob("*.part"))


@pytest.mark.parametrize("how", ["kill", "revoke", "yank"])
def test_keys_end(protected, world, how):
    version = protected.release(2)
    with protected.phone() as phone:
        told = {"actor": "ada", "now": world.clock(), "reason": "x"}
        if how == "kill":
            services.engage_kill_switch(channel=protected.channel, model=protected.model, **told)
        elif how == "revoke":
            protection.revoke_key(key=ContentKey.objects.get(), **told)
        else:
            yank_version(version=version, **told)
        # The tree says the old thing still: what was not published yet is refused all the same.
        state, _, code = outcome(phone)
        assert (state, code) == ("refused", "key_refused")
        assert KeyCall.objects.get().outcome == {"kill": "key_withheld"}.get(how, "key_revoked")


def test_the_key_service_away_is_no_trouble_for_what_runs(protected):
    with protected.phone() as phone:
        outcome(phone)
        protected.release(2)

        def away(_):
            raise httpx.ConnectError("away")

        protected.planes.change_key_answer = away
        assert outcome(phone) == ("unavailable", 1, "key_unavailable")
        assert score(phone) == 3.0
        protected.planes.change_key_answer = lambda answer: answer
        assert outcome(phone) == ("updated", 2, None)
        sizes = [event.get("bytes") for event in phone.pending_events() if event["stage"] == "download"]
        assert sizes[-1] == 0, "the download was kept"


ANSWERS = [
    (200, b"", {}),
    (200, b"[]", {}),
    (200, b'{"challenge": 5}', {}),
    (200, b'{"challenge": "AAAA"}', {}),
    (200, b"[" * 100_000, {}),
    (302, b"", {"Location": "https://elsewhere.example/"}),
    (500, b"<html>", {}),
    (429, b'{"code": "throttled"}', {"Retry-After": "77"}),
]


def test_whatever_the_key_service_answers_the_app_goes_on(protected):
    with protected.phone() as phone:
        outcome(phone)
        protected.release(2)
        for status, content, headers in ANSWERS:
            answer = httpx.Response(status, headers=headers, content=content)
            protected.planes.change_key_answer = lambda _, answer=answer: answer
            (found,) = phone.update(["digits"])
            assert (found.state, found.version, found.error.code) == ("unavailable", 1, "key_unavailable"), content
            assert score(phone) == 3.0
        assert 77 <= found.next_poll_seconds <= 77 * 1.2, "as the service asked"


def test_an_attester_or_a_key_store_that_fails_is_no_trouble_either(protected):
    class Failing:
        def get(self, key_id):
            raise RuntimeError("locked")

        put = forget = get

    def failing(binding):
        raise RuntimeError("no Play Services")

    protected.release(2)
    with protected.phone(attest=failing) as phone:
        assert outcome(phone)[2] == "key_unavailable"
    with protected.phone(key_store=Failing()) as phone:
        assert outcome(phone) == ("updated", 2, None)


def test_an_answer_for_another_request_opens_nothing(protected):
    protected.release(2)
    with protected.phone() as phone, protected.phone("other") as other:
        assert outcome(other)[0] == "updated"
        recorded = protected.planes.key_answers[-1]
        protected.planes.change_key_answer = lambda answer: (
            answer if b"challenge" in answer.content else httpx.Response(200, content=recorded)
        )
        assert outcome(phone)[2] == "key_unavailable"


def test_a_kept_key_that_opens_nothing_is_asked_for_once_more(protected):
    protected.release(2)
    store = MemoryKeyStore()
    store.put(ContentKey.objects.get().key_id, bytes(32))
    with protected.phone(key_store=store) as phone:
        assert outcome(phone) == ("updated", 2, None)
    assert store.get(ContentKey.objects.get().key_id) == unwrapped(ContentKey.objects.get(), key_encryption_keys())


def test_a_kept_key_needs_no_service(protected):
    protected.release(2)
    store = MemoryKeyStore()
    store.put(ContentKey.objects.get().key_id, unwrapped(ContentKey.objects.get(), key_encryption_keys()))
    with protected.phone(key_store=store) as phone:
        assert outcome(phone) == ("updated", 2, None)
    assert not protected.planes.key_requests


def test_a_wrong_key_is_refused_by_name_and_nothing_is_left(protected):
    """A server whose rows were changed gives another key: the phone notices, whatever it was given."""
    protected.release(2)
    row = ContentKey.objects.get()
    wrapped = key_encryption_keys().wrap(bytes(32), row.context)
    ContentKey.objects.update(wrapped=wrapped.content)
    with protected.phone() as phone:
        (found,) = phone.update(["digits"])
        assert (found.error.code, "wrong_key" in str(found.error)) == ("decryption_failed", True)
        assert isinstance(found.error, sdk.Untrusted)
    assert not list((protected.folder() / "staging").iterdir())


def test_another_plaintext_in_the_manifest_is_refused_by_name(protected, world):
    """The online keys in a thief's hands sign whatever he likes; the publisher's ciphertext names its plaintext."""
    protected.release(2)
    with protected.phone() as phone:
        real = phone._device.activator._unpack

        def forged(manifest, *rest):
            files = dict(manifest.encryption.files)
            files[ENTRY] = replace(files[ENTRY], sha256="0" * 64)
            return real(replace(manifest, encryption=replace(manifest.encryption, files=files)), *rest)

        phone._device.activator._unpack = forged
        (found,) = phone.update(["digits"])
        assert (found.error.code, "wrong_file" in str(found.error)) == ("decryption_failed", True)


def test_an_unknown_encryption_is_refused_before_anything_is_fetched(protected, monkeypatch):
    monkeypatch.setattr("distribution.protection.served.ALGORITHM", "aes-256-gcm-chunks-2")
    protected.release(2)
    with protected.phone() as phone:
        assert outcome(phone) == ("refused", None, "encryption_unsupported")
        assert not [event for event in phone.pending_events() if event["stage"] == "download"]


def test_going_back_costs_neither_download_nor_key(protected, world):
    protected.release(2)
    with protected.phone() as phone:
        assert outcome(phone) == ("updated", 2, None)
        score(phone)
        protected.release(3)
        assert outcome(phone) == ("updated", 3, None)
        score(phone)
        phone.flush_events()
        asked = len(protected.planes.key_requests)
        told = {"channel": protected.channel, "model": protected.model, "actor": "ada", "now": world.clock()}
        services.roll_back(**told)
        protected.publish()
        assert outcome(phone) == ("updated", 2, None)
        assert score(phone) == 6.0
        assert len(protected.planes.key_requests) == asked
        (download,) = [event for event in phone.pending_events() if event["stage"] == "download"]
        assert download["bytes"] == 0


def test_a_damaged_bundle_is_noticed_and_fetched_anew(protected):
    protected.release(2)
    with protected.phone() as phone:
        outcome(phone)
    path = next(path for path in protected.folder().rglob(ENTRY))
    path.write_bytes(b"damaged")
    with protected.phone() as phone:
        with pytest.raises(sdk.ModelNotAvailable):
            phone.open("digits")
        assert outcome(phone) == ("updated", 2, None)
        assert score(phone) == 6.0


def test_the_same_contents_in_a_new_version_are_not_downloaded_again(protected):
    protected.release(2)
    with protected.phone() as phone:
        assert outcome(phone) == ("updated", 2, None)
        protected.release(2)
        phone.flush_events()
        asked = len(protected.planes.key_requests)
        assert outcome(phone) == ("updated", 3, None)
        assert len(protected.planes.key_requests) == asked
    assert EncryptedFile.objects.count() == 1


def test_every_event_is_one_that_the_device_plane_takes(protected):
    protected.attestation(mode="required")
    protected.release(2)
    with protected.phone() as phone:
        outcome(phone)
        waiting = phone.pending_events()
        assert waiting[-1]["error"] == "key_refused"
        assert phone.flush_events() == len(waiting)
