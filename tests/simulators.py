"""Simulators at the boundaries: a publisher that writes a true, signed tree; a device that speaks ASGI; event sinks."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from distribution.canonical_json import canonical_bytes, envelope
from distribution.catalog import Catalog, CatalogModel, CatalogVariant, Reference
from distribution.device_plane.events import SinkUnavailableError
from distribution.device_plane.tree import LocalTree
from distribution.manifest import Manifest, ManifestFile, target_path
from registry.device_classes import DeviceClass, Selector

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from distribution.device_plane.tree import OpenFile

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
ANY_DEVICE = (DeviceClass("any", Selector(), ("tflite-float32", "coreml-fp16"), ("xnnpack",)),)
RUNTIMES = {"tflite": "litert", "coreml": "coreml"}


@dataclass
class PublishedTree:
    """One application's tree below `root`, as a publisher writes it: everything else first, timestamp.json last.

    `models` maps (channel, model) to what the channel serves; the variants of a version are added by `release`.
    """

    root: Path
    application: str = "demo"
    now: datetime = NOW
    device_classes: tuple[DeviceClass, ...] = ANY_DEVICE
    poll_after_seconds: int = 14_400
    models: dict[tuple[str, str], CatalogModel] = field(default_factory=dict)
    manifests: dict[tuple[str, str, int, str], Manifest] = field(default_factory=dict)
    revision: int = 0
    released: dict[str, TargetFile] = field(default_factory=dict)
    keys: dict[str, CryptoSigner] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.root / self.application

    def release(
        self,
        model: str,
        version: int,
        variants: Mapping[str, Mapping[str, bytes]],
        *,
        channel: str = "production",
        current: bool = True,
        manifest_version: int | None = None,
        roles: Mapping[str, str] | None = None,
        **members: Any,
    ) -> CatalogModel:
        """Store the files, sign a manifest for each variant and put the version into the channel.

        `roles` are those of files that are no models, `members` further ones of every manifest.
        """
        before = self.models.get((channel, model), CatalogModel(manifest_version=0, current=None, versions={}))
        number = manifest_version or before.manifest_version + 1
        for variant, files in variants.items():
            manifest = self._manifest(channel, model, version, variant, files)
            told = {
                path: replace(file, role=(roles or {}).get(path, file.role)) for path, file in manifest.files.items()
            }
            self.manifests[channel, model, version, variant] = replace(manifest, files=told, **members)
        after = replace(
            before,
            manifest_version=number,
            current=version if current else before.current,
            versions=self._versions(channel, model, number),
        )
        self.models[channel, model] = after
        return after

    def change(self, model: str, *, channel: str = "production", **members: Any) -> None:
        self.models[channel, model] = replace(self.models[channel, model], **members)

    def kill(self, model: str, *, channel: str = "production") -> None:
        number = self.models[channel, model].manifest_version + 1
        manifest = Manifest(
            version=number,
            expires=self.now + timedelta(days=14),
            application=self.application,
            channel=channel,
            model=model,
            release_counter=number,
            directive="use_embedded",
        )
        self.change(model, channel=channel, manifest_version=number, kill_switch=self._sign_manifest(manifest))

    def catalog(self, channel: str) -> Catalog:
        return Catalog(
            application=self.application,
            channel=channel,
            poll_after_seconds=self.poll_after_seconds,
            device_classes=self.device_classes,
            models={name: model for (where, name), model in sorted(self.models.items()) if where == channel},
        )

    def publish(self) -> int:
        """Write the next revision and return its number."""
        self.revision += 1
        channels = sorted({channel for channel, _ in self.models})
        targets = self._targets(channels)
        meta = {"targets.json": self._metadata("targets", targets)}
        for channel in channels:
            role = f"releases-{channel}"
            meta[f"{role}.json"] = self._metadata(role, self._releases(channel))
        snapshot = self._metadata("snapshot", Snapshot(self.revision, expires=self._expiry(14), meta=meta))
        if self.revision == 1:
            self._metadata("root", self._root())
        self.write_timestamp(snapshot)
        return self.revision

    def write_timestamp(self, snapshot: MetaFile) -> None:
        timestamp = Timestamp(self.revision, expires=self._expiry(7), snapshot_meta=snapshot)
        data = self._sign("timestamp", timestamp)
        part = self.folder / "trust" / "timestamp.json.part"
        part.write_bytes(data)
        part.replace(self.folder / "trust" / "timestamp.json")

    def key(self, role: str) -> CryptoSigner:
        return self.keys.setdefault(role, CryptoSigner.generate_ecdsa())

    def manifest_bytes(self, reference: Reference) -> bytes:
        return (self.folder / reference.path).read_bytes()

    def store_blob(self, data: bytes) -> str:
        digest = sha256(data).hexdigest()
        self._write(f"blobs/sha256/{digest[:2]}/{digest}", data)
        return digest

    def _versions(self, channel: str, model: str, number: int) -> dict[int, tuple[CatalogVariant, ...]]:
        """Every manifest of a model carries its newest manifest version, so all are signed anew."""
        versions: dict[int, tuple[CatalogVariant, ...]] = {}
        for (where, name, version, variant), manifest in self.manifests.items():
            if (where, name) == (channel, model):
                reference = self._sign_manifest(replace(manifest, version=number))
                built = CatalogVariant(name=variant, runtime=manifest.runtime, manifest=reference)
                versions[version] = (*versions.get(version, ()), built)
        return versions

    def _manifest(self, channel: str, model: str, version: int, variant: str, files: Mapping[str, bytes]) -> Manifest:
        return Manifest(
            version=1,
            expires=self.now + timedelta(days=14),
            application=self.application,
            channel=channel,
            model=model,
            release_counter=version,
            model_version=version,
            variant=variant,
            device_classes={item.name: item.delegate_order for item in self.device_classes},
            runtime=RUNTIMES[variant.partition("-")[0]],
            entry=next(iter(files)),
            files={path: self._file(model, version, variant, path, data) for path, data in files.items()},
            lineage={"recipe": variant},
        )

    def _file(self, model: str, version: int, variant: str, path: str, data: bytes) -> ManifestFile:
        target = target_path(model, version, variant, path)
        custom = {
            "model": model,
            "model_version": version,
            "variant": variant,
            "release_counter": version,
            "minimum_release_counter": 0,
        }
        digest = self.store_blob(data)
        self.released[target] = TargetFile(len(data), {"sha256": digest}, target, {"custom": custom})
        return ManifestFile(len(data), digest, "model", "application/octet-stream", target)

    def _sign_manifest(self, manifest: Manifest) -> Reference:
        signed = manifest.to_signed()
        signer = self.key(f"releases-{manifest.channel}")
        signature = signer.sign(canonical_bytes(signed))
        data = envelope(signed, [{"keyid": signature.keyid, "sig": signature.signature}])
        self._write(manifest.path, data)
        return Reference(manifest.path, sha256(data).hexdigest(), len(data))

    def _targets(self, channels: list[str]) -> Targets:
        roles = {
            f"releases-{channel}": DelegatedRole(
                name=f"releases-{channel}",
                keyids=[self.key(f"releases-{channel}").public_key.keyid],
                threshold=1,
                terminating=True,
                paths=[f"catalogs/{channel}.json"],
            )
            for channel in channels
        }
        keys = {self.key(role).public_key.keyid: self.key(role).public_key for role in roles}
        return Targets(
            self.revision, expires=self._expiry(180), targets=self.released, delegations=Delegations(keys, roles)
        )

    def _releases(self, channel: str) -> Targets:
        data = json.dumps(self.catalog(channel).to_json(), sort_keys=True, separators=(",", ":")).encode()
        digest = sha256(data).hexdigest()
        self._write(f"targets/catalogs/{digest}.{channel}.json", data)
        path = f"catalogs/{channel}.json"
        versions = {name: model.manifest_version for (where, name), model in self.models.items() if where == channel}
        custom = {"custom": {"manifest_versions": versions}}
        target = TargetFile(len(data), {"sha256": digest}, path, custom)
        return Targets(self.revision, expires=self._expiry(14), targets={path: target})

    def _root(self) -> Root:
        root = Root(1, expires=self._expiry(365), consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(self.key(role).public_key, role)
        return root

    def _metadata(self, role: str, signed: Any) -> MetaFile:
        data = self._sign(role, signed)
        self._write(f"trust/{signed.version}.{role}.json", data)
        return MetaFile(signed.version, len(data), {"sha256": sha256(data).hexdigest()})

    def _sign(self, role: str, signed: Any) -> bytes:
        metadata = Metadata(signed)
        metadata.sign(self.key(role))
        return metadata.to_bytes()

    def _expiry(self, days: int) -> datetime:
        return self.now + timedelta(days=days)

    def _write(self, path: str, data: bytes) -> None:
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


class CountingTree(LocalTree):
    """The real tree, and how often each access happened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: Counter[str] = Counter()

    def applications(self) -> list[str]:
        self.calls["applications"] += 1
        return super().applications()

    def fingerprint(self, application: str) -> object | None:
        self.calls["fingerprint"] += 1
        return super().fingerprint(application)

    def read(self, application: str, path: str, most_bytes: int) -> bytes:
        self.calls["read"] += 1
        return super().read(application, path, most_bytes)

    def open(self, application: str, path: str) -> OpenFile:
        self.calls["open"] += 1
        return super().open(application, path)


