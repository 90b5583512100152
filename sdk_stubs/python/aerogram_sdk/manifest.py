"""The signed manifest as a device reads it (protocol, section 2): parsed and bounded, never trusted by itself. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Self

from securesystemslib.exceptions import FormatError
from securesystemslib.formats import encode_canonical

from aerogram_sdk.errors import ManifestMalformed

MANIFEST_TYPE = "aerogram-manifest"
SPEC_VERSION = "1"
MOST_FILES = 10_000
MOST_PARTS = 100

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-f]{32}")
_PATH_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}")
_QUANTISED = frozenset({"int8", "uint8", "int16"})
_MISSING = object()


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output. A dimension of -1 is free."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def serves(self, wanted: "TensorSpec") -> bool:
        """Whether code compiled for `wanted` can use this tensor.

        Quantised integers and half floats serve float32, because the loaded model converts at its borders.
        """
        return (
            self.name == wanted.name and _shapes_agree(self.shape, wanted.shape) and _serves(self.dtype, wanted.dtype)
        )


@dataclass(frozen=True, slots=True)
class SignatureSchema:
    """Inputs and outputs by name; `labels_file` is a path inside the bundle."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels_file: str | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            inputs=_tensors(document, "inputs"),
            outputs=_tensors(document, "outputs"),
            labels_file=_optional(document, "labels_file", str),
        )

    def serves(self, wanted: "SignatureSchema") -> bool:
        """Whether an app compiled for `wanted` can use this model: same names in any order, agreeing tensors."""
        return _all_serve(self.inputs, wanted.inputs) and _all_serve(self.outputs, wanted.outputs)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of the bundle. `target` is its path in the publisher's `targets`; `length` is in bytes."""

    path: str
    length: int
    sha256: str
    role: str
    target: str


@dataclass(frozen=True, slots=True)
class Encryption:
    """How a protected bundle is opened. `files`: by path, each as it is once decrypted."""

    algorithm: str
    key_id: str
    files: Mapping[str, ManifestFile]


@dataclass(frozen=True, slots=True)
class Policy:
    """When a device may download. `max_cellular_bytes` None: no limit."""

    wifi_only: bool = False
    charging_only: bool = False
    keep_previous: bool = True
    max_cellular_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BundledModel:
    """One model of the bundle: the main one, whose `name` is empty, or a part, whose files stand below its name."""

    name: str
    entry: str
    signature_schema: SignatureSchema | None = None
    sanity_path: str | None = None
    sanity_tolerance: str = "0"

    @property
    def labels_file(self) -> str | None:
        return self.signature_schema.labels_file if self.signature_schema else None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The `signed` part. Under directive `use_embedded` all from `model_version` on keep their empty defaults."""

    version: int
    expires: datetime
    application: str
    channel: str
    model: str
    directive: str
    document: Mapping[str, Any]
    model_version: int = 0
    variant: str = ""
    release_counter: int = 0
    runtime: str = ""
    min_runtime: str = ""
    main: BundledModel = field(default_factory=lambda: BundledModel("", ""))
    parts: Mapping[str, BundledModel] = field(default_factory=dict)
    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    encryption: Encryption | None = None
    delegate_orders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_signed(cls, document: Mapping[str, Any]) -> Self:
        """Parse `signed`; unknown members are ignored. Raises ManifestMalformed."""
        _one_of(document, "_type", (MANIFEST_TYPE,))
        _one_of(document, "spec_version", (SPEC_VERSION,))
        directive = _one_of(document, "directive", ("install", "use_embedded"))
        common = {
            "version": _integer(document, "version"),
            "expires": parse_time(_member(document, "expires", str)),
            "application": _member(document, "application", str),
            "channel": _member(document, "channel", str),
            "model": _member(document, "model", str),
            "directive": directive,
            "document": document,
        }
        return cls(**common, **(_install_members(document) if directive == "install" else {}))

    @property
    def bundle_id(self) -> str:
        """Names what would be installed: manifests that differ only in version or expiry name the same bundle."""
        identity = {
            name: self.document.get(name)
            for name in (
                "application",
                "model",
                "model_version",
                "variant",
                "runtime",
                "entry",
                "sanity",
                "signature_schema",
            )
        }
        # A bundle without parts keeps the name that it had before there were any.
        identity |= {"parts": self.document["parts"]} if self.parts else {}
        identity["files"] = {path: [file.sha256, file.length] for path, file in self.files.items()}
        return sha256(canonical_bytes(identity)).hexdigest()

    @property
    def models(self) -> tuple[BundledModel, ...]:
        """The main model and the parts: all of them load and pass their vectors, or none of them runs."""
        return (self.main, *self.parts.values())

    def files_of(self, model: BundledModel, role: str) -> list[str]:
        """Paths of the model's own files with that role: a part's stand below its name, the main one's elsewhere."""
        return [
            path
            for path, file in self.files.items()
            if file.role == role and (_first(path) == model.name if model.name else _first(path) not in self.parts)
        ]

    @property
    def installed_files(self) -> Mapping[str, ManifestFile]:
        """The files as they lie in the bundle: decrypted, where they travel encrypted."""
        return {**self.files, **(self.encryption.files if self.encryption else {})}

    @property
    def size_bytes(self) -> int:
        return sum(file.length for file in self.files.values())

    def delegate_order(self, device_class: str) -> tuple[str, ...]:
        """Delegates to try, of the device's class; of the only class if the server named none that is listed."""
        if device_class in self.delegate_orders:
            return self.delegate_orders[device_class]
        return next(iter(self.delegate_orders.values())) if len(self.delegate_orders) == 1 else ()


