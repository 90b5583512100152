"""Finds the class that `device_classes.match` finds, without the reasons against the others. Pure.

A channel may have hundreds of classes, most of them for single devices or chips. Those are looked up by that name, so
that a profile is compared with the few classes that could be its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.device_classes import DeviceClass, DeviceProfile


class ClassIndex:
    """Each class stands under the first of these that its selector names: devices, chips, systems, or nothing."""

    def __init__(self, classes: Iterable[DeviceClass]) -> None:
        self._classes: tuple[DeviceClass, ...] = tuple(classes)
        self._by_device: dict[str, list[int]] = {}
        self._by_soc: dict[str, list[int]] = {}
        self._by_os: dict[str, list[int]] = {}
        self._for_all: list[int] = []
        for place, device_class in enumerate(self._classes):
            for under in self._under(device_class):
                under.append(place)

    def find(self, profile: DeviceProfile) -> DeviceClass | None:
        """The first class, in their order, whose selector accepts the profile."""
        places = [
            *self._by_device.get(profile.device, ()),
            *self._by_soc.get(profile.soc, ()),
            *self._by_os.get(profile.os, ()),
            *self._for_all,
        ]
        ordered = (self._classes[place] for place in sorted(places))
        return next((each for each in ordered if each.selector.mismatch(profile) is None), None)

    def _under(self, device_class: DeviceClass) -> list[list[int]]:
        selector = device_class.selector
        for names, index in (
            (selector.device_include, self._by_device),
            (selector.soc, self._by_soc),
            (selector.os, self._by_os),
        ):
            if names:
                return [index.setdefault(name, []) for name in dict.fromkeys(names)]
        return [self._for_all]
