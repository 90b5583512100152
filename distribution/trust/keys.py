"""Private keys as files, one folder for each holder. ECDSA P-256, the one scheme that phones verify without a library.

Two holders, two folders, never read by the same process:
    online     snapshot, timestamp, releases-<channel>: the control plane's publisher
    publisher  root, targets: the signer process
"""

import os
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signer

from registry import errors


class KeyUnreadable(errors.Unavailable):
    """A private key that this process should hold is not where it should be."""

    code = "signing_key_unavailable"


class KeyFolder:
    """Keys at `<folder>/<application>/<role>.pem`, files 0600 in folders 0700."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, application: str, role: str) -> Path:
        return self.folder / application / f"{role}.pem"

    def signer(self, application: str, role: str) -> Signer:
        """Raises `KeyUnreadable`."""
        path = self.path(application, role)
        try:
            private_key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise KeyUnreadable(f"expected the private key of {role} for {application}: {error}") from error
        return CryptoSigner(private_key)

    def signer_or_new(self, application: str, role: str) -> Signer:
        """The role's key, made now if there is none yet."""
        if not self.path(application, role).exists():
            self._write_new(self.path(application, role))
        return self.signer(application, role)

    def _write_new(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        pem = CryptoSigner.generate_ecdsa().private_bytes
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(path)
