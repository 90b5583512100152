"""What is signed for one variant of one model version in one channel. Pure.

Nothing here knows a key. A signature is made over `canonical_bytes(signed)`;
the stored file is `envelope(signed, signatures)`; both stand in `canonical_json.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from distribution.canonical_json import refuse_unsignable
from distribution.catalog import HEX_DIGEST, NAME, PATH
from registry.json_members import DocumentError, Members

MANIFEST_TYPE = "aerogram-manifest"
SPEC_VERSION = "1"
DIRECTIVES = ("install", "use_embedded")
PART_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,61}[a-z0-9])?")

_EXPIRES = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_DECIMAL = re.compile(r"\d{1,9}(?:\.\d{1,12})?")
_KEY_ID = re.compile(r"[0-9a-f]{32}")
_Read = TypeVar("_Read")


class ManifestError(DocumentError):
    """A manifest is not of the right form, or cannot be signed."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file a phone fetches. `target` is its path in the publisher's `targets`; `length` is in bytes."""

    length: int
    sha256: str
    role: str
    media_type: str
    target: str

    def to_json(self) -> dict[str, Any]:
        return {
            "length": self.length,
            "sha256": self.sha256,
            "role": self.role,
            "media_type": self.media_type,
            "target": self.target,
        }

    @classmethod
    def read(cls, members: Members) -> ManifestFile:
        return cls(
            length=members.integer("length"),
            sha256=members.text("sha256", pattern=HEX_DIGEST),
            role=members.text("role", pattern=NAME),
            media_type=members.text("media_type", most=127),
            target=members.text("target", pattern=PATH),
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """When a phone may download. `max_cellular_bytes` None: no limit."""

    wifi_only: bool = False
    charging_only: bool = False
    keep_previous: bool = True
    max_cellular_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        policy: dict[str, Any] = {
            "wifi_only": self.wifi_only,
            "charging_only": self.charging_only,
            "keep_previous": self.keep_previous,
        }
        if self.max_cellular_bytes is not None:
            policy["max_cellular_bytes"] = self.max_cellular_bytes
        return policy

    @classmethod
    def read(cls, members: Members) -> Policy:
        return cls(
            wifi_only=members.flag("wifi_only", default=False),
            charging_only=members.flag("charging_only", default=False),
            keep_previous=members.flag("keep_previous", default=True),
            max_cellular_bytes=members.integer_or_none("max_cellular_bytes"),
        )


@dataclass(frozen=True, slots=True)
class Sanity:
    """Samples a phone runs before it activates; `tolerance` is a decimal in text, since floats are not signed."""

    path: str
    tolerance: str


@dataclass(frozen=True, slots=True)
class Part:
    """Another model of the bundle, whose files stand below its name: what the manifest says of the main one."""

    entry: str
    signature_schema: Mapping[str, Any] | None = None
    sanity: Sanity | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "entry": self.entry,
            "signature_schema": self.signature_schema,
            "sanity": _sanity_json(self.sanity),
            "lineage": dict(self.lineage),
        }

    @classmethod
    def read(cls, members: Members) -> Part:
        return cls(
            entry=members.text("entry", pattern=PATH),
            signature_schema=_read_signature_schema(members),
            sanity=_read_sanity(members),
            lineage=members.object("lineage").document,
        )


@dataclass(frozen=True, slots=True)
class Package:
    """A folder of the bundle that is one thing to its runtime: its tree digest, and the same as one zip."""

    tree_sha256: str
    archive: ManifestFile

    def to_json(self) -> dict[str, Any]:
        return {"tree_sha256": self.tree_sha256, "archive": self.archive.to_json()}

    @classmethod
    def read(cls, members: Members) -> Package:
        return cls(
            tree_sha256=members.text("tree_sha256", pattern=HEX_DIGEST),
            archive=ManifestFile.read(members.object("archive")),
        )


