"""Which experiment, phase and arm an event belongs to. Pure.

The device says neither: the server draws the unit's buckets again, by the functions of `decide()`, under the salts and
ranges that were frozen with the phase that was open when the event happened. So nobody can report into an arm that
is not his, and an old answer cannot put events into the wrong phase.

| the unit                                                             | attributed |
|----------------------------------------------------------------------|------------|
| absent, or overridden, or in the holdback slice                      | no         |
| of another channel than the experiment                               | no         |
| of no channel that it names, and several have an experiment then      | no         |
| of no device class, or of one for which an arm has no variant         | no         |
| outside the layer's range or the arms' ranges                        | no         |
| otherwise                                                            | to its arm |

A unit that two layers put into experiments belongs to the one that was written down first, as where it is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from experiments.bucketing import BucketRange, bucket, in_range
from experiments.eligibility import VariantFacts, arm_without_variant
from registry.class_index import ClassIndex
from registry.device_classes import DeviceClass, DeviceProfile


@dataclass(frozen=True, slots=True)
class FrozenVariant:
    name: str
    runtime: str
    min_runtime_version: str = ""


@dataclass(frozen=True, slots=True)
class FrozenArm:
    """`version` and `variants` None: the model embedded in the app."""

    name: str
    version: int | None
    is_control: bool
    ranges: tuple[BucketRange, ...]
    variants: tuple[FrozenVariant, ...] | None


@dataclass(frozen=True, slots=True)
class FrozenPhase:
    """`holdback`: (salt, range) of the slice that takes no part. `overrides`: keys of units that take none.

    `is_frozen`: nobody new gets an arm's version, for the experiment is halted or over; or for `halted_classes` alone.
    `classes`: those it began with. A class that is edited later moves no unit from one cell of the results to another.
    """

    key: int
    experiment: int
    slug: str
    number: int
    channel: str
    opened_at: datetime
    closed_at: datetime | None
    layer_salt: str
    layer_range: BucketRange
    arm_salt: str
    arms: tuple[FrozenArm, ...]
    classes: ClassIndex
    holdback: tuple[str, BucketRange] | None = None
    overrides: frozenset[str] = frozenset()
    is_frozen: bool = False
    halted_classes: frozenset[str] = frozenset()

    def is_open(self, at: datetime) -> bool:
        return self.opened_at <= at and (self.closed_at is None or at < self.closed_at)


def phases_on(channel: str, phases: Iterable[FrozenPhase], at: datetime) -> Iterator[FrozenPhase]:
    """Those open `at` that a device of the channel can be in. `channel` "": all, if they are of one channel only.

    A guess between channels would put a tester's phone into production's results.
    """
    found = [phase for phase in phases if phase.is_open(at)]
    if channel:
        return (phase for phase in found if phase.channel == channel)
    return iter(found if len({phase.channel for phase in found}) <= 1 else ())


def arm_of(
    unit: str, unit_key: str, profile: DeviceProfile, device_class: DeviceClass | None, phase: FrozenPhase
) -> FrozenArm | None:
    """The table above. `unit_key` is what overrides know the unit by."""
    if not unit or unit_key in phase.overrides:
        return None
    if phase.holdback is not None and in_range(bucket(unit, phase.holdback[0]), phase.holdback[1]):
        return None
    if not in_range(bucket(unit, phase.layer_salt), phase.layer_range):
        return None
    arms: list[tuple[str, Sequence[VariantFacts] | None]] = [(arm.name, arm.variants) for arm in phase.arms]
    if device_class is None or arm_without_variant(arms, profile, device_class) is not None:
        return None
    position = bucket(unit, phase.arm_salt)
    return next((arm for arm in phase.arms if any(in_range(position, span) for span in arm.ranges)), None)
