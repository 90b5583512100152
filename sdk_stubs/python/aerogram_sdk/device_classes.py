"""Which device class a device belongs to. Pure.

Classes are ordered; the first whose selector accepts the profile wins; an empty selector is the fallback. A bound on a
fact that the profile does not state is not met.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from aerogram_sdk.profile import DeviceProfile
from aerogram_sdk.versions import compare_versions


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

    def accepts(self, profile: DeviceProfile) -> bool:
        return (
            _one_of(profile.os, self.os)
            and _version_within(profile.os_version, self.os_version_min, self.os_version_max)
            and _version_within(profile.app_version, self.app_version_min, self.app_version_max)
            and _one_of(profile.runtime, self.runtime)
            and _version_within(profile.runtime_version, self.runtime_version_min, self.runtime_version_max)
            and _ram_within(profile.ram_mb, self.ram_mb_min, self.ram_mb_max)
            and _one_of(profile.soc, self.soc)
            and profile.accelerators.issuperset(self.accelerators_all)
            and _one_of(profile.device, self.device_include)
            and profile.device not in self.device_exclude
        )


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """`variants` in order of preference; `delegate_order` is what the runtime should try first."""

    name: str
    selector: Selector
    variants: tuple[str, ...]
    delegate_order: tuple[str, ...] = ()


def match(profile: DeviceProfile, classes: Iterable[DeviceClass]) -> DeviceClass | None:
    """The first class that accepts the device."""
    return next((each for each in classes if each.selector.accepts(profile)), None)


def _one_of(value: str, allowed: tuple[str, ...]) -> bool:
    return not allowed or value in allowed


def _version_within(value: str, least: str | None, most: str | None) -> bool:
    if least is None and most is None:
        return True
    return (
        value != ""
        and (least is None or compare_versions(value, least) >= 0)
        and (most is None or compare_versions(value, most) <= 0)
    )


def _ram_within(value: int | None, least: int | None, most: int | None) -> bool:
    if least is None and most is None:
        return True
    return value is not None and (least is None or value >= least) and (most is None or value <= most)
