"""The catalog of a channel as a device reads it (protocol, section 3): parsed and checked, not trusted by itself. Pure.

Whatever `decide()` could stumble over, or would have to guess, is refused: unknown kinds and conditions, versions that
are not listed, ranges that overlap. Members that this version does not know are ignored elsewhere.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, NamedTuple, Self, TypeGuard, TypeVar

from aerogram_sdk.bucketing import BUCKETS
from aerogram_sdk.device_classes import DeviceClass, Selector
from aerogram_sdk.errors import CatalogMalformed

Span = tuple[int, int]
Value = TypeVar("Value")

LARGEST_INTEGER = 2**53 - 1
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_SALT = re.compile(r"[ !#-\[\]-~]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*[A-Za-z0-9_-][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[1-9][0-9]{0,15}")
_ANY = re.compile(r".*", re.DOTALL)


class Reference(NamedTuple):
    """A signed manifest: path below the application's folder, hex digest and length in bytes of the whole file."""

    path: str
    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    runtime: str
    min_runtime_version: str
    manifest: Reference


@dataclass(frozen=True, slots=True)
class Arm:
    """`version` None is the model embedded in the app."""

    name: str
    version: int | None
    control: bool
    ranges: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    slug: str
    kind: str
    state: str
    phase: int
    layer_salt: str
    layer_range: Span
    arm_salt: str
    arms: tuple[Arm, ...]
    halted_classes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Holdback:
    """Units whose bucket under `salt` lies in `range` stay on `version`."""

    salt: str
    range: Span
    version: int


