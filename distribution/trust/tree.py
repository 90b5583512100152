"""One application's signed tree in the store: plain files that a CDN could serve.

trust/{N}.root.json  trust/{N}.targets.json  trust/{N}.releases-{channel}.json  trust/{N}.snapshot.json
trust/timestamp.json                                 replaced: the one pointer
targets/catalogs/{sha256}.{channel}.json
manifests/{channel}/{model}/{manifest version}.{model version}.{variant}.json
blobs/sha256/{first two}/{sha256}                    second names of the files a phone may install, and of patches
patches/{target sha256}.json                         which patches lead to a file; replaced when there are others
"""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization.json import JSONSerializer

from distribution.trust.roles import ROOT
from registry.blob_store import BlobStore, blob_key

TIMESTAMP_PATH = "trust/timestamp.json"
COMPACT = JSONSerializer(compact=True)


@dataclass(frozen=True)
class StoredFile:
    path: str
    sha256: str
    length: int


class SignedTree:
    """Reads and writes below `tree/<application>/`."""

    def __init__(self, store: BlobStore, application: str) -> None:
        self.storage = store.storage
        self.application = application

    def read(self, path: str) -> bytes | None:
        """The file's bytes, or None when there is no such file."""
        try:
            return b"".join(self.storage.chunks(self._key(path)))
        except FileNotFoundError:
            return None

    def write_new(self, path: str, content: bytes) -> StoredFile:
        """Write an immutable file. The same bytes already there are as good; others raise `FileExistsError`."""
        if self.read(path) != content:
            self.storage.write_new(self._key(path), [content])
        return StoredFile(path, hashlib.sha256(content).hexdigest(), len(content))

    def write_timestamp(self, content: bytes) -> None:
        """Move the tree to a new revision."""
        self.storage.replace(self._key(TIMESTAMP_PATH), content)

    def link_blob(self, sha256: str) -> None:
        """Make private bytes public under their digest."""
        key = self._key(f"blobs/{blob_key(sha256)}")
        if not self.storage.exists(key):
            self.storage.link(blob_key(sha256), key)

    def read_patches(self, target_sha256: str) -> bytes | None:
        """The list of patches that lead to a target, or None when there is none."""
        return self.read(patches_path(target_sha256))

    def write_patches(self, target_sha256: str, content: bytes) -> None:
        """Put a list in the place of the one before."""
        self.storage.replace(self._key(patches_path(target_sha256)), content)

    def highest_version(self, role: str) -> int:
        """The highest version of a role's file in the tree, 0 when there is none. Counts what a crash left unused."""
        return self._highest("trust", rf"(\d+)\.{re.escape(role)}\.json")

    def highest_manifest_version(self, channel: str, model: str) -> int:
        """The same for the manifests of one model in one channel."""
        return self._highest(f"manifests/{channel}/{model}", r"(\d+)\..+\.json")

    def _highest(self, folder: str, pattern: str) -> int:
        with suppress(FileNotFoundError):
            names = self.storage.listdir(self._key(folder))[1]
            return max((int(match[1]) for name in names if (match := re.fullmatch(pattern, name))), default=0)
        return 0

    def role_path(self, role: str, version: int) -> str:
        return f"trust/{version}.{role}.json"

    def root(self) -> Metadata[Root] | None:
        """The newest root. Roots have no gaps and need no pointer: the highest number is the current one."""
        version = self.highest_version(ROOT)
        content = self.read(self.role_path(ROOT, version)) if version else None
        return Metadata[Root].from_bytes(content) if content else None

    def targets(self, role: str, version: int) -> Metadata[Targets] | None:
        content = self.read(self.role_path(role, version)) if version else None
        return Metadata[Targets].from_bytes(content) if content else None

    def current(self) -> "TreePointer | None":
        """What `timestamp.json` points at, or None before the first revision."""
        timestamp = self.read(TIMESTAMP_PATH)
        if timestamp is None:
            return None
        document = json.loads(timestamp)
        snapshot_version = document["signed"]["meta"]["snapshot.json"]["version"]
        snapshot = self.read(self.role_path("snapshot", snapshot_version))
        if snapshot is None:
            return None
        return TreePointer.parse(document, json.loads(snapshot))

    def _key(self, path: str) -> str:
        return f"tree/{self.application}/{path}"


@dataclass(frozen=True)
class TreePointer:
    """The revision that devices see: versions of all roles, and when the two top ones expire and who signed them."""

    revision: int
    timestamp_expires_at: datetime
    snapshot_expires_at: datetime
    role_versions: dict[str, int]
    snapshot_version: int = 0
    timestamp_keyids: frozenset[str] = frozenset()
    snapshot_keyids: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, timestamp_document: dict[str, Any], snapshot_document: dict[str, Any]) -> "TreePointer":
        timestamp, snapshot = timestamp_document["signed"], snapshot_document["signed"]
        return cls(
            timestamp_keyids=frozenset(item["keyid"] for item in timestamp_document["signatures"]),
            snapshot_keyids=frozenset(item["keyid"] for item in snapshot_document["signatures"]),
            revision=timestamp["version"],
            snapshot_version=timestamp["meta"]["snapshot.json"]["version"],
            timestamp_expires_at=parse_time(timestamp["expires"]),
            snapshot_expires_at=parse_time(snapshot["expires"]),
            role_versions={name.removesuffix(".json"): meta["version"] for name, meta in snapshot["meta"].items()},
        )


def patches_path(target_sha256: str) -> str:
    return f"patches/{target_sha256}.json"


def parse_time(text: str) -> datetime:
    """TUF's time format, always UTC."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
