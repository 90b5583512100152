"""The control plane's half of trust: sign manifests, release indexes, snapshot and timestamp with the online keys."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from distribution.canonical_json import canonical_bytes, envelope
from distribution.manifest import Manifest
from distribution.models import SignedDocument
from distribution.trust.publisher import latest_version
from distribution.trust.roles import SNAPSHOT, TIMESTAMP, expiry
from distribution.trust.signers import Keys
from distribution.trust.tree import COMPACT, SignedTree, StoredFile
from registry.models import Application

T = TypeVar("T", Targets, Snapshot)


@dataclass
class OnlineSigner:
    """Signs for one application at one moment, writes to its tree, and remembers what it signed.

    While a key is being replaced, both sign: what is published is valid before and after the change above it.
    """

    application: Application
    now: datetime
    tree: SignedTree
    keys: Keys
    documents: list[SignedDocument] = field(default_factory=list)
    _signers: dict[str, list[Signer]] = field(default_factory=dict)

    def signers(self, role: str) -> list[Signer]:
        """Raises `KeyUnreadable`."""
        if role not in self._signers:
            self._signers[role] = list(self.keys.signers(self.application.slug, role))
        return self._signers[role]

    def keyids(self, role: str) -> list[str]:
        return [signer.public_key.keyid for signer in self.signers(role)]

    def manifest(self, manifest: Manifest, role: str) -> StoredFile:
        """Sign and store one manifest under its own path."""
        signed = manifest.to_signed()
        signatures = [signer.sign(canonical_bytes(signed)) for signer in self.signers(role)]
        content = envelope(signed, [{"keyid": item.keyid, "sig": item.signature} for item in signatures])
        return self.tree.write_new(manifest.path, content)

    def metadata(self, signed: T, role: str) -> None:
        """Sign and store one version of a role."""
        metadata = Metadata(signed)
        self._sign(metadata, role)
        stored = self.tree.write_new(self.tree.role_path(role, signed.version), metadata.to_bytes(COMPACT))
        self.documents.append(
            SignedDocument(
                application=self.application,
                role=role,
                version=signed.version,
                path=stored.path,
                sha256=stored.sha256,
                length=stored.length,
                expires_at=signed.expires,
                signed_at=self.now,
            )
        )

    def timestamp(self, revision: int) -> bytes:
        """The signed pointer at a revision. Whoever writes it makes the revision current."""
        meta = self.meta_file(SNAPSHOT, revision)
        timestamp = Metadata(Timestamp(version=revision, expires=expiry(TIMESTAMP, self.now), snapshot_meta=meta))
        self._sign(timestamp, TIMESTAMP)
        return timestamp.to_bytes(COMPACT)

    def _sign(self, metadata: Metadata[Any], role: str) -> None:
        for signer in self.signers(role):
            metadata.sign(signer, append=True)

    def meta_file(self, role: str, version: int) -> MetaFile:
        """How a parent lists a stored version of a role: number, length and hash."""
        content = self.tree.read(self.tree.role_path(role, version))
        if content is None:
            raise FileNotFoundError(f"expected {self.tree.role_path(role, version)} in the tree, found nothing")
        return MetaFile.from_data(version, content, ["sha256"])

    def next_version(self, role: str) -> int:
        """Above the rows and above the tree, whichever is newer."""
        return max(latest_version(self.application, role), self.tree.highest_version(role)) + 1
