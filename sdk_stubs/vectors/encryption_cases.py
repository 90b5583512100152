"""Cases of encrypted files and of keys on their way: fixed keys, so that every language computes the same bytes."""  # noqa: INP001 - a folder of data with its scripts, no package

import hashlib
from base64 import b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from distribution.protection import chunks, handover

CONTENT_KEY = bytes(range(32))
REQUEST = handover.KeyRequest("demo", "production", "00112233445566778899aabbccddeeff", "8c7e2b1a-unit")
CHALLENGE = bytes(range(100, 156))


def encryption() -> dict[str, Any]:
    return {
        "algorithm": chunks.ALGORITHM,
        "content_key": CONTENT_KEY.hex(),
        "opened": [_opened(name, *case) for name, case in _plaintexts().items()],
        "refused": [_refused(*case) for case in _tampered()],
        "handover": _handover(),
    }


def _plaintexts() -> dict[str, tuple[bytes, int]]:
    """By name: (plaintext, bytes of a chunk)."""
    return {
        "empty": (b"", 16),
        "one byte": (b"\x00", 16),
        "one chunk that is full": (bytes(range(16)), 16),
        "a chunk and a byte": (bytes(range(17)), 16),
        "three chunks": (bytes(range(40)), 16),
        "three full chunks": (bytes(range(48)), 16),
        "larger chunks": (bytes(200), 64),
    }


def _encrypt(plaintext: bytes, chunk_bytes: int) -> bytes:
    digest = hashlib.sha256(plaintext).hexdigest()
    return b"".join(chunks.encrypt([plaintext], key=CONTENT_KEY, sha256=digest, chunk_bytes=chunk_bytes))


def _case(name: str, plaintext: bytes, encrypted: bytes) -> dict[str, Any]:
    return {
        "name": name,
        "length": len(plaintext),
        "sha256": hashlib.sha256(plaintext).hexdigest(),
        "encrypted": b64encode(encrypted).decode(),
    }


def _opened(name: str, plaintext: bytes, chunk_bytes: int) -> dict[str, Any]:
    case = _case(name, plaintext, _encrypt(plaintext, chunk_bytes))
    return {**case, "chunk_bytes": chunk_bytes, "plaintext": b64encode(plaintext).decode()}


def _tampered() -> list[tuple[str, str, bytes, int | None]]:
    """(name, code, encrypted file, length of the plaintext as told if it is not the true one), of three full chunks."""
    plain = _plaintexts()["three full chunks"][0]
    whole = _encrypt(plain, 16)
    start, size = chunks.HEADER_BYTES, 32
    header, first, second, third = whole[:start], *(whole[start + size * n :][:size] for n in range(3))
    other = _encrypt(bytes(48), 16)
    return [
        ("not an encrypted file", "not_encrypted", plain + bytes(60), None),
        ("nothing", "not_encrypted", b"", None),
        ("a header that ends early", "not_encrypted", whole[: start - 1], None),
        ("the file of another plaintext", "wrong_file", other, None),
        ("chunks of no bytes", "wrong_chunk_size", whole[:8] + bytes(4) + whole[12:], None),
        ("chunks of 2 MiB", "wrong_chunk_size", whole[:8] + (2 << 20).to_bytes(4, "little") + whole[12:], None),
        ("another chunk size", "wrong_key", whole[:8] + (32).to_bytes(4, "little") + whole[12:], None),
        ("a commitment to another key", "wrong_key", header[:-1] + bytes([header[-1] ^ 1]) + whole[start:], None),
        ("a bit of a chunk", "chunk_not_authentic", _flipped(whole, start + 3), None),
        ("a bit of a tag", "chunk_not_authentic", _flipped(whole, len(whole) - 1), None),
        ("chunks in another order", "chunk_not_authentic", header + second + first + third, None),
        ("a chunk twice", "chunk_not_authentic", header + first + first + third, None),
        ("chunks under the nonces of another file", "chunk_not_authentic", header + other[start:], None),
        ("the last chunk is missing", "truncated", header + first + second, None),
        ("the end of the last chunk is missing", "truncated", whole[:-1], None),
        ("the last chunk is missing and nobody knows", "chunk_not_authentic", header + first + second, 32),
        ("a middle chunk is missing and nobody knows", "chunk_not_authentic", header + first + third, 32),
        ("a byte more", "trailing_bytes", whole + b"\0", None),
        ("a chunk more", "trailing_bytes", whole + third, None),
    ]


def _refused(name: str, code: str, encrypted: bytes, length: int | None) -> dict[str, Any]:
    case = _case(name, _plaintexts()["three full chunks"][0], encrypted)
    return {**case, "code": code} | ({} if length is None else {"length": length})


def _flipped(data: bytes, index: int) -> bytes:
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def _handover() -> dict[str, Any]:
    installation, server = (ec.derive_private_key(scalar, ec.SECP256R1()) for scalar in (12345, 67890))
    public_key = handover.to_point(installation.public_key())
    binding = REQUEST.binding(CHALLENGE, public_key)
    answer = handover.hand_over_from(server, CONTENT_KEY, public_key, binding)
    return {
        "algorithm": handover.ALGORITHM,
        "application": REQUEST.application,
        "channel": REQUEST.channel,
        "key_id": REQUEST.key_id,
        "unit": REQUEST.unit,
        "challenge": handover.to_base64(CHALLENGE),
        "installation_private_key": 12345,
        "public_key": handover.to_base64(public_key),
        "binding": binding.hex(),
        "answer": {
            "public_key": handover.to_base64(answer.public_key),
            "ciphertext": handover.to_base64(answer.ciphertext),
        },
        "content_key": CONTENT_KEY.hex(),
    }