@dataclass(frozen=True, slots=True)
class Encryption:
    """How files of a protected variant are opened. `files`: path -> (length in bytes, SHA-256) of the plaintext."""

    algorithm: str
    key_id: str
    files: Mapping[str, tuple[int, str]]

    def to_json(self) -> dict[str, Any]:
        files = {path: {"length": length, "sha256": sha256} for path, (length, sha256) in self.files.items()}
        return {"algorithm": self.algorithm, "key_id": self.key_id, "files": files}

    @classmethod
    def read(cls, members: Members) -> Encryption:
        files = members.mapping("files").items()
        return cls(
            algorithm=members.text("algorithm", pattern=NAME),
            key_id=members.text("key_id", pattern=_KEY_ID),
            files={path: (one.integer("length"), one.text("sha256", pattern=HEX_DIGEST)) for path, one in files},
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """The `signed` part. For `use_embedded`, the members from `model_version` to `sanity` keep their empty defaults."""

    version: int
    expires: datetime
    application: str
    channel: str
    model: str
    release_counter: int
    directive: str = "install"
    model_version: int | None = None
    variant: str | None = None
    device_classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    runtime: str = ""
    min_runtime: str = ""
    entry: str = ""
    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    packages: Mapping[str, Package] = field(default_factory=dict)
    signature_schema: Mapping[str, Any] | None = None
    sanity: Sanity | None = None
    policy: Policy = field(default_factory=Policy)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    encryption: Encryption | None = None

    def to_signed(self) -> dict[str, Any]:
        """The document to sign. Raises ManifestError if it contradicts itself, so that nothing wrong is ever signed."""
        signed = {
            "_type": MANIFEST_TYPE,
            "spec_version": SPEC_VERSION,
            "version": self.version,
            "expires": self.expires.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "application": self.application,
            "channel": self.channel,
            "model": self.model,
            "model_version": self.model_version,
            "variant": self.variant,
            "release_counter": self.release_counter,
            "directive": self.directive,
            "device_classes": {name: {"delegate_order": list(order)} for name, order in self.device_classes.items()},
            "runtime": self.runtime,
            "min_runtime": self.min_runtime,
            "entry": self.entry,
            "files": {path: file.to_json() for path, file in self.files.items()},
            "signature_schema": self.signature_schema,
            "sanity": _sanity_json(self.sanity),
            "policy": self.policy.to_json(),
            "lineage": dict(self.lineage),
        }
        # Only where there are any: what was signed without them keeps its bytes, and its version.
        for name, inner in (("parts", self.parts), ("packages", self.packages)):
            if inner:
                signed[name] = {key: value.to_json() for key, value in inner.items()}
        if self.encryption is not None:
            signed["encryption"] = self.encryption.to_json()
        Manifest.from_signed(signed)
        return signed

    @classmethod
    def from_signed(cls, document: object) -> Manifest:
        """Parse and check. Unknown members are ignored, as a phone must. Raises ManifestError."""
        members = Members(document, "signed", ManifestError)
        refuse_unsignable(members.document, "signed", ManifestError)
        members.one_of("_type", (MANIFEST_TYPE,))
        members.one_of("spec_version", (SPEC_VERSION,))
        manifest = cls(
            version=members.integer("version", least=1),
            expires=_read_expiry(members),
            application=members.text("application", pattern=NAME),
            channel=members.text("channel", pattern=NAME),
            model=members.text("model", pattern=NAME),
            release_counter=members.integer("release_counter"),
            directive=members.one_of("directive", DIRECTIVES),
            model_version=members.integer_or_none("model_version", least=1),
            variant=members.text("variant", pattern=NAME) if members.has("variant") else None,
            device_classes={
                name: inner.texts("delegate_order") for name, inner in members.mapping("device_classes").items()
            },
            runtime=members.text("runtime", ""),
            min_runtime=members.text("min_runtime", ""),
            entry=members.text("entry", ""),
            files={path: ManifestFile.read(inner) for path, inner in members.mapping("files").items()},
            parts=_read_each(members, "parts", Part.read),
            packages=_read_each(members, "packages", Package.read),
            signature_schema=_read_signature_schema(members),
            sanity=_read_sanity(members),
            policy=Policy.read(members.object("policy")),
            lineage=members.object("lineage").document,
            encryption=Encryption.read(members.object("encryption")) if members.has("encryption") else None,
        )
        manifest._check()
        return manifest

    @property
    def path(self) -> str:
        return manifest_path(self.channel, self.model, self.version, self.model_version, self.variant)

    def _check(self) -> None:
        if self.directive == "use_embedded":
            self._check_use_embedded()
        else:
            self._check_install()

    def _check_use_embedded(self) -> None:
        for name in ("model_version", "variant", "files", "sanity", "parts", "packages", "encryption"):
            if getattr(self, name):
                raise ManifestError(f"signed.{name}", "nothing under directive use_embedded", getattr(self, name))

    def _check_install(self) -> None:
        for name in ("model_version", "variant", "runtime", "files"):
            if not getattr(self, name):
                raise ManifestError(f"signed.{name}", "a value under directive install", getattr(self, name))
        for path in self.files:
            if not PATH.fullmatch(path):
                raise ManifestError("signed.files", f"relative paths like {PATH.pattern}", path)
        self._check_model("signed", self.entry, self.sanity, self.signature_schema)
        for name, part in self.parts.items():
            at = f"signed.parts.{name}"
            if not PART_NAME.fullmatch(name) or not part.entry.startswith(f"{name}/"):
                raise ManifestError(f"{at}.entry", "a path below the part's own name", part.entry)
            self._check_model(at, part.entry, part.sanity, part.signature_schema)
        for path in self.packages:
            if not self._is_file_or_folder(path) or path in self.files:
                raise ManifestError("signed.packages", "folders of the manifest's files", path)
        self._check_encryption()

    def _check_model(
        self, at: str, entry: str, sanity: Sanity | None, signature_schema: Mapping[str, Any] | None
    ) -> None:
        if not self._is_file_or_folder(entry):
            raise ManifestError(f"{at}.entry", "a file of the manifest or a folder of them", entry)
        if sanity is not None and sanity.path not in self.files:
            raise ManifestError(f"{at}.sanity.path", "a file of the manifest", sanity.path)
        labels = (signature_schema or {}).get("labels_file")
        if labels is not None and labels not in self.files:
            raise ManifestError(f"{at}.signature_schema.labels_file", "a file of the manifest", labels)

    def _check_encryption(self) -> None:
        listed = {file.target for file in self.files.values()}
        listed |= {package.archive.target for package in self.packages.values()}
        named = self.encryption.files if self.encryption else ()
        unlisted = [path for path in named if not any(target.endswith(f"/{path}") for target in listed)]
        if unlisted:
            raise ManifestError("signed.encryption.files", "files of the manifest", unlisted)

    def _is_file_or_folder(self, path: str) -> bool:
        return path in self.files or any(file.startswith(f"{path}/") for file in self.files)


def manifest_path(
    channel: str, model: str, manifest_version: int, model_version: int | None, variant: str | None
) -> str:
    """Path of the stored manifest, relative to the application's folder.

    >>> manifest_path("production", "digits", 7, 4, "tflite-full-int8")
    'manifests/production/digits/7.4.tflite-full-int8.json'
    >>> manifest_path("production", "digits", 8, None, None)
    'manifests/production/digits/8.use_embedded.json'
    """
    name = "use_embedded" if model_version is None or variant is None else f"{model_version}.{variant}"
    return f"manifests/{channel}/{model}/{manifest_version}.{name}.json"


def target_path(model: str, model_version: int, variant: str, path: str) -> str:
    """Path of a model file in the publisher's `targets`."""
    return f"models/{model}/{model_version}/{variant}/{path}"


def parse(data: bytes) -> tuple[Manifest, dict[str, Any], list[dict[str, str]]]:
    """(manifest, the `signed` document as received, signatures as {"keyid", "sig"}). Verifies no signature.

    Raises ManifestError. The signature must be checked over the document as received: it may have members this
    version does not know.
    """
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError("manifest", "JSON in UTF-8", str(error)) from error
    members = Members(document, "manifest", ManifestError)
    signatures = [
        {"keyid": item.text("keyid", most=200), "sig": item.text("sig", most=2048)}
        for item in members.objects("signatures", most=20)
    ]
    manifest = Manifest.from_signed(members.document.get("signed"))
    return manifest, document["signed"], signatures


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read_expiry(members: Members) -> datetime:
    text = members.text("expires", pattern=_EXPIRES)
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise members.fail("expires", "an existing time") from None


def _read_signature_schema(members: Members) -> Mapping[str, Any] | None:
    schema = members.object_or_none("signature_schema")
    if schema is None:
        return None
    for side in ("inputs", "outputs"):
        for tensor in schema.objects(side):
            tensor.text("name")
            tensor.text("dtype", pattern=NAME)
            tensor.integers("shape", most=16)
    return schema.document


def _read_each(members: Members, name: str, read: Callable[[Members], _Read]) -> dict[str, _Read]:
    return {key: read(inner) for key, inner in members.mapping(name).items()} if members.has(name) else {}


def _sanity_json(sanity: Sanity | None) -> dict[str, str] | None:
    return {"path": sanity.path, "tolerance": sanity.tolerance} if sanity else None


def _read_sanity(members: Members) -> Sanity | None:
    inner = members.object_or_none("sanity")
    if inner is None:
        return None
    return Sanity(path=inner.text("path", pattern=PATH), tolerance=inner.text("tolerance", pattern=_DECIMAL))
