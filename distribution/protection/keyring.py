"""Key-encryption keys: they wrap content keys in the database and lie outside of it. Pure.

A wrapped key is 12 bytes of random nonce and AES-256-GCM's output over the key, with its context as additional data,
so that a wrapped key that is moved to another row opens nothing.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_DIGITS = 16


class KeyringError(ValueError):
    """Keys cannot be read, or none of them opens what was wrapped. Never tells a key."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """`kek_id` names the key-encryption key."""

    kek_id: str
    content: bytes


class Keyring:
    """The first key wraps, every key unwraps: a new one is put in front, and the old one goes once all is rewrapped."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise KeyringError(f"expected one key or more, each of {KEY_BYTES} bytes")
        self._keys = {kek_id(key): key for key in keys}
        self.current_id = kek_id(keys[0])

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """One key a line, in base64 of either alphabet, the current one first; `#` begins a comment.

        Raises `KeyringError`.
        """
        lines = [line.partition("#")[0].strip() for line in text.splitlines()]
        return cls([_decode(number, line) for number, line in enumerate(lines, start=1) if line])

    @property
    def ids(self) -> set[str]:
        return set(self._keys)

    def wrap(self, secret: bytes, context: str) -> Wrapped:
        """`context`: what the secret is for; it must be told again to unwrap."""
        nonce = os.urandom(_NONCE_BYTES)
        cipher = AESGCM(self._keys[self.current_id])
        return Wrapped(self.current_id, nonce + cipher.encrypt(nonce, secret, context.encode()))

    def unwrap(self, wrapped: Wrapped, context: str) -> bytes:
        """Raises `KeyringError` when the key is not here, or what was wrapped is not as it was."""
        key = self._keys.get(wrapped.kek_id)
        if key is None:
            raise KeyringError(f"expected key-encryption key {wrapped.kek_id}, got {', '.join(sorted(self._keys))}")
        nonce, content = wrapped.content[:_NONCE_BYTES], wrapped.content[_NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, content, context.encode())
        except (InvalidTag, ValueError):
            raise KeyringError(f"{context}: expected as it was wrapped by {wrapped.kek_id}, got other") from None


def kek_id(key: bytes) -> str:
    """A name that tells nothing of the key, for a random key of 32 bytes has no shorter description."""
    return hashlib.sha256(b"aerogram key-encryption key\0" + key).hexdigest()[:_ID_DIGITS]


def _decode(number: int, line: str) -> bytes:
    try:
        padded = line.rstrip("=") + "=" * (-len(line.rstrip("=")) % 4)
        key = base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyringError(f"line {number}: expected {KEY_BYTES} bytes in base64")
    return key
