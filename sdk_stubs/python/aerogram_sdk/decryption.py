"""From downloaded ciphertext to the files that a runtime loads."""

import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aerogram_sdk.chunks import ALGORITHM, EncryptionError, decrypt
from aerogram_sdk.errors import DecryptionFailed, EncryptionUnsupported
from aerogram_sdk.keys import ContentKeys
from aerogram_sdk.manifest import Encryption, Manifest, ManifestFile

__all__ = ["decrypted", "refuse_unopenable"]


def refuse_unopenable(manifest: Manifest) -> None:
    """Before anything is fetched. Raises EncryptionUnsupported."""
    if manifest.encryption and manifest.encryption.algorithm != ALGORITHM:
        raise EncryptionUnsupported(f"encryption: expected {ALGORITHM}, got {manifest.encryption.algorithm!r}")


@contextmanager
def decrypted(
    manifest: Manifest, encrypted: Mapping[str, Path], staging: Path, keys: ContentKeys
) -> Iterator[dict[str, Path]]:
    """The plaintext of each file of `encrypted` (by path in the manifest), until the context ends.

    Raises KeyUnavailable, KeyRefused or DecryptionFailed; then nothing of it is left.
    """
    folder = staging / uuid.uuid4().hex
    try:
        if encrypted and manifest.encryption:
            folder.mkdir()
        yield _Opening(manifest.encryption, folder, keys).all(encrypted) if manifest.encryption else {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Opening:
    def __init__(self, encryption: Encryption, folder: Path, keys: ContentKeys) -> None:
        self._encryption, self._folder, self._keys = encryption, folder, keys

    def all(self, encrypted: Mapping[str, Path]) -> dict[str, Path]:
        return {path: self._one(self._encryption.files[path], source) for path, source in encrypted.items()}

    def _one(self, plain: ManifestFile, source: Path) -> Path:
        """A key that the app has kept may be another one by now; it is asked for once more."""
        try:
            return self._open(plain, source)
        except EncryptionError as error:
            self._keys.forget(self._encryption.key_id)
            if error.code != "wrong_key":
                raise _failed(plain, error) from error
        try:
            return self._open(plain, source)
        except EncryptionError as error:
            self._keys.forget(self._encryption.key_id)
            raise _failed(plain, error) from error

    def _open(self, plain: ManifestFile, source: Path) -> Path:
        target = self._folder / uuid.uuid4().hex
        key = self._keys.key(self._encryption.key_id)
        with source.open("rb") as stream, target.open("wb") as opened:
            opened.writelines(decrypt(stream, key=key, sha256=plain.sha256, length=plain.length))
        return target


def _failed(plain: ManifestFile, error: EncryptionError) -> DecryptionFailed:
    return DecryptionFailed(f"{plain.path}: expected to be decrypted, got {error.code}: {error}")