@dataclass
class MemorySink:
    """An event stream that keeps what it was given."""

    entries: list[dict[str, str]] = field(default_factory=list)

    async def append(self, fields: Mapping[str, str]) -> None:
        self.entries.append(dict(fields))

    async def close(self) -> None:
        pass


class DownSink:
    """An event stream that takes nothing."""

    async def append(self, fields: Mapping[str, str]) -> None:
        raise SinkUnavailableError("the simulated stream is down")

    async def close(self) -> None:
        pass


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    paths: list[str]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class DeviceSimulator:
    """Speaks ASGI to an application in this process. `pathsend` offers the extension of that name, as granian does."""

    application: Any
    unit: str | None = None
    pathsend: bool = False

    def request(self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Response:
        return asyncio.run(self.arequest(method, url, headers, body))

    def get(self, url: str, **headers: str) -> Response:
        """Keyword arguments are headers, `_` standing for `-`."""
        return self.request("GET", url, {name.replace("_", "-"): value for name, value in headers.items()})

    async def arequest(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Response:
        path, _, query = url.partition("?")
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": self._headers(headers or {}),
            "extensions": {"http.response.pathsend": {}} if self.pathsend else {},
        }
        parts = [body[start : start + 65_536] for start in range(0, len(body), 65_536)] or [b""]
        waiting = [
            {"type": "http.request", "body": part, "more_body": index + 1 < len(parts)}
            for index, part in enumerate(parts)
        ]

        async def receive() -> dict[str, Any]:
            if not waiting:
                await asyncio.Future()
            return waiting.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.application(scope, receive, send)
        return _response(sent)

    def _headers(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        everything = dict(headers) | ({"aerogram-unit": self.unit} if self.unit is not None else {})
        return [(name.lower().encode(), value.encode("latin-1")) for name, value in everything.items()]


def _response(sent: list[dict[str, Any]]) -> Response:
    start, rest = sent[0], sent[1:]
    assert start["type"] == "http.response.start"
    ended = [message for message in rest if not message.get("more_body", False)]
    assert len(ended) == 1
    assert ended[0] is rest[-1], "a response must end exactly once, with its last message"
    names = [name for name, _ in start["headers"]]
    assert len(set(names)) == len(names), f"repeated header in {names}"
    return Response(
        status=start["status"],
        headers={name.decode(): value.decode("latin-1") for name, value in start["headers"]},
        body=b"".join(message.get("body", b"") for message in rest),
        paths=[message["path"] for message in rest if message["type"] == "http.response.pathsend"],
    )
