"""Which device class a device belongs to, and why not an earlier one. Pure.

Classes are ordered; the first whose selector accepts the profile wins; an empty selector is the fallback. A bound on a
fact that the profile does not state is not met: an unknown device falls through to the fallback.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from registry.json_members import DocumentError, Members
from registry.soc_names import all_spellings

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_VERSION_PARTS = 8


class SelectorError(DocumentError):
    """A device class or its selector is not of the right form."""


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """What a device says of itself. Empty text or None means unknown; `ram_mb` is in MiB."""

    os: str
    os_version: str = ""
    app_version: str = ""
    runtime: str = ""
    runtime_version: str = ""
    device: str = ""
    soc: str = ""
    ram_mb: int | None = None
    accelerators: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions on a profile, all of which must hold. Bounds are inclusive; names are compared exactly.

    | member                           | holds when                                                          |
    |----------------------------------|---------------------------------------------------------------------|
    | os, runtime, soc, device_include | empty, or the profile's value is one of them                        |
    | *_min, *_max                     | None, or the profile states the value and it is within the bound     |
    | accelerators_all                 | the profile has every one of them                                   |
    | device_exclude                   | the profile's device is none of them                                |
    """

    os: tuple[str, ...] = ()
    os_version_min: str | None = None
    os_version_max: str | None = None
    app_version_min: str | None = None
    app_version_max: str | None = None
    runtime: tuple[str, ...] = ()
    runtime_version_min: str | None = None
    runtime_version_max: str | None = None
    ram_mb_min: int | None = None
    ram_mb_max: int | None = None
    soc: tuple[str, ...] = ()
    accelerators_all: tuple[str, ...] = ()
    device_include: tuple[str, ...] = ()
    device_exclude: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Only what differs from the default: the fallback's selector is `{}`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v not in ((), None)}

    @classmethod
    def from_json(cls, document: object, at: str = "selector") -> Selector:
        """Raises SelectorError on an unknown member: a condition that is silently dropped would widen the class."""
        members = Members(document, at, SelectorError)
        known = {field.name for field in fields(cls)}
        for name in members.document:
            if name not in known:
                raise SelectorError(f"{at}.{name}", "one of " + ", ".join(sorted(known)), name)
        return cls(
            os=members.texts("os"),
            os_version_min=_version_bound(members, "os_version_min"),
            os_version_max=_version_bound(members, "os_version_max"),
            app_version_min=_version_bound(members, "app_version_min"),
            app_version_max=_version_bound(members, "app_version_max"),
            runtime=members.texts("runtime"),
            runtime_version_min=_version_bound(members, "runtime_version_min"),
            runtime_version_max=_version_bound(members, "runtime_version_max"),
            ram_mb_min=members.integer_or_none("ram_mb_min"),
            ram_mb_max=members.integer_or_none("ram_mb_max"),
            soc=members.texts("soc"),
            accelerators_all=members.texts("accelerators_all"),
            device_include=members.texts("device_include"),
            device_exclude=members.texts("device_exclude"),
        )

    def contradiction(self) -> str | None:
        """Conditions that no device can meet together, in words; None if there are none."""
        for fact in ("os_version", "app_version", "runtime_version"):
            least, most = getattr(self, f"{fact}_min"), getattr(self, f"{fact}_max")
            if least is not None and most is not None and compare_versions(least, most) > 0:
                return f"{fact} from {least} to {most}"
        if self.ram_mb_min is not None and self.ram_mb_max is not None and self.ram_mb_min > self.ram_mb_max:
            return f"ram_mb from {self.ram_mb_min} to {self.ram_mb_max}"
        if self.device_include and set(self.device_include) <= set(self.device_exclude):
            return f"each of {', '.join(self.device_include)} excluded"
        return None

    def mismatch(self, profile: DeviceProfile) -> str | None:
        """The first condition that does not hold, in words; None if all hold."""
        return (
            _not_one_of("os", profile.os, self.os)
            or _outside_versions("os_version", profile.os_version, self.os_version_min, self.os_version_max)
            or _outside_versions("app_version", profile.app_version, self.app_version_min, self.app_version_max)
            or _not_one_of("runtime", profile.runtime, self.runtime)
            or _outside_versions(
                "runtime_version", profile.runtime_version, self.runtime_version_min, self.runtime_version_max
            )
            or _outside_ram(profile.ram_mb, self.ram_mb_min, self.ram_mb_max)
            or _not_one_of("soc", profile.soc, self.soc)
            or _lacks_accelerators(profile.accelerators, self.accelerators_all)
            or _not_one_of("device", profile.device, self.device_include)
            or (f"device {profile.device} is excluded" if profile.device in self.device_exclude else None)
        )


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """`variants` are recipe slugs in order of preference; `delegate_order` is what the runtime should try first."""

    name: str
    selector: Selector
    variants: tuple[str, ...]
    delegate_order: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "selector": self.selector.to_json(),
            "variants": list(self.variants),
            "delegate_order": list(self.delegate_order),
        }

    @classmethod
    def from_json(cls, document: object, at: str = "device_class") -> DeviceClass:
        members = Members(document, at, SelectorError)
        return cls(
            name=members.text("name", most=64),
            selector=Selector.from_json(members.document.get("selector"), f"{at}.selector"),
            variants=members.texts("variants"),
            delegate_order=members.texts("delegate_order"),
        )


