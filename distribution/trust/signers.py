"""Who signs for a role: one interface, chosen by a URI, for each role and application. Imports no Django.

    file:/keys/{application}/{role}.pem                      a plain PEM file: development, or an encrypted disk
    file+encrypted:/keys/targets.pem?passphrase_file=/run/p  PEM under a passphrase, from a file …
    file+encrypted:/keys/targets.pem?passphrase_env=NAME     … or from the environment; without either it is asked for
    awskms:alias/aerogram-targets                            AWS KMS; credentials as boto3 finds them
    offline:                                                 no key here: a ceremony signs elsewhere

A signer is securesystemslib's: `public_key` and `sign(payload)`. `{application}` and `{role}` are filled in.
Keys are ECDSA P-256 over SHA-256: the one scheme that phones verify without a library.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnsupportedAlgorithmError
from securesystemslib.signer import AWSSigner, CryptoSigner, Key, Signature, Signer

from distribution.trust.keys import KeyFolder, KeyUnreadable, write_private

SCHEME: Final = "ecdsa-sha2-nistp256"
OFFLINE: Final = "offline"
ANY: Final = "*"
Ask = Callable[[str], str]


class Keys(Protocol):
    """Where a process finds its signers."""

    def signers(self, application: str, role: str) -> Sequence[Signer]:
        """The role's wanted signer, then those it replaces. Empty when the role is signed offline.

        Raises `KeyUnreadable`.
        """

    def signers_or_new(self, application: str, role: str) -> Sequence[Signer]:
        """The same; a key that may be made here and is not there yet is made."""


def never_ask(_prompt: str) -> str:
    raise KeyUnreadable("expected passphrase_file or passphrase_env in the URI: a server can ask nobody")


def signer_from_uri(uri: str, *, ask: Ask = never_ask) -> Signer:
    """The signer that a URI names; a path without a scheme is a file. Raises `KeyUnreadable`."""
    parts = urlsplit(uri)
    if parts.scheme == "awskms":
        return kms_signer(parts.path)
    if parts.scheme in ("", "file"):
        return _from_file(Path(unquote(parts.path)), None, ask)
    if parts.scheme == "file+encrypted":
        return _from_file(Path(unquote(parts.path)), parse_qs(parts.query), ask)
    raise KeyUnreadable(f"expected file:, file+encrypted: or awskms:, got {parts.scheme}:")


def private_pem(signer: CryptoSigner, passphrase: str) -> bytes:
    """PKCS#8 as PEM, encrypted unless the passphrase is empty."""
    algorithm = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    key = load_pem_private_key(signer.private_bytes, password=None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, algorithm)


def make_key_file(path: Path, passphrase: str) -> Key:
    """A new private key at `path`, which must not exist, mode 0600. Returns its public half."""
    signer = CryptoSigner.generate_ecdsa()
    write_private(path, private_pem(signer, passphrase))
    return signer.public_key


def _from_file(path: Path, encryption: Mapping[str, Sequence[str]] | None, ask: Ask) -> Signer:
    try:
        pem = path.read_bytes()
        passphrase = _passphrase(path, encryption, ask) if encryption is not None else None
        signer = CryptoSigner(load_pem_private_key(pem, password=passphrase))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnreadable(f"expected a private key at {path}: {error}") from error
    return _required_scheme(signer, str(path))


def _passphrase(path: Path, options: Mapping[str, Sequence[str]], ask: Ask) -> bytes:
    for file in options.get("passphrase_file", ()):
        return Path(file).read_text().strip().encode()
    for name in options.get("passphrase_env", ()):
        if name not in os.environ:
            raise KeyUnreadable(f"expected the passphrase of {path} in the variable {name}, which is not set")
        return os.environ[name].encode()
    return ask(f"Passphrase of {path}").encode()


def _required_scheme(signer: Signer, name: str) -> Signer:
    if signer.public_key.scheme != SCHEME:
        raise KeyUnreadable(f"{name}: expected a key of {SCHEME}, got {signer.public_key.scheme}")
    return signer


# A KMS key never changes under its id, and asking for its public half is a request.
@lru_cache(maxsize=64)
def kms_signer(key_id: str) -> Signer:
    """Raises `KeyUnreadable`."""
    try:
        uri, public_key = AWSSigner.import_(key_id)
        return _required_scheme(KmsSigner(AWSSigner.from_priv_key_uri(uri, public_key)), f"awskms:{key_id}")
    except (BotoCoreError, ClientError, UnsupportedAlgorithmError, ValueError) as error:
        raise KeyUnreadable(f"expected a signing key awskms:{key_id}: {error}") from error


class KmsSigner(Signer):
    """securesystemslib's, telling in our words when KMS does not answer."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def public_key(self) -> Key:
        return self._signer.public_key

    def sign(self, payload: bytes) -> Signature:
        try:
            return self._signer.sign(payload)
        except (BotoCoreError, ClientError) as error:
            raise KeyUnreadable(f"expected a signature by KMS: {error}") from error

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: object = None) -> Signer:  # noqa: ARG003
        return cls(AWSSigner.from_priv_key_uri(priv_key_uri, public_key))


@dataclass(frozen=True)
class Keyring:
    """Signers by URI where one is set, a folder of plain keys (or nothing) for the rest.

    `uris`: `application/role` → URIs; either part may be `*`, the more exact entry wins, the role before the
    application. Of several URIs the first is wanted, the others still sign until the metadata above names it.
    """

    uris: Mapping[str, Sequence[str]] = field(default_factory=dict)
    folder: KeyFolder | None = None

    def uris_for(self, application: str, role: str) -> Sequence[str]:
        for name in (f"{application}/{role}", f"{ANY}/{role}", f"{application}/{ANY}", f"{ANY}/{ANY}"):
            if name in self.uris:
                names = {"application": quote(application, safe=""), "role": quote(role, safe="")}
                return [uri.format_map(names) for uri in self.uris[name]]
        return []

    def names(self, application: str, role: str) -> bool:
        """Whether an entry names just this role."""
        return f"{application}/{role}" in self.uris or f"{ANY}/{role}" in self.uris

    def signers(self, application: str, role: str) -> Sequence[Signer]:
        if uris := self.uris_for(application, role):
            return [signer_from_uri(uri) for uri in uris if urlsplit(uri).scheme != OFFLINE]
        return self._require_folder(application, role).signers(application, role)

    def signers_or_new(self, application: str, role: str) -> Sequence[Signer]:
        if self.uris_for(application, role):
            return self.signers(application, role)
        return self._require_folder(application, role).signers_or_new(application, role)

    def _require_folder(self, application: str, role: str) -> KeyFolder:
        if self.folder is None:
            raise KeyUnreadable(f"expected a signer of {role} for {application}, none is set")
        return self.folder


def parse_uris(items: Sequence[str]) -> dict[str, list[str]]:
    """`application/role=uri` entries, one name perhaps several times. Raises `ValueError`."""
    found: dict[str, list[str]] = {}
    for item in items:
        name, is_entry, uri = item.partition("=")
        if not is_entry or name.count("/") != 1 or urlsplit(uri).scheme not in SCHEMES:
            raise ValueError(f"expected application/role=uri with one of {', '.join(SCHEMES)}, got {item!r}")
        found.setdefault(name.strip(), []).append(uri.strip())
    return found


SCHEMES: Final = ("file", "file+encrypted", "awskms", OFFLINE)