@dataclass(frozen=True, slots=True)
class Overrides:
    """Versions pinned for single units, by `override_key(salt, unit)`."""

    salt: str = ""
    units: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """What the channel serves of one model. `current` None: the app keeps its embedded model."""

    current: int | None
    versions: Mapping[int, tuple[Variant, ...]]
    kill_switch: Reference | None
    no_unit: str
    floors: tuple[int, ...]
    holdback: Holdback | None
    overrides: Overrides
    experiments: tuple[Experiment, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    application: str
    channel: str
    poll_after_seconds: int
    device_classes: tuple[DeviceClass, ...]
    models: Mapping[str, CatalogModel]

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Raises CatalogMalformed with the path of what is wrong, what was expected and what was got."""
        whole = _Object(document, "catalog")
        whole.one_of("_type", ("aerogram-catalog",))
        whole.one_of("spec_version", ("1",))
        classes = tuple(_device_class(each) for each in whole.objects("device_classes"))
        if len({each.name for each in classes}) < len(classes):
            raise whole.wrong("device_classes", "unique names")
        return cls(
            application=whole.text("application", _NAME),
            channel=whole.text("channel", _NAME),
            poll_after_seconds=whole.integer("poll_after_seconds", least=1),
            device_classes=classes,
            models=whole.named("models", _NAME, lambda inner, name: _model(inner.object(name))),
        )


class _Object:
    """One JSON object, and where it stands."""

    def __init__(self, document: Any, at: str) -> None:
        if not isinstance(document, dict):
            raise CatalogMalformed(f"{at}: expected an object, got {document!r:.80}")
        self.document, self.at = document, at

    def wrong(self, name: str, expected: str) -> CatalogMalformed:
        return CatalogMalformed(f"{self.at}.{name}: expected {expected}, got {self.document.get(name)!r:.80}")

    def has(self, name: str) -> bool:
        return self.document.get(name) is not None

    def text(self, name: str, pattern: re.Pattern[str] = _ANY, default: str | None = None) -> str:
        value = self.document.get(name, default)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self.wrong(name, f"a string like {pattern.pattern}")
        return value

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        value = self.document.get(name)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(name, f"one of {', '.join(allowed)}")
        return value

    def integer(self, name: str, *, least: int = 0) -> int:
        value = self.document.get(name)
        if not _is_integer(value) or not least <= value <= LARGEST_INTEGER:
            raise self.wrong(name, f"an integer of {least} or more")
        return value

    def flag(self, name: str) -> bool:
        value = self.document.get(name, False)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def items(self, name: str) -> list[Any]:
        value = self.document.get(name, [])
        if not isinstance(value, list):
            raise self.wrong(name, "a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        if not all(isinstance(each, str) for each in self.items(name)):
            raise self.wrong(name, "a list of strings")
        return tuple(self.items(name))

    def object(self, name: str) -> "_Object":
        return _Object(self.document.get(name), f"{self.at}.{name}")

    def objects(self, name: str) -> list["_Object"]:
        return [_Object(each, f"{self.at}.{name}[{index}]") for index, each in enumerate(self.items(name))]

    def named(self, name: str, pattern: re.Pattern[str], read: Callable[["_Object", str], Value]) -> dict[str, Value]:
        """Each member of the object `name`, read by its name."""
        inner = self.object(name)
        if not all(pattern.fullmatch(key) for key in inner.document):
            raise self.wrong(name, f"names like {pattern.pattern}")
        return {key: read(inner, key) for key in inner.document}

    def span(self, name: str) -> Span:
        return self._span(name, self.document.get(name))

    def spans(self, name: str) -> tuple[Span, ...]:
        return tuple(self._span(name, each) for each in self.items(name))

    def _span(self, name: str, value: Any) -> Span:
        match value:
            case [first, end] if _is_integer(first) and _is_integer(end) and 0 <= first <= end <= BUCKETS:
                return first, end
        raise self.wrong(name, f"bucket ranges [first, end] with 0 <= first <= end <= {BUCKETS}")


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _device_class(inner: _Object) -> DeviceClass:
    return DeviceClass(
        name=inner.text("name"),
        selector=_selector(inner.object("selector")),
        variants=inner.texts("variants"),
        delegate_order=inner.texts("delegate_order"),
    )


def _selector(inner: _Object) -> Selector:
    """A condition that this version does not know would widen the class if it were ignored."""
    names = {each.name for each in fields(Selector)}
    unknown = sorted(inner.document.keys() - names)
    if unknown:
        raise inner.wrong(unknown[0], "a condition this version knows")
    values: dict[str, Any] = {}
    for name in inner.document:
        if not name.endswith(("_min", "_max")):
            values[name] = inner.texts(name)
        elif inner.has(name):
            values[name] = inner.integer(name) if name.startswith("ram_mb") else inner.text(name)
    return Selector(**values)


def _model(inner: _Object) -> CatalogModel:
    model = CatalogModel(
        current=_version_or_none(inner, "current"),
        versions={
            int(number): tuple(_variant(each) for each in version.objects("variants"))
            for number, version in inner.named("versions", _VERSION, _Object.object).items()
        },
        kill_switch=_reference(inner.object("kill_switch").object("manifest")) if inner.has("kill_switch") else None,
        no_unit=inner.one_of("no_unit", ("current", "none")),
        floors=_integers(inner, "floors"),
        holdback=_holdback(inner.object("holdback")) if inner.has("holdback") else None,
        overrides=_overrides(inner.object("overrides")) if inner.has("overrides") else Overrides(),
        experiments=tuple(_experiment(each) for each in inner.objects("experiments")),
    )
    _refuse_unlisted(inner, model)
    for salt in {each.layer_salt for each in model.experiments}:
        _refuse_overlap(inner, "experiments", (e.layer_range for e in model.experiments if e.layer_salt == salt))
    return model


def _integers(inner: _Object, name: str) -> tuple[int, ...]:
    if not all(_is_integer(each) for each in inner.items(name)):
        raise inner.wrong(name, "a list of integers")
    return tuple(inner.items(name))


def _version_or_none(inner: _Object, name: str) -> int | None:
    return inner.integer(name, least=1) if inner.has(name) else None


def _variant(inner: _Object) -> Variant:
    return Variant(
        name=inner.text("name", _NAME),
        runtime=inner.text("runtime", _NAME),
        min_runtime_version=inner.text("min_runtime_version", default=""),
        manifest=_reference(inner.object("manifest")),
    )


def _reference(inner: _Object) -> Reference:
    return Reference(inner.text("path", _PATH), inner.text("sha256", _SHA256), inner.integer("length"))


def _holdback(inner: _Object) -> Holdback:
    return Holdback(inner.text("salt", _SALT), inner.span("range"), inner.integer("version", least=1))


def _overrides(inner: _Object) -> Overrides:
    if not inner.has("units") or not inner.object("units").document:
        return Overrides()
    units = inner.named("units", _SHA256, lambda members, key: members.integer(key, least=1))
    return Overrides(inner.text("salt", _SALT), units)


def _experiment(inner: _Object) -> Experiment:
    layer = inner.object("layer")
    arms = tuple(_arm(each) for each in inner.objects("arms"))
    if sum(arm.control for arm in arms) > 1:
        raise inner.wrong("arms", "at most one control")
    _refuse_overlap(inner, "arms", (span for arm in arms for span in arm.ranges))
    return Experiment(
        slug=inner.text("slug", _NAME),
        kind=inner.one_of("kind", ("rollout", "ab", "aa", "holdback")),
        state=inner.one_of("state", ("running", "halted")),
        phase=inner.integer("phase", least=1),
        layer_salt=layer.text("salt", _SALT),
        layer_range=layer.span("range"),
        arm_salt=inner.text("arm_salt", _SALT),
        arms=arms,
        halted_classes=frozenset(inner.texts("halted_classes")),
    )


def _arm(inner: _Object) -> Arm:
    return Arm(
        inner.text("name", _NAME), _version_or_none(inner, "version"), inner.flag("control"), inner.spans("ranges")
    )


def _refuse_unlisted(inner: _Object, model: CatalogModel) -> None:
    named = [model.current, *model.floors, *model.overrides.units.values()]
    named += [arm.version for experiment in model.experiments for arm in experiment.arms]
    named += [model.holdback.version] if model.holdback else []
    unlisted = sorted({version for version in named if version is not None} - model.versions.keys())
    if unlisted:
        raise inner.wrong("versions", f"version {unlisted[0]}, which something names, among them")


def _refuse_overlap(inner: _Object, name: str, spans: Iterable[Span]) -> None:
    for (_, end), (first, _) in pairwise(sorted(span for span in spans if span[0] < span[1])):
        if first < end:
            raise inner.wrong(name, f"ranges that do not overlap, and bucket {first} in one")
