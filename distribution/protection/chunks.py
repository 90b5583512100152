"""aes-256-gcm-chunks-1: a file as authenticated chunks, specified to the byte in docs/protection.md. Pure.

STREAM of Hoang, Reyhanitabar, Rogaway and Vizár (2015) with AES-256-GCM: each chunk's nonce holds its number and
whether it is the last one, so that none can be changed, moved, repeated or left out.

Key and nonce prefix of a file follow from the content key, the chunk size and the SHA-256 of the plaintext. So the same
file under the same content key is the same ciphertext, and a nonce never meets a second plaintext.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ALGORITHM = "aes-256-gcm-chunks-1"
MAGIC = b"AGEC\x01\0\0\0"
INFO = b"aerogram aes-256-gcm-chunks-1"
KEY_BYTES = 32
TAG_BYTES = 16
CHUNK_BYTES = 1 << 16  # what the server writes: tags add a quarter of a thousandth
LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES = 1 << 4, 1 << 20
MOST_CHUNKS = 1 << 32
_BEGINNING = struct.Struct("<8sI32s")  # magic, chunk bytes, SHA-256 of the plaintext
_PREFIX_BYTES, _COMMITMENT_BYTES = 7, 32
HEADER_BYTES = _BEGINNING.size + _COMMITMENT_BYTES


class EncryptionError(ValueError):
    """A file is not what it should be; `code` is one of the refusals in docs/protection.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Header:
    """What a file begins with. `sha256`: of the plaintext, in hex."""

    chunk_bytes: int
    sha256: str
    commitment: bytes

    @classmethod
    def read(cls, data: bytes) -> "Header":
        """Raises `EncryptionError` (`not_encrypted`, `wrong_chunk_size`)."""
        if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
            raise EncryptionError("not_encrypted", f"expected {ALGORITHM}, got a file that begins {data[:8].hex()}")
        _, chunk_bytes, digest = _BEGINNING.unpack_from(data)
        _require_chunk_size(chunk_bytes)
        return cls(chunk_bytes, digest.hex(), data[_BEGINNING.size : HEADER_BYTES])


def encrypted_length(length: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Bytes of the encrypted file for `length` bytes of plaintext.

    >>> encrypted_length(0), encrypted_length(65536), encrypted_length(65537)
    (92, 65628, 65645)
    """
    return HEADER_BYTES + length + TAG_BYTES * _chunk_count(length, chunk_bytes)


def encrypt(chunks: Iterable[bytes], *, key: bytes, sha256: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The encrypted file in pieces, for a plaintext in pieces of any size.

    `key`: the content key, 32 bytes. `sha256`: of the plaintext, in hex, known before. Raises `EncryptionError`
    (`wrong_plaintext`) at the end when the plaintext has another hash: what came out by then must be thrown away.
    """
    _require_chunk_size(chunk_bytes)
    beginning = _BEGINNING.pack(MAGIC, chunk_bytes, bytes.fromhex(sha256))
    file_key = _FileKey.derive(key, beginning)
    yield beginning + file_key.commitment
    digest = hashlib.sha256()
    number, waiting = 0, bytearray()
    for piece in chunks:
        digest.update(piece)
        waiting += piece
        whole = max(0, len(waiting) - 1) // chunk_bytes  # the last chunk is known to be it only at the end
        for start in range(0, whole * chunk_bytes, chunk_bytes):
            yield file_key.encrypt(number, bytes(waiting[start : start + chunk_bytes]), is_last=False)
            number += 1
        del waiting[: whole * chunk_bytes]
    _require_plaintext(digest.hexdigest(), sha256)
    yield file_key.encrypt(number, bytes(waiting), is_last=True)


def decrypt(source: BinaryIO, *, key: bytes, sha256: str, length: int) -> Iterator[bytes]:
    """The plaintext in chunks, each of them authentic. Nothing may be used before the last one has come.

    `sha256`, `length`: of the plaintext, as the manifest lists it. Holds two chunks at most. Raises `EncryptionError`.
    """
    data = source.read(HEADER_BYTES)
    header = Header.read(data)
    if header.sha256 != sha256:
        raise EncryptionError("wrong_file", f"expected a file of plaintext {sha256}, got one of {header.sha256}")
    file_key = _FileKey.derive(key, data[: _BEGINNING.size])
    if file_key.commitment != header.commitment:
        raise EncryptionError("wrong_key", "expected the content key that the file was encrypted with, got another")
    digest = hashlib.sha256()
    count = _chunk_count(length, header.chunk_bytes)
    for number in range(count):
        is_last = number == count - 1
        size = (length - number * header.chunk_bytes if is_last else header.chunk_bytes) + TAG_BYTES
        chunk = source.read(size)
        if len(chunk) < size:
            raise EncryptionError("truncated", f"chunk {number}: expected {size} bytes, got {len(chunk)}")
        plain = file_key.decrypt(number, chunk, is_last=is_last)
        digest.update(plain)
        yield plain
    if source.read(1):
        raise EncryptionError("trailing_bytes", f"expected {count} chunks, got more bytes")
    _require_plaintext(digest.hexdigest(), sha256)


class _FileKey:
    """What one file is encrypted with; never shown."""

    def __init__(self, key: bytes, prefix: bytes, commitment: bytes) -> None:
        self._cipher, self._prefix, self.commitment = AESGCM(key), prefix, commitment

    @classmethod
    def derive(cls, content_key: bytes, beginning: bytes) -> "_FileKey":
        if len(content_key) != KEY_BYTES:
            raise EncryptionError("wrong_key", f"expected a content key of {KEY_BYTES} bytes, got {len(content_key)}")
        length = KEY_BYTES + _PREFIX_BYTES + _COMMITMENT_BYTES
        derived = HKDF(SHA256(), length, salt=beginning, info=INFO).derive(content_key)
        return cls(derived[:KEY_BYTES], derived[KEY_BYTES:-_COMMITMENT_BYTES], derived[-_COMMITMENT_BYTES:])

    def encrypt(self, number: int, chunk: bytes, *, is_last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(number, is_last=is_last), chunk, None)

    def decrypt(self, number: int, chunk: bytes, *, is_last: bool) -> bytes:
        try:
            return self._cipher.decrypt(self._nonce(number, is_last=is_last), chunk, None)
        except InvalidTag:
            raise EncryptionError("chunk_not_authentic", f"chunk {number}: expected as encrypted, got other") from None

    def _nonce(self, number: int, *, is_last: bool) -> bytes:
        if number >= MOST_CHUNKS:
            raise EncryptionError("wrong_chunk_size", f"expected at most {MOST_CHUNKS} chunks, got more")
        return self._prefix + number.to_bytes(4, "big") + bytes([is_last])


def _chunk_count(length: int, chunk_bytes: int) -> int:
    """An empty file has one empty chunk, so that it too ends with a tag."""
    return max(1, -(-length // chunk_bytes))


def _require_chunk_size(chunk_bytes: int) -> None:
    if not LEAST_CHUNK_BYTES <= chunk_bytes <= MOST_CHUNK_BYTES:
        expected = f"chunks of {LEAST_CHUNK_BYTES} to {MOST_CHUNK_BYTES} bytes"
        raise EncryptionError("wrong_chunk_size", f"expected {expected}, got {chunk_bytes}")


def _require_plaintext(found: str, expected: str) -> None:
    if found != expected:
        raise EncryptionError("wrong_plaintext", f"expected a plaintext of sha256 {expected}, got {found}")
