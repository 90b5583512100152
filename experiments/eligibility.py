"""Which devices may take part in an experiment at all. Pure.

Eligibility is symmetric: a device for which *any* arm has no compatible variant is outside the experiment, in every
arm alike, so that a variant that was never built cannot look like a result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from registry.device_classes import DeviceClass, DeviceProfile, compare_versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class VariantFacts(Protocol):
    """What must be known of a variant to choose it."""

    @property
    def name(self) -> str: ...
    @property
    def runtime(self) -> str: ...
    @property
    def min_runtime_version(self) -> str: ...


AnyVariant = TypeVar("AnyVariant", bound=VariantFacts)


def incompatibility(variant: VariantFacts, profile: DeviceProfile) -> str | None:
    """Why a device cannot run a variant; None if it can.

    | profile.runtime | profile.runtime_version | min_runtime_version | compatible                     |
    |-----------------|-------------------------|---------------------|--------------------------------|
    | another         | any                     | any                 | no                             |
    | same or unknown | any                     | none                | yes (the class vouches for it) |
    | same or unknown | unknown                 | stated              | no                             |
    | same or unknown | stated                  | stated              | if not older                   |
    """
    if profile.runtime and profile.runtime != variant.runtime:
        return f"runtime is {profile.runtime}, {variant.name} needs {variant.runtime}"
    if not variant.min_runtime_version:
        return None
    if not profile.runtime_version:
        return f"runtime_version is unknown, {variant.name} needs {variant.min_runtime_version}"
    if compare_versions(profile.runtime_version, variant.min_runtime_version) < 0:
        return f"runtime_version is {profile.runtime_version}, {variant.name} needs {variant.min_runtime_version}"
    return None


def choose_variant(
    variants: Iterable[AnyVariant], profile: DeviceProfile, device_class: DeviceClass | None
) -> AnyVariant | None:
    """The first of the class's preferred variants that exists and runs on the device."""
    if device_class is None:
        return None
    built = {variant.name: variant for variant in variants}
    for name in device_class.variants:
        variant = built.get(name)
        if variant is not None and incompatibility(variant, profile) is None:
            return variant
    return None


def arm_without_variant(
    arms: Sequence[tuple[str, Iterable[VariantFacts] | None]], profile: DeviceProfile, device_class: DeviceClass | None
) -> str | None:
    """The name of the first arm that has nothing for this device; None means eligible.

    An arm is (name, variants of its version); None in place of the variants is the model embedded in the app, which
    every device has.
    """
    for name, variants in arms:
        if variants is not None and choose_variant(variants, profile, device_class) is None:
            return name
    return None
