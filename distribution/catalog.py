"""The frozen picture of one channel, from which `decide()` is computed on the server or on the device. Pure.

The catalog is a TUF target and is public: integers only, canonical JSON, overrides as SHA-256(salt ':' unit).
`from_json` refuses whatever `decide()` could stumble over, so that a decision on a parsed catalog never raises.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.bucketing import BUCKETS, BucketRange
from registry.class_index import ClassIndex
from registry.device_classes import DeviceClass
from registry.json_members import LARGEST_INTEGER, DocumentError, Members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CATALOG_TYPE = "aerogram-catalog"
SPEC_VERSION = "1"
EXPERIMENT_KINDS = ("rollout", "ab", "aa", "holdback")
EXPERIMENT_STATES = ("running", "halted")
NO_UNIT_RULES = ("current", "none")

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
SALT = re.compile(r"[ !#-\[\]-~]{1,200}")
HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
PATH = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")


class CatalogError(DocumentError):
    """A catalog is not of the right form, or refers to something that is not in it."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A file of the signed tree: path relative to the application's folder, hex digest, length in bytes."""

    path: str
    sha256: str
    length: int

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "length": self.length}

    @classmethod
    def read(cls, members: Members) -> Reference:
        return cls(
            path=members.text("path", pattern=PATH),
            sha256=members.text("sha256", pattern=HEX_DIGEST),
            length=members.integer("length"),
        )


