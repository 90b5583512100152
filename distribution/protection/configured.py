"""The key-encryption keys that this process was given by its settings."""

from pathlib import Path

from django.conf import settings

from distribution.protection import errors
from distribution.protection.keyring import Keyring, KeyringError


def key_encryption_keys() -> Keyring:
    """Read anew each time, so that a rotation needs no restart. Raises `KeyEncryptionKeyMissing`."""
    text = _text()
    if not text:
        raise errors.KeyEncryptionKeyMissing(
            "expected AEROGRAM_KEY_ENCRYPTION_KEYS_FILE or AEROGRAM_KEY_ENCRYPTION_KEYS to be set for this process"
        )
    try:
        return Keyring.parse(text)
    except KeyringError as error:
        raise errors.KeyEncryptionKeyMissing(f"key-encryption keys: {error}") from error


def _text() -> str:
    path = settings.AEROGRAM_KEY_ENCRYPTION_KEYS_FILE
    if not path:
        return "\n".join(settings.AEROGRAM_KEY_ENCRYPTION_KEYS)
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        told = type(error).__name__
        raise errors.KeyEncryptionKeyMissing(f"expected {path} to be a readable text file, got {told}") from error