def canonical_bytes(document: Mapping[str, Any]) -> bytes:
    """OLPC canonical JSON, the bytes a signature is made over. Raises ManifestMalformed for floats and the like."""
    try:
        text = encode_canonical(dict(document))
        assert text is not None
        return str(text).encode("utf-8")
    except (FormatError, UnicodeEncodeError, RecursionError) as error:
        raise ManifestMalformed(f"manifest: expected what canonical JSON can express, got {error}") from error


def parse_time(text: str) -> datetime:
    """`YYYY-MM-DDTHH:MM:SSZ`, UTC. Raises ManifestMalformed."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise ManifestMalformed(f"expires: expected YYYY-MM-DDTHH:MM:SSZ, got {text!r}") from error


def digest_of(document: Any) -> str:
    """Digest of any JSON value, to notice a change; signs and verifies nothing."""
    return sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _install_members(document: Mapping[str, Any]) -> dict[str, Any]:
    model, version = _member(document, "model", str), _integer(document, "model_version")
    variant = _member(document, "variant", str)
    files = _files(_member(document, "files", dict), f"models/{model}/{version}/{variant}/")
    return {
        "model_version": version,
        "variant": variant,
        "release_counter": _integer(document, "release_counter"),
        "runtime": _member(document, "runtime", str),
        "min_runtime": _optional(document, "min_runtime", str) or "",
        "main": _bundled_model("", document, files),
        "parts": _parts(_optional(document, "parts", dict) or {}, files),
        "files": files,
        "policy": _policy(_optional(document, "policy", dict) or {}),
        "encryption": _encryption(_optional(document, "encryption", dict), files),
        "delegate_orders": _delegate_orders(_optional(document, "device_classes", dict) or {}),
    }


def _parts(document: Mapping[str, Any], files: Mapping[str, ManifestFile]) -> dict[str, BundledModel]:
    if len(document) > MOST_PARTS:
        raise ManifestMalformed(f"parts: expected at most {MOST_PARTS}, got {len(document)}")
    parts = {name: _bundled_model(name, _member(document, name, dict), files) for name in document}
    for name, part in parts.items():
        if not _PATH_PART.fullmatch(name) or _first(part.entry) != name:
            raise ManifestMalformed(f"parts.{name}.entry: expected a path below {name!r}, got {part.entry!r}")
    return parts


def _bundled_model(name: str, document: Mapping[str, Any], files: Mapping[str, ManifestFile]) -> BundledModel:
    described, sanity = _optional(document, "signature_schema", dict), _optional(document, "sanity", dict)
    schema = None if described is None else SignatureSchema.from_json(described)
    if schema is not None and schema.labels_file is not None:
        _path_in(files, schema.labels_file, "signature_schema.labels_file")
    return BundledModel(
        name=name,
        entry=_entry(document, files),
        signature_schema=schema,
        sanity_path=None if sanity is None else _path_in(files, _member(sanity, "path", str), "sanity.path"),
        sanity_tolerance="0" if sanity is None else _member(sanity, "tolerance", str),
    )


def _files(document: Mapping[str, Any], folder: str) -> dict[str, ManifestFile]:
    if not 0 < len(document) <= MOST_FILES:
        raise ManifestMalformed(f"files: expected 1 to {MOST_FILES}, got {len(document)}")
    files = {path: _file(path, value, folder) for path, value in document.items()}
    _refuse_collisions(files)
    return files


def _file(path: str, document: Any, folder: str) -> ManifestFile:
    if not isinstance(document, dict) or not all(_PATH_PART.fullmatch(part) for part in path.split("/")):
        raise ManifestMalformed(
            f"files: expected relative paths without dot folders, each with an object, got {path!r}"
        )
    digest, length = _member(document, "sha256", str), _integer(document, "length")
    if not _SHA256.fullmatch(digest) or length < 0:
        raise ManifestMalformed(f"files.{path}: expected a SHA-256 and a length, got {digest!r} and {length}")
    target = _optional(document, "target", str) or folder + path
    if target != folder + path:
        raise ManifestMalformed(f"files.{path}.target: expected {folder + path!r}, got {target!r}")
    return ManifestFile(path, length, digest, _optional(document, "role", str) or "", target)


def _first(path: str) -> str:
    return path.partition("/")[0]


def _refuse_collisions(files: Mapping[str, ManifestFile]) -> None:
    """Two names that one file system may take for the same, or a file that is also a folder, must not be unpacked."""
    names = {path.casefold() for path in files}
    folders = {name.rpartition("/")[0] for name in names}
    folders |= {"/".join(folder.split("/")[:count]) for folder in folders for count in range(1, folder.count("/") + 1)}
    if len(names) < len(files) or names & folders:
        raise ManifestMalformed("files: expected paths that differ on every file system, got colliding ones")


def _entry(document: Mapping[str, Any], files: Mapping[str, ManifestFile]) -> str:
    entry: str = _member(document, "entry", str)
    if not any(path == entry or path.startswith(f"{entry}/") for path in files):
        raise ManifestMalformed(f"entry: expected a listed file or a folder of them, got {entry!r}")
    return entry


def _path_in(files: Mapping[str, ManifestFile], path: str, name: str) -> str:
    if path not in files:
        raise ManifestMalformed(f"{name}: expected a listed file, got {path!r}")
    return path


def _encryption(document: Mapping[str, Any] | None, files: Mapping[str, ManifestFile]) -> Encryption | None:
    """What it says of files that the manifest does not list is nobody's business here."""
    if document is None:
        return None
    told = _member(document, "files", dict)
    opened = {path: _plaintext(files[path], _member(told, path, dict)) for path in told if path in files}
    key_id = _member(document, "key_id", str)
    if not _KEY_ID.fullmatch(key_id):
        raise ManifestMalformed(f"encryption.key_id: expected 32 hexadecimal digits, got {key_id!r}")
    return Encryption(_member(document, "algorithm", str), key_id, opened)


