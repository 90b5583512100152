"""aes-256-gcm-chunks-1: what goes in comes out, and nothing that was touched does."""

import hashlib
import io
import json
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distribution.protection import chunks
from distribution.protection.chunks import EncryptionError, decrypt, encrypt, encrypted_length

SDK = Path(__file__).parents[3] / "sdk_stubs"
VECTORS = json.loads((SDK / "vectors/encryption.json").read_text())
KEY = bytes.fromhex(VECTORS["content_key"])
SIZES = st.integers(16, 80)
PLAINTEXTS = st.binary(max_size=400)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def encrypted(plain, size=16, key=KEY, pieces=None):
    return b"".join(encrypt(pieces or [plain], key=key, sha256=sha256(plain), chunk_bytes=size))


def opened(data, plain, key=KEY, length=None):
    wanted = {"sha256": sha256(plain), "length": len(plain) if length is None else length}
    return b"".join(decrypt(io.BytesIO(data), key=key, **wanted))


def refusal(data, plain, **changes):
    with pytest.raises(EncryptionError) as error:
        opened(data, plain, **changes)
    return error.value.code


@given(PLAINTEXTS, SIZES)
def test_what_goes_in_comes_out(plain, size):
    data = encrypted(plain, size)
    assert opened(data, plain) == plain
    assert len(data) == encrypted_length(len(plain), size)
    assert len(plain) < 16 or plain[:16] not in data


@given(st.lists(st.binary(max_size=100), max_size=8), SIZES)
def test_pieces_of_any_size_make_the_same_file(pieces, size):
    plain = b"".join(pieces)
    assert encrypted(plain, size, pieces=pieces) == encrypted(plain, size) == encrypted(plain, size)


@given(st.data(), st.binary(min_size=1, max_size=200), SIZES)
def test_no_bit_can_be_flipped(data, plain, size):
    whole = bytearray(encrypted(plain, size))
    index = data.draw(st.integers(0, len(whole) - 1))
    whole[index] ^= 1 << data.draw(st.integers(0, 7))
    codes = {"not_encrypted", "wrong_chunk_size", "wrong_file", "wrong_key", "chunk_not_authentic"}
    assert refusal(bytes(whole), plain) in (codes if index < chunks.HEADER_BYTES else {"chunk_not_authentic"})


@given(st.data(), PLAINTEXTS, SIZES)
def test_it_cannot_end_early(data, plain, size):
    whole = encrypted(plain, size)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert refusal(whole[:cut], plain) == ("truncated" if cut >= chunks.HEADER_BYTES else "not_encrypted")


@given(st.data(), st.binary(min_size=33, max_size=400))
def test_whole_chunks_cannot_be_left_out_even_by_whoever_writes_the_length(data, plain):
    size = 16
    left = data.draw(st.integers(1, -(-len(plain) // size) - 1))
    whole = encrypted(plain, size)
    cut = whole[: chunks.HEADER_BYTES + left * (size + chunks.TAG_BYTES)]
    assert refusal(cut, plain, length=left * size) == "chunk_not_authentic"


@given(st.data(), st.integers(2, 8))
def test_chunks_cannot_change_places(data, count):
    plain = bytes(range(16 * count))
    whole = encrypted(plain)
    start, size = chunks.HEADER_BYTES, 32
    parts = [whole[start + size * number :][:size] for number in range(count)]
    order = data.draw(st.permutations(range(count)).filter(lambda order: list(order) != sorted(order)))
    assert refusal(whole[:start] + b"".join(parts[number] for number in order), plain) == "chunk_not_authentic"


@given(PLAINTEXTS, st.binary(min_size=32, max_size=32).filter(lambda key: key != KEY))
def test_another_key_opens_nothing(plain, key):
    assert refusal(encrypted(plain), plain, key=key) == "wrong_key"


@given(PLAINTEXTS, PLAINTEXTS.filter(bool), SIZES)
def test_chunks_of_one_file_do_not_fit_another(plain, other, size):
    """As if a nonce were swapped: every file has a key and a prefix of its own."""
    if plain == other:
        return
    header = encrypted(plain, size)[: chunks.HEADER_BYTES]
    body = encrypted(other, size)[chunks.HEADER_BYTES :]
    assert refusal(header + body, plain, length=len(other)) == "chunk_not_authentic"
    assert refusal(encrypted(other, size), plain) == "wrong_file"


def test_a_file_that_is_not_what_was_registered_ends_in_a_refusal():
    with pytest.raises(EncryptionError, match="expected a plaintext") as error:
        b"".join(encrypt([b"other"], key=KEY, sha256=sha256(b"registered")))
    assert error.value.code == "wrong_plaintext"


def test_nonces_never_repeat(monkeypatch):
    """Of one file by its chunks' numbers, of two files by their keys."""
    seen = set()

    class Watching:
        def __init__(self, key):
            self.key, self.cipher = key, real(key)

        def encrypt(self, nonce, data, more):
            assert (self.key, nonce) not in seen
            seen.add((self.key, nonce))
            return self.cipher.encrypt(nonce, data, more)

    real = chunks.AESGCM
    monkeypatch.setattr(chunks, "AESGCM", Watching)
    for plain in (bytes(100), bytes(101), b"", bytes(16)):
        encrypted(plain)
    encrypted(bytes(100), size=32)
    assert len(seen) == 7 + 7 + 1 + 1 + 4


@pytest.mark.parametrize("case", VECTORS["opened"], ids=lambda case: case["name"])
def test_vectors_that_open(case):
    plain, data = b64decode(case["plaintext"]), b64decode(case["encrypted"])
    assert opened(data, plain) == plain
    assert encrypted(plain, case["chunk_bytes"]) == data


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_vectors_that_are_refused_by_name(case):
    source = io.BytesIO(b64decode(case["encrypted"]))
    with pytest.raises(EncryptionError) as error:
        b"".join(decrypt(source, key=KEY, sha256=case["sha256"], length=case["length"]))
    assert error.value.code == case["code"]


@pytest.mark.parametrize("name", ["chunks", "handover"])
def test_the_sdk_has_the_server_s_own(name):
    server = Path(chunks.__file__).with_name(f"{name}.py")
    assert (SDK / f"python/aerogram_sdk/{name}.py").read_bytes() == server.read_bytes()
