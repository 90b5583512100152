"""Private keys as files, one folder for each holder. ECDSA P-256, the one scheme that phones verify without a library.

Two holders, two folders, never read by the same process:
    online     snapshot, timestamp, releases-<channel>: the control plane's publisher
    publisher  root, targets: the signer process
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signer

from registry import errors

RETIRED: Final = ".retired-"


class KeyUnreadable(errors.Unavailable):
    """A private key that this process should hold is not where it should be."""

    code = "signing_key_unavailable"


class KeyFolder:
    """Keys at `<folder>/<application>/<role>.pem`, files 0600 in folders 0700.

    A replaced key lies beside its successor as `<role>.retired-<keyid>.pem` and still signs, until it is forgotten.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, application: str, role: str) -> Path:
        return self.folder / application / f"{role}.pem"

    def signers(self, application: str, role: str) -> list[Signer]:
        """The role's key, then the retired ones. Raises `KeyUnreadable`."""
        retired = sorted(self._retired(application, role))
        return [_read(path, application, role) for path in (self.path(application, role), *retired)]

    def signers_or_new(self, application: str, role: str) -> list[Signer]:
        """The same; the key is made now if there is none yet."""
        if not self.path(application, role).exists():
            self._write_new(self.path(application, role))
        return self.signers(application, role)

    def signer(self, application: str, role: str) -> Signer:
        """The wanted one alone."""
        return self.signers(application, role)[0]

    def signer_or_new(self, application: str, role: str) -> Signer:
        return self.signers_or_new(application, role)[0]

    def replace(self, application: str, role: str) -> Signer:
        """Put a new key in the place of the present one, which is retired. Raises `KeyUnreadable`."""
        path = self.path(application, role)
        old = _read(path, application, role)
        retired = path.with_name(f"{role}{RETIRED}{old.public_key.keyid[:16]}.pem")
        if not retired.exists():
            os.link(path, retired)
        self._write_new(path)
        return self.signer(application, role)

    def forget(self, application: str, role: str) -> int:
        """Delete the retired keys; how many there were."""
        paths = list(self._retired(application, role))
        for path in paths:
            path.unlink()
        return len(paths)

    def _retired(self, application: str, role: str) -> Iterator[Path]:
        return self.path(application, role).parent.glob(f"{glob.escape(role)}{RETIRED}*.pem")

    def _write_new(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        write_private(partial, CryptoSigner.generate_ecdsa().private_bytes)
        partial.rename(path)


def write_private(path: Path, pem: bytes) -> None:
    """A file that its owner alone can read, on disk when this returns. Raises `FileExistsError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(pem)
        stream.flush()
        os.fsync(stream.fileno())


def _read(path: Path, application: str, role: str) -> Signer:
    try:
        return CryptoSigner(load_pem_private_key(path.read_bytes(), password=None))
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnreadable(f"expected the private key of {role} for {application}: {error}") from error
