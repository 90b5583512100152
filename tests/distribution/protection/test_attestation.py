"""App Attest and Play Integrity: genuine devices pass, and each way of not being one has its name."""

import json
import os
from contextlib import suppress
from datetime import timedelta

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from distribution.protection import attestation
from distribution.protection.attestation import AppAttest, AttestationError
from tests.distribution.protection.attested import APP_ID, DEVELOPMENT, Authority, Enclave, Play
from tests.factories import NOW

BINDING, OTHER = bytes(range(32)), bytes(32)


@pytest.fixture(scope="module")
def authority():
    return Authority(NOW)


@pytest.fixture
def enclave(authority):
    return Enclave(authority)


def attested(enclave, raw=None, *, now=NOW, binding=BINDING, key_id=None, **changes):
    return attestation.verify_app_attest(
        enclave.attest(BINDING) if raw is None else raw,
        key_id=key_id or enclave.key_id,
        binding=binding,
        expected=enclave.expected(**changes),
        now=now,
    )


def asserted(enclave, key, raw=None, counter=0, binding=BINDING, **changes):
    return attestation.verify_app_assertion(
        enclave.assertion(BINDING) if raw is None else raw,
        key=key,
        counter=counter,
        binding=binding,
        expected=enclave.expected(**changes),
        now=NOW,
    )


def reason(act, *arguments, **changes):
    with pytest.raises(AttestationError) as error:
        act(*arguments, **changes)
    assert error.value.reason in attestation.REASONS
    return error.value.reason


def test_a_genuine_key_is_attested_and_asserts(enclave):
    key = attested(enclave)
    assert key.key_id == enclave.key_id
    assert asserted(enclave, key) == 1
    assert asserted(enclave, key, counter=1) == 2


def test_an_attestation_of_something_else(enclave, authority):
    assert reason(attested, enclave, binding=OTHER) == "wrong_nonce"
    assert reason(attested, enclave, app_id="ABCDE12345.com.example.other") == "wrong_app"
    assert reason(attested, Enclave(authority, environment=DEVELOPMENT)) == "wrong_environment"
    assert attested(Enclave(authority, environment=DEVELOPMENT), production=False)
    assert reason(attested, enclave, key_id=OTHER) == "wrong_key"
    assert reason(attested, enclave, enclave.attest(BINDING, counter=1)) == "replayed"


def test_a_chain_that_does_not_lead_to_the_root_given(enclave):
    other = Enclave(Authority(NOW))
    assert reason(attested, enclave, other.attest(BINDING), key_id=other.key_id) == "untrusted_chain"
    assert reason(attested, enclave, root=None) == "untrusted_chain", "Apple's own root"
    document = cbor2.loads(enclave.attest(BINDING))
    document["attStmt"]["x5c"] = []
    assert reason(attested, enclave, cbor2.dumps(document)) == "untrusted_chain"


def test_only_that_root_counts_and_no_authority_of_the_operating_system(enclave, monkeypatch):
    """pyattest adds Apple's root to those of the system, and anybody can buy a certificate from one of these."""
    seen = []
    real = attestation.ValidationContext
    monkeypatch.setattr(attestation, "ValidationContext", lambda **said: seen.append(said) or real(**said))
    attested(enclave)
    ((said),) = seen
    assert [root.dump() for root in said["trust_roots"]] == [enclave.authority.root.public_bytes(Encoding.DER)]
    assert "extra_trust_roots" not in said
    assert said["allow_fetching"] is False


def test_a_leaf_certificate_that_has_ended(enclave):
    raw = enclave.attest(BINDING)
    attested(enclave, raw, now=NOW + timedelta(days=2))
    assert reason(attested, enclave, raw, now=NOW + timedelta(days=4)) == "untrusted_chain"
    assert reason(attested, enclave, raw, now=NOW - timedelta(days=1)) == "untrusted_chain"


def test_an_assertion_of_something_else(enclave, authority):
    key = attested(enclave)
    raw = enclave.assertion(BINDING)
    assert reason(asserted, enclave, key, raw, binding=OTHER) == "wrong_signature"
    assert reason(asserted, enclave, key, raw, counter=1) == "replayed"
    assert reason(asserted, enclave, key, raw, app_id="ABCDE12345.com.example.other") == "wrong_app"
    assert reason(asserted, enclave, attested(Enclave(authority)), raw) in ("wrong_signature", "wrong_key")


@settings(max_examples=60)
@given(st.data())
def test_garbage_is_refused_and_nothing_else_happens(data):
    enclave = GENUINE
    raw = bytearray(ATTESTED)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with suppress(AttestationError):  # what is changed may be where nobody looks
        attested(enclave, bytes(raw[: data.draw(st.integers(0, len(raw)))]))


GENUINE = Enclave(Authority(NOW))
ATTESTED = GENUINE.attest(BINDING)


@pytest.mark.parametrize("raw", [b"", b"\xff", cbor2.dumps([]), cbor2.dumps({}), b"\x9f" * 5000, os.urandom(200)])
def test_what_is_no_attestation(enclave, raw):
    assert reason(attested, enclave, raw) == "malformed"
    key = attestation.AttestedKey(b"", b"")
    assert reason(asserted, enclave, key, raw) == "malformed"
    assert reason(played, Play(), raw.decode("latin-1")) == "malformed"


def test_a_large_one_is_not_even_read(enclave):
    assert reason(attested, enclave, bytes(attestation.MOST_BYTES + 1)) == "malformed"


# -- Play Integrity


def played(play, token=None, *, binding=BINDING, **changes):
    attestation.verify_play_integrity(
        play.token(BINDING) if token is None else token, binding=binding, expected=play.expected(**changes)
    )


def test_a_genuine_app_on_a_genuine_device():
    play = Play()
    played(play)
    played(play, certificates=("00" * 32,))


def test_a_verdict_of_something_else():
    play = Play()
    assert reason(played, play, binding=OTHER) == "wrong_nonce"
    assert reason(played, play, package_name="com.example.other") == "wrong_app"
    assert reason(played, play, play.token(BINDING, app="UNRECOGNIZED_VERSION")) == "app_not_recognised"
    assert reason(played, play, play.token(BINDING, device=())) == "device_not_genuine"
    assert reason(played, play, play.token(BINDING, device=["MEETS_BASIC_INTEGRITY"])) == "device_not_genuine"
    assert reason(played, play, verdict="MEETS_STRONG_INTEGRITY") == "device_not_genuine"
    assert reason(played, play, certificates=("11" * 32,)) == "wrong_key"


def test_a_token_that_google_did_not_sign_or_that_is_for_somebody_else():
    play, other = Play(), Play()
    forged = play.token(BINDING, key=ec.generate_private_key(ec.SECP256R1()))
    assert reason(played, play, forged) == "malformed"
    assert reason(played, play, other.token(BINDING)) == "malformed"
    head, *rest = play.token(BINDING).split(".")
    assert reason(played, play, ".".join([head, *rest[:-1], "AAAA"])) == "malformed"


def test_secrets_are_not_shown():
    play = Play()
    assert play.decryption_key not in repr(play.expected())
    assert json.dumps(play.decryption_key) not in repr(AppAttest(APP_ID))
