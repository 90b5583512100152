"""A reader that trusts nothing: follows the signed tree from its pointer to the last byte, again and again."""

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

PAUSE_SECONDS = 0.002


class WholeTree:
    """One pass over the tree of one application. Raises on anything missing, damaged, unsigned or at odds."""

    def __init__(self, folder: Path, channel: str) -> None:
        self.folder = folder
        self.root = Metadata[Root].from_file(str(folder / "trust" / "1.root.json"))
        timestamp = Metadata[Timestamp].from_file(str(folder / "trust" / "timestamp.json"))
        self.root.verify_delegate("timestamp", timestamp)
        self.revision = timestamp.signed.version
        self.snapshot = Metadata[Snapshot].from_bytes(self._role("snapshot", timestamp.signed.snapshot_meta))
        self.root.verify_delegate("snapshot", self.snapshot)
        self.targets = self._targets("targets", self.root)
        self.index = self._targets(f"releases-{channel}", self.targets)
        self.catalog = self._catalog(channel)
        self.current = {name: model["current"] for name, model in self.catalog["models"].items()}
        for model in self.catalog["models"].values():
            self._follow_model(model, channel)

    def _role(self, role: str, meta: MetaFile) -> bytes:
        content = (self.folder / "trust" / f"{meta.version}.{role}.json").read_bytes()
        meta.verify_length_and_hashes(content)
        return content

    def _targets(self, role: str, delegator: Metadata[Any]) -> Metadata[Targets]:
        found = Metadata[Targets].from_bytes(self._role(role, self.snapshot.signed.meta[f"{role}.json"]))
        delegator.verify_delegate(role, found)
        return found

    def _catalog(self, channel: str) -> dict[str, Any]:
        target = self.index.signed.targets[f"catalogs/{channel}.json"]
        path = self.folder / "targets" / "catalogs" / f"{target.hashes['sha256']}.{channel}.json"
        content = path.read_bytes()
        target.verify_length_and_hashes(content)
        catalog: dict[str, Any] = json.loads(content)
        versions = {name: model["manifest_version"] for name, model in catalog["models"].items()}
        assert target.custom == {"manifest_versions": versions}
        return catalog

    def _follow_model(self, model: Mapping[str, Any], channel: str) -> None:
        for version in model["versions"].values():
            for variant in version["variants"]:
                reference = variant["manifest"]
                content = (self.folder / reference["path"]).read_bytes()
                expect(content, reference["sha256"], reference["length"])
                self._follow_manifest(json.loads(content), channel)

    def _follow_manifest(self, manifest: Mapping[str, Any], channel: str) -> None:
        signed = manifest["signed"]
        signatures = {item["keyid"]: Signature(item["keyid"], item["sig"]) for item in manifest["signatures"]}
        self.targets.signed.verify_delegate(f"releases-{channel}", encode_canonical(signed).encode(), signatures)
        for file in signed["files"].values():
            target: TargetFile = self.targets.signed.targets[file["target"]]
            assert (target.length, target.hashes["sha256"]) == (file["length"], file["sha256"])
            blob = self.folder / "blobs" / "sha256" / file["sha256"][:2] / file["sha256"]
            expect(blob.read_bytes(), file["sha256"], file["length"])


def expect(content: bytes, sha256: str, length: int) -> None:
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (sha256, length)


class ReaderLoop:
    """Reads the tree in a thread as long as the block runs; what it found wrong is raised at its end."""

    def __init__(self, folder: Path, channel: str) -> None:
        self.folder, self.channel = folder, channel
        self.passes = 0
        self.revisions: list[int] = []
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tree reader")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise AssertionError(f"the tree was not whole after revisions {self.revisions[-3:]}") from self.error

    def _run(self) -> None:
        try:
            while not self._stop.wait(PAUSE_SECONDS):
                self._look()
        except BaseException as error:  # noqa: BLE001  raised again by the thread that waits
            self.error = error

    def _look(self) -> None:
        revision = WholeTree(self.folder, self.channel).revision
        self.passes += 1
        if not self.revisions or revision != self.revisions[-1]:
            assert not self.revisions or revision > self.revisions[-1], f"{revision} after {self.revisions[-1]}"
            self.revisions.append(revision)
