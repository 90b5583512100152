"""Wrapped keys, challenges, and answers that one installation alone can open."""

import json
from base64 import b64encode, urlsafe_b64encode
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from distribution.protection import challenges, handover
from distribution.protection.challenges import ChallengeError, new_challenge, require_challenge
from distribution.protection.handover import Answer, HandoverError, KeyRequest, hand_over, take_over
from distribution.protection.keyring import Keyring, KeyringError, Wrapped
from tests.factories import NOW

VECTOR = json.loads((Path(__file__).parents[3] / "sdk_stubs/vectors/encryption.json").read_text())["handover"]
OLD, NEW = bytes(32), bytes(range(32))
REQUEST = KeyRequest("demo", "production", "k" * 32, "unit-1")
SECRET = b"secret"


def lines(*keys):
    return "\n".join(["# ours", *(b64encode(key).decode() + "  # one" for key in keys), ""])


@given(st.binary(min_size=1, max_size=64), st.text(max_size=20))
def test_a_wrapped_key_unwraps_in_its_own_place_only(secret, context):
    ring = Keyring([NEW])
    wrapped = ring.wrap(secret, context)
    assert ring.unwrap(wrapped, context) == secret
    with pytest.raises(KeyringError, match="as it was wrapped"):
        ring.unwrap(wrapped, context + "x")
    broken = bytearray(wrapped.content)
    broken[-1] ^= 1
    with pytest.raises(KeyringError, match="as it was wrapped"):
        ring.unwrap(Wrapped(wrapped.kek_id, bytes(broken)), context)


def test_the_first_key_wraps_and_all_unwrap():
    before = Keyring.parse(lines(OLD)).wrap(b"content", "c")
    ring = Keyring.parse(lines(NEW, OLD))
    assert ring.unwrap(before, "c") == b"content"
    assert ring.wrap(b"content", "c").kek_id == ring.current_id != before.kek_id
    with pytest.raises(KeyringError, match=before.kek_id):
        Keyring([NEW]).unwrap(before, "c")


def test_keys_may_be_in_either_alphabet_of_base64():
    key = bytes([251, 255] * 16)
    told = [b64encode(key), urlsafe_b64encode(key), urlsafe_b64encode(key).rstrip(b"=")]
    assert {Keyring.parse(each.decode()).current_id for each in told} == {Keyring([key]).current_id}


@pytest.mark.parametrize("text", ["", "# nothing", "not base64!", b64encode(bytes(31)).decode(), lines(NEW) + "x"])
def test_a_keyring_that_cannot_be_read_is_refused_without_telling_it(text):
    with pytest.raises(KeyringError) as error:
        Keyring.parse(text)
    assert b64encode(NEW).decode() not in str(error.value)


def test_no_key_is_shown():
    assert repr(Keyring([NEW])).startswith("<")


def test_a_challenge_holds_for_its_request_until_it_ends():
    challenge, expires = new_challenge(REQUEST, SECRET, NOW)
    require_challenge(REQUEST, SECRET, challenge, NOW)
    require_challenge(REQUEST, SECRET, challenge, expires - timedelta(seconds=1))
    assert code_of(REQUEST, SECRET, challenge, expires) == "challenge_expired"
    assert expires - NOW == challenges.LIFE
    assert new_challenge(REQUEST, SECRET, NOW)[0] != challenge


def code_of(*arguments):
    with pytest.raises(ChallengeError) as error:
        require_challenge(*arguments)
    return error.value.code


@pytest.mark.parametrize("member", ["application", "channel", "key_id", "unit"])
def test_a_challenge_is_of_no_use_for_another_request(member):
    challenge, _ = new_challenge(REQUEST, SECRET, NOW)
    names = {"application": "demo", "channel": "production", "key_id": "k" * 32, "unit": "unit-1"}
    assert code_of(KeyRequest(**names | {member: "x"}), SECRET, challenge, NOW) == "challenge_refused"
    assert code_of(REQUEST, b"another", challenge, NOW) == "challenge_refused"


@given(st.data())
def test_no_bit_of_a_challenge_can_be_flipped(data):
    challenge = bytearray(new_challenge(REQUEST, SECRET, NOW)[0])
    challenge[data.draw(st.integers(0, len(challenge) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert code_of(REQUEST, SECRET, bytes(challenge), NOW) == "challenge_refused"
    assert code_of(REQUEST, SECRET, bytes(challenge[: data.draw(st.integers(0, 40))]), NOW) == "challenge_refused"


def test_an_answer_opens_with_the_installation_s_key_and_request_alone():
    ours, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    public_key = handover.to_point(ours.public_key())
    binding = REQUEST.binding(b"challenge", public_key)
    answer = hand_over(NEW, public_key, binding)
    assert NEW not in answer.ciphertext
    assert take_over(answer, ours, binding) == NEW
    for key, bound in ((other, binding), (ours, REQUEST.binding(b"another", public_key))):
        with pytest.raises(HandoverError):
            take_over(answer, key, bound)
    assert hand_over(NEW, public_key, binding).public_key != answer.public_key


@pytest.mark.parametrize("point", [b"", bytes(65), b"\x04" + bytes(64), b"\x02" + bytes(32)])
def test_what_is_no_point_of_the_curve_is_refused(point):
    with pytest.raises(HandoverError, match="P-256"):
        hand_over(NEW, point, bytes(32))


def test_names_cannot_run_into_one_another():
    assert KeyRequest("ab", "c", "d", "e").binding(b"", b"") != KeyRequest("a", "bc", "d", "e").binding(b"", b"")


def test_the_vector():
    request = KeyRequest(VECTOR["application"], VECTOR["channel"], VECTOR["key_id"], VECTOR["unit"])
    ours = ec.derive_private_key(VECTOR["installation_private_key"], ec.SECP256R1())
    public_key = handover.from_base64(VECTOR["public_key"])
    assert handover.to_point(ours.public_key()) == public_key
    binding = request.binding(handover.from_base64(VECTOR["challenge"]), public_key)
    assert binding.hex() == VECTOR["binding"]
    answer = Answer(*(handover.from_base64(VECTOR["answer"][name]) for name in ("public_key", "ciphertext")))
    assert take_over(answer, ours, binding).hex() == VECTOR["content_key"]