def with_all_soc_names(device_class: DeviceClass) -> DeviceClass:
    """As it is published: the selector lists every spelling of its chips, so that names can be compared exactly."""
    selector = device_class.selector
    return replace(device_class, selector=replace(selector, soc=all_spellings(selector.soc)))


class Match(NamedTuple):
    """The class found (or None), and for each earlier class the reason why it was not."""

    device_class: DeviceClass | None
    trace: tuple[tuple[str, str], ...]


def match(profile: DeviceProfile, classes: Iterable[DeviceClass]) -> Match:
    """The first of the classes, in their order, whose selector has nothing against the device."""
    trace: list[tuple[str, str]] = []
    for device_class in classes:
        mismatch = device_class.selector.mismatch(profile)
        if mismatch is None:
            return Match(device_class, tuple(trace))
        trace.append((device_class.name, mismatch))
    return Match(None, tuple(trace))


@lru_cache(maxsize=4_096)
def version_key(version: str) -> tuple[int, ...]:
    """Numeric parts without trailing zeros, so that "14" and "14.0" are equal. A part's digits end at its first letter.

    >>> version_key("14.0.3-beta"), version_key("14.0"), version_key("")
    ((14, 0, 3), (14,), ())
    """
    parts = [_leading_number(part) for part in version.split(".", LONGEST_VERSION_PARTS)[:LONGEST_VERSION_PARTS]]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def compare_versions(a: str, b: str) -> int:
    """-1, 0 or 1 as `a` is older than, equal to or newer than `b`. Missing parts count as 0."""
    left, right = version_key(a), version_key(b)
    return (left > right) - (left < right)


def _leading_number(part: str) -> int:
    digits = ""
    for character in part[:18]:
        if character not in "0123456789":
            break
        digits += character
    return int(digits) if digits else 0


def _version_bound(members: Members, name: str) -> str | None:
    return members.text(name, most=64) if members.has(name) else None


def _not_one_of(fact: str, value: str, allowed: tuple[str, ...]) -> str | None:
    if not allowed or value in allowed:
        return None
    return f"{fact} {value or 'unknown'} is not one of {', '.join(allowed)}"


def _outside_versions(fact: str, value: str, least: str | None, most: str | None) -> str | None:
    if least is None and most is None:
        return None
    if not value:
        return f"{fact} is unknown"
    if least is not None and compare_versions(value, least) < 0:
        return f"{fact} {value} is below {least}"
    if most is not None and compare_versions(value, most) > 0:
        return f"{fact} {value} is above {most}"
    return None


def _outside_ram(value: int | None, least: int | None, most: int | None) -> str | None:
    if least is None and most is None:
        return None
    if value is None:
        return "ram_mb is unknown"
    if least is not None and value < least:
        return f"ram_mb {value} is below {least}"
    if most is not None and value > most:
        return f"ram_mb {value} is above {most}"
    return None


def _lacks_accelerators(have: frozenset[str], needed: tuple[str, ...]) -> str | None:
    missing = [name for name in needed if name not in have]
    return f"accelerators lack {', '.join(missing)}" if missing else None