@dataclass(frozen=True, slots=True)
class CatalogVariant:
    """One signed manifest: a model version built for one format and precision."""

    name: str
    runtime: str
    manifest: Reference
    min_runtime_version: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "runtime": self.runtime,
            "min_runtime_version": self.min_runtime_version,
            "manifest": self.manifest.to_json(),
        }

    @classmethod
    def read(cls, members: Members) -> CatalogVariant:
        return cls(
            name=members.text("name", pattern=NAME),
            runtime=members.text("runtime", pattern=NAME),
            min_runtime_version=members.text("min_runtime_version", "", most=64),
            manifest=Reference.read(members.object("manifest")),
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """Membership of an experiment: units whose bucket under `salt` lies in `range`."""

    salt: str
    range: BucketRange


class LayerMap(NamedTuple):
    """The experiments of one layer by where their ranges begin, so that a hundred cost a poll what one does.

    `members` are (place in the catalog's order, experiment); `first` is the lowest place. Ranges do not overlap.
    """

    salt: str
    first: int
    begins: tuple[int, ...]
    members: tuple[tuple[int, CatalogExperiment], ...]

    def around(self, position: int) -> tuple[int, CatalogExperiment] | None:
        """The experiment whose range holds the bucket, with its place; at most one does."""
        index = bisect_right(self.begins, position) - 1
        if index < 0:
            return None
        found = self.members[index]
        return found if position < found[1].layer.range[1] else None


@dataclass(frozen=True, slots=True)
class CatalogArm:
    """`version` None is the model embedded in the app."""

    name: str
    version: int | None
    control: bool
    ranges: tuple[BucketRange, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "control": self.control,
            "ranges": [list(span) for span in self.ranges],
        }

    @classmethod
    def read(cls, members: Members) -> CatalogArm:
        return cls(
            name=members.text("name", pattern=NAME),
            version=members.integer_or_none("version", least=1),
            control=members.flag("control", default=False),
            ranges=_read_ranges(members, "ranges"),
        )


@dataclass(frozen=True, slots=True)
class CatalogExperiment:
    """One phase of an experiment or rollout, as `decide()` reads it.

    A unit is a member by its bucket under the layer's salt, and gets the arm whose ranges hold its bucket under
    `arm_salt`. Devices of `halted_classes` are halted, whatever the state.
    """

    slug: str
    kind: str
    state: str
    phase: int
    layer: Layer
    arm_salt: str
    arms: tuple[CatalogArm, ...]
    halted_classes: frozenset[str] = frozenset()

    @property
    def control(self) -> CatalogArm | None:
        return next((arm for arm in self.arms if arm.control), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "slug": self.slug,
            "kind": self.kind,
            "state": self.state,
            "phase": self.phase,
            "layer": {"salt": self.layer.salt, "range": list(self.layer.range)},
            "arm_salt": self.arm_salt,
            "arms": [arm.to_json() for arm in self.arms],
            **({"halted_classes": sorted(self.halted_classes)} if self.halted_classes else {}),
        }

    @classmethod
    def read(cls, members: Members) -> CatalogExperiment:
        layer = members.object("layer")
        arms = tuple(CatalogArm.read(arm) for arm in members.objects("arms", most=50))
        if sum(arm.control for arm in arms) > 1:
            raise members.fail("arms", "at most one control arm")
        _refuse_overlap(members, "arms", (span for arm in arms for span in arm.ranges))
        return cls(
            slug=members.text("slug", pattern=NAME),
            kind=members.one_of("kind", EXPERIMENT_KINDS),
            state=members.one_of("state", EXPERIMENT_STATES),
            phase=members.integer("phase", least=1),
            layer=Layer(salt=layer.text("salt", pattern=SALT), range=_read_range(layer, "range")),
            arm_salt=members.text("arm_salt", pattern=SALT),
            arms=arms,
            halted_classes=frozenset(members.texts("halted_classes")),
        )


@dataclass(frozen=True, slots=True)
class Holdback:
    """Units whose bucket under `salt` lies in `range` stay on `version`, whatever is released."""

    salt: str
    range: BucketRange
    version: int

    def to_json(self) -> dict[str, Any]:
        return {"salt": self.salt, "range": list(self.range), "version": self.version}

    @classmethod
    def read(cls, members: Members) -> Holdback:
        return cls(
            salt=members.text("salt", pattern=SALT),
            range=_read_range(members, "range"),
            version=members.integer("version", least=1),
        )


@dataclass(frozen=True, slots=True)
class Overrides:
    """Versions pinned for single units, by `override_key(salt, unit)`."""

    salt: str = ""
    units: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"salt": self.salt, "units": dict(self.units)}

    @classmethod
    def read(cls, members: Members) -> Overrides:
        units = members.object("units") if members.has("units") else Members({}, f"{members.at}.units", CatalogError)
        for key in units.document:
            if not HEX_DIGEST.fullmatch(key):
                raise CatalogError(units.at, "keys of 64 hex digits", key)
        salt = members.text("salt", "", most=200)
        if units.document and not SALT.fullmatch(salt):
            raise members.fail("salt", f"a string like {SALT.pattern}")
        return cls(salt=salt, units={key: units.integer(key, least=1) for key in units.document})


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """What one channel serves of one model. `current` None: the app keeps its embedded model."""

    manifest_version: int
    current: int | None
    versions: Mapping[int, tuple[CatalogVariant, ...]]
    kill_switch: Reference | None = None
    no_unit: str = "current"
    floors: tuple[int, ...] = ()
    holdback: Holdback | None = None
    overrides: Overrides = field(default_factory=Overrides)
    experiments: tuple[CatalogExperiment, ...] = ()
    layers: tuple[LayerMap, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(_layer_maps(self.experiments)))

    def to_json(self) -> dict[str, Any]:
        return {
            "manifest_version": self.manifest_version,
            "kill_switch": {"manifest": self.kill_switch.to_json()} if self.kill_switch else None,
            "no_unit": self.no_unit,
            "current": self.current,
            "versions": {
                str(version): {"variants": [variant.to_json() for variant in variants]}
                for version, variants in self.versions.items()
            },
            "floors": list(self.floors),
            "holdback": self.holdback.to_json() if self.holdback else None,
            "overrides": self.overrides.to_json(),
            "experiments": [experiment.to_json() for experiment in self.experiments],
        }

    @classmethod
    def read(cls, members: Members) -> CatalogModel:
        kill_switch = members.object_or_none("kill_switch")
        holdback = members.object_or_none("holdback")
        overrides = members.object_or_none("overrides")
        model = cls(
            manifest_version=members.integer("manifest_version", least=1),
            current=members.integer_or_none("current", least=1),
            versions=_read_versions(members),
            kill_switch=Reference.read(kill_switch.object("manifest")) if kill_switch else None,
            no_unit=members.one_of("no_unit", NO_UNIT_RULES),
            floors=tuple(sorted(members.integers("floors"))),
            holdback=Holdback.read(holdback) if holdback else None,
            overrides=Overrides.read(overrides) if overrides else Overrides(),
            experiments=tuple(CatalogExperiment.read(inner) for inner in members.objects("experiments")),
        )
        model._check(members)
        return model

    def named_versions(self) -> Iterator[tuple[str, int]]:
        """Every model version that something in this model points at, with what does."""
        if self.current is not None:
            yield "current", self.current
        yield from (("floors", version) for version in self.floors)
        if self.holdback is not None:
            yield "holdback", self.holdback.version
        yield from (("overrides", version) for version in set(self.overrides.units.values()))
        for experiment in self.experiments:
            yield from (
                (f"experiments.{experiment.slug}.{arm.name}", arm.version)
                for arm in experiment.arms
                if arm.version is not None
            )

    def references(self) -> Iterator[Reference]:
        """Every manifest of the model."""
        if self.kill_switch is not None:
            yield self.kill_switch
        yield from (variant.manifest for variants in self.versions.values() for variant in variants)

    def _check(self, members: Members) -> None:
        for source, version in self.named_versions():
            if version not in self.versions:
                known = ", ".join(map(str, sorted(self.versions))) or "none"
                raise CatalogError(f"{members.at}.{source}", f"a version listed in versions ({known})", version)
        layers: dict[str, list[BucketRange]] = {}
        for experiment in self.experiments:
            layers.setdefault(experiment.layer.salt, []).append(experiment.layer.range)
        for spans in layers.values():
            _refuse_overlap(members, "experiments", spans)