def _plaintext(file: ManifestFile, document: Mapping[str, Any]) -> ManifestFile:
    digest, length = _member(document, "sha256", str), _integer(document, "length")
    if not _SHA256.fullmatch(digest) or not 0 <= length < file.length:
        raise ManifestMalformed(
            f"encryption.files.{file.path}: expected a SHA-256 and fewer than {file.length} bytes, "
            f"got {digest!r} and {length}"
        )
    return replace(file, sha256=digest, length=length)


def _policy(document: Mapping[str, Any]) -> Policy:
    def flag(name: str, *, default: bool) -> bool:
        value = _optional(document, name, bool)
        return default if value is None else bool(value)

    limit = document.get("max_cellular_bytes")
    return Policy(
        wifi_only=flag("wifi_only", default=False),
        charging_only=flag("charging_only", default=False),
        keep_previous=flag("keep_previous", default=True),
        max_cellular_bytes=None if limit is None else _integer(document, "max_cellular_bytes"),
    )


def _delegate_orders(document: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        name: tuple(str(delegate) for delegate in value.get("delegate_order", ()))
        for name, value in document.items()
        if isinstance(value, dict)
    }


def _tensors(document: Mapping[str, Any], name: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            _member(tensor, "name", str),
            _shape(tensor),
            _member(tensor, "dtype", str),
        )
        for tensor in _member(document, name, list)
    )


def _shape(tensor: Mapping[str, Any]) -> tuple[int, ...]:
    sizes = _member(tensor, "shape", list)
    if not all(isinstance(size, int) for size in sizes):
        raise ManifestMalformed(f"shape: expected integers, got {sizes!r}")
    return tuple(sizes)


def _all_serve(offered: tuple[TensorSpec, ...], wanted: tuple[TensorSpec, ...]) -> bool:
    by_name = {tensor.name: tensor for tensor in offered}
    return by_name.keys() == {tensor.name for tensor in wanted} and all(
        by_name[item.name].serves(item) for item in wanted
    )


def _shapes_agree(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))


def _serves(offered: str, wanted: str) -> bool:
    return offered == wanted or (wanted == "float32" and (offered == "float16" or offered in _QUANTISED))


def _member(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document.get(name, _MISSING) if isinstance(document, Mapping) else _MISSING
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ManifestMalformed(
            f"{name}: expected {kind.__name__}, got {'nothing' if value is _MISSING else repr(value)}"
        )
    return value


def _optional(document: Mapping[str, Any], name: str, kind: type) -> Any:
    return None if document.get(name) is None else _member(document, name, kind)


def _integer(document: Mapping[str, Any], name: str) -> int:
    return int(_member(document, name, int))


def _one_of(document: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value: str = _member(document, name, str)
    if value not in allowed:
        raise ManifestMalformed(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
    return value
