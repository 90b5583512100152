"""One application's published tree as the files a CDN serves, named as the device plane's addresses are. No Django.

DEST/v1/apps/{application}/
    trust/…  targets/…  blobs/sha256/{digest}  manifests/…        immutable, but for trust/timestamp.json
    channels/{channel}/catalog, catalog.gz                        of this revision
    patches/{target sha256}                                       of this moment

Nothing that an earlier export wrote is removed, for clients may be half way through it; timestamp.json is written last.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from distribution.catalog import HEX_DIGEST
from distribution.device_plane.state import MOST_METADATA_BYTES, DamagedTreeError, load_app
from distribution.device_plane.tree import TIMESTAMP, TreeReader
from registry.json_members import Members

MOST_LIST_BYTES = 1 << 20
_PUBLISHERS = re.compile(r"(targets|models-.+)\.json")


@dataclass
class Exported:
    """What an export did. `written` counts files that were not there yet, `size_bytes` theirs."""

    revision: int
    written: int = 0
    size_bytes: int = 0


@dataclass
class TreeExport:
    """Raises OSError, or DamagedTreeError when the tree does not hold together; then the pointer is not moved."""

    tree: TreeReader
    application: str
    destination: Path
    done: Exported = field(default_factory=lambda: Exported(0))

    @property
    def folder(self) -> Path:
        return self.destination / "v1" / "apps" / self.application

    def run(self) -> Exported:
        state = load_app(self.tree, self.application)
        self.done = Exported(state.revision)
        for role, metadata in self._metadata(state.timestamp_bytes):
            if _PUBLISHERS.fullmatch(f"{role}.json"):
                self._targets(metadata.object("targets"))
        self._roots()
        for channel, served in state.channels.items():
            self._new(f"targets/catalogs/{served.catalog_sha256}.{channel}.json", [served.catalog_bytes])
            for path, content in served.manifests.items():
                self._new(path, [content])
            self._replace(f"channels/{channel}/catalog.gz", served.catalog_gzip)
            self._replace(f"channels/{channel}/catalog", served.catalog_bytes)
        self._replace(TIMESTAMP, state.timestamp_bytes)
        return self.done

    def _metadata(self, timestamp: bytes) -> Iterator[tuple[str, Members]]:
        version = _signed(timestamp, "timestamp").object("meta").object("snapshot.json").integer("version")
        snapshot = self._role("snapshot", version)
        meta = snapshot.object("meta")
        for name in meta.document:
            role = name.removesuffix(".json")
            yield role, self._role(role, meta.object(name).integer("version"))

    def _role(self, role: str, version: int) -> Members:
        path = f"trust/{version}.{role}.json"
        content = self.tree.read(self.application, path, MOST_METADATA_BYTES)
        self._new(path, [content])
        return _signed(content, role)

    def _roots(self) -> None:
        """All there are: a client may come with the oldest."""
        with suppress(FileNotFoundError):
            for version in count(1):
                self._role("root", version)

    def _targets(self, targets: Members) -> None:
        for path in targets.document:
            digest = targets.object(path).object("hashes").text("sha256")
            self._blob(digest)
            folder, _, name = path.rpartition("/")
            self._second_name(f"blobs/sha256/{digest}", f"targets/{folder}/{digest}.{name}")
            self._patches(digest)

    def _patches(self, target: str) -> None:
        with suppress(FileNotFoundError):
            content = self.tree.read(self.application, f"patches/{target}.json", MOST_LIST_BYTES)
            for patch in _signed(content, "patches").objects("patches"):
                self._blob(patch.text("sha256"))
            self._replace(f"patches/{target}", content)

    def _blob(self, digest: str) -> None:
        if not HEX_DIGEST.fullmatch(digest):
            raise ValueError(f"sha256: expected 64 lower-case hex digits, got {digest[:80]!r}")
        if (self.folder / "blobs" / "sha256" / digest).exists():
            return
        file = self.tree.open(self.application, f"blobs/sha256/{digest[:2]}/{digest}")
        try:
            self._new(f"blobs/sha256/{digest}", file.chunks(0, file.size), sha256=digest)
        finally:
            file.close()

    def _second_name(self, existing: str, path: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(self.folder / existing, target)

    def _new(self, path: str, chunks: Iterable[bytes], *, sha256: str | None = None) -> None:
        """An immutable file, whole or not at all."""
        if (self.folder / path).exists():
            return
        self._write(path, chunks, sha256)

    def _replace(self, path: str, content: bytes) -> None:
        target = self.folder / path
        if not target.exists() or target.read_bytes() != content:
            self._write(path, [content], None)

    def _write(self, path: str, chunks: Iterable[bytes], sha256: str | None) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{uuid.uuid4().hex}.partial")
        digest = hashlib.sha256()
        try:
            with temporary.open("xb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    self.done.size_bytes += file.write(chunk)
            if sha256 not in (None, digest.hexdigest()):
                raise OSError(f"{path}: expected sha256 {sha256}, got {digest.hexdigest()}")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        self.done.written += 1


def export_tree(tree: TreeReader, application: str, destination: Path) -> Exported:
    """Write the application's tree below `destination`, or bring what is there up to the present revision."""
    try:
        return TreeExport(tree, application, destination).run()
    except ValueError as error:
        raise DamagedTreeError(f"application {application}: {error}") from error


def _signed(content: bytes, at: str) -> Members:
    return Members(json.loads(content), at).object("signed")