@dataclass(frozen=True, slots=True)
class Catalog:
    """One channel at one revision: its classes in the order in which they are tried, its models by slug."""

    application: str
    channel: str
    poll_after_seconds: int
    device_classes: tuple[DeviceClass, ...]
    models: Mapping[str, CatalogModel]
    class_index: ClassIndex = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_index", ClassIndex(self.device_classes))

    def to_json(self) -> dict[str, Any]:
        return {
            "_type": CATALOG_TYPE,
            "spec_version": SPEC_VERSION,
            "application": self.application,
            "channel": self.channel,
            "poll_after_seconds": self.poll_after_seconds,
            "device_classes": [device_class.to_json() for device_class in self.device_classes],
            "models": {name: model.to_json() for name, model in self.models.items()},
        }

    @classmethod
    def from_json(cls, document: object) -> Catalog:
        """Raises CatalogError (or SelectorError: both are DocumentError) with the path, what was expected and got."""
        members = Members(document, "catalog", CatalogError)
        members.one_of("_type", (CATALOG_TYPE,))
        members.one_of("spec_version", (SPEC_VERSION,))
        return cls(
            application=members.text("application", pattern=NAME),
            channel=members.text("channel", pattern=NAME),
            poll_after_seconds=members.integer("poll_after_seconds", least=1, most=30 * 86_400),
            device_classes=_read_device_classes(members),
            models=_read_models(members),
        )

    def references(self) -> Iterator[Reference]:
        for model in self.models.values():
            yield from model.references()


def override_key(salt: str, unit: str) -> str:
    """The hex digest under which an override of `unit` is published."""
    return sha256(f"{salt}:{unit}".encode()).hexdigest()


def _read_device_classes(members: Members) -> tuple[DeviceClass, ...]:
    inner = members.objects("device_classes")
    classes = tuple(DeviceClass.from_json(item.document, item.at) for item in inner)
    if len({device_class.name for device_class in classes}) != len(classes):
        raise CatalogError(f"{members.at}.device_classes", "unique names", [item.name for item in classes])
    return classes


def _read_models(members: Members) -> dict[str, CatalogModel]:
    models = members.mapping("models")
    for name in models:
        if not NAME.fullmatch(name):
            raise CatalogError(f"{members.at}.models", f"names like {NAME.pattern}", name)
    return {name: CatalogModel.read(inner) for name, inner in models.items()}


def _read_versions(members: Members) -> dict[int, tuple[CatalogVariant, ...]]:
    versions = {}
    for text, inner in members.mapping("versions").items():
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:17]) <= LARGEST_INTEGER and text[0] != "0"):
            raise CatalogError(f"{members.at}.versions", "keys that are positive integers", text)
        versions[int(text)] = tuple(CatalogVariant.read(variant) for variant in inner.objects("variants"))
    return versions


def _layer_maps(experiments: Iterable[CatalogExperiment]) -> Iterator[LayerMap]:
    """Layers in the order in which the catalog first names them; empty ranges hold nobody and are left out."""
    by_salt: dict[str, list[tuple[int, CatalogExperiment]]] = {}
    for place, experiment in enumerate(experiments):
        if experiment.layer.range[0] < experiment.layer.range[1]:
            by_salt.setdefault(experiment.layer.salt, []).append((place, experiment))
    for salt, members in by_salt.items():
        ordered = sorted(members, key=lambda member: member[1].layer.range)
        yield LayerMap(salt, members[0][0], tuple(m[1].layer.range[0] for m in ordered), tuple(ordered))


def _read_range(members: Members, name: str) -> BucketRange:
    return _bucket_range(members, name, members.document.get(name))


def _read_ranges(members: Members, name: str) -> tuple[BucketRange, ...]:
    spans = members.document.get(name, [])
    if not isinstance(spans, list | tuple):
        raise members.fail(name, "a list of bucket ranges")
    return tuple(_bucket_range(members, name, span) for span in spans)


def _bucket_range(members: Members, name: str, span: object) -> BucketRange:
    match span:
        case [int(first), int(end)] if 0 <= first <= end <= BUCKETS:
            return (int(first), int(end))
    raise members.fail(name, f"bucket ranges [first, end] with 0 <= first <= end <= {BUCKETS}")


def _refuse_overlap(members: Members, name: str, spans: Iterable[BucketRange]) -> None:
    ordered = sorted(span for span in spans if span[0] < span[1])
    for (_, end), (first, _) in pairwise(ordered):
        if first < end:
            raise members.fail(name, f"bucket ranges that do not overlap (bucket {first} is in two)")
