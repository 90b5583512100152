"""The phases that events may belong to, read from the database and frozen for the pure part."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from django.db.models import Count, Max, Q

from experiments.attribution import FrozenArm, FrozenPhase, FrozenVariant, arm_of, phases_on
from experiments.delivery import delivery
from experiments.ingest.rows import Placement
from experiments.lifecycle import State
from experiments.models import Arm, Holdback, Phase
from registry.class_index import ClassIndex
from registry.device_classes import DeviceClass, DeviceProfile, with_all_soc_names
from registry.models import Application, Variant

# Events are at most 30 days old; a phase that closed before can get none.
OLDEST = timedelta(days=31)
ACTIVE = frozenset({State.RUNNING, State.PAUSED})


class Device(NamedTuple):
    """Who sent a batch. `channel` "": its SDK does not say."""

    unit: str
    profile: Mapping[str, Any]
    channel: str = ""


@dataclass
class Known:
    """Of one application: its phases by model, in the order in which a decision tries their experiments.

    `present`: its classes as they are now, as JSON.
    """

    application: Application
    present: list[dict[str, Any]]
    phases: dict[str, list[FrozenPhase]] = field(default_factory=lambda: defaultdict(list))

    def classes_of(self, row: Phase) -> ClassIndex:
        """Those that the phase began with; the present ones for a phase that opened before they were kept."""
        return _index(json.dumps(row.eligibility.get("class_rules", self.present)))


@lru_cache(maxsize=64)
def _index(class_rules: str) -> ClassIndex:
    """Remembered, since phases are read every few seconds and most have the same classes."""
    return ClassIndex(DeviceClass.from_json(rule) for rule in json.loads(class_rules))


class Placing:
    """Refreshed before each transaction: cheaply when no phase was opened or closed since, at most 5 s old."""

    REFRESH = timedelta(seconds=5)

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._state: tuple[Any, ...] = ()
        self._read_at: datetime | None = None

    def refresh(self) -> None:
        now = self._clock()
        state = tuple(
            Phase.objects.aggregate(newest=Max("pk"), closed=Count("pk", Q(closed_at__isnull=False))).values()
        )
        if state == self._state and self._read_at is not None and now - self._read_at < self.REFRESH:
            return
        self._known = known_phases(now)
        self._state, self._read_at = state, now

    def placer(self, application: str, device: Device) -> Callable[[str, datetime], Placement | None] | None:
        """For one device. None if no model of the application has an experiment, which costs nothing."""
        known = self._known.get(application)
        if known is None or not device.unit:
            return None
        return _Placer(known, device)


class _Placer:
    def __init__(self, known: Known, device: Device) -> None:
        self._known, self._device = known, device
        self._profile = profile_of(device.profile)
        self._key = delivery().unit_key(known.application, device.unit)
        self._places: dict[int, Placement | None] = {}

    def __call__(self, model: str, at: datetime) -> Placement | None:
        phases = phases_on(self._device.channel, self._known.phases.get(model, ()), at)
        return next((place for phase in phases if (place := self._place(phase)) is not None), None)

    def _place(self, phase: FrozenPhase) -> Placement | None:
        if phase.key not in self._places:
            found = phase.classes.find(self._profile)
            arm = arm_of(self._device.unit, self._key, self._profile, found, phase)
            self._places[phase.key] = Placement(phase, arm, found.name) if arm and found else None
        return self._places[phase.key]


def profile_of(said: Mapping[str, Any]) -> DeviceProfile:
    """What the device plane checked and kept of a profile. Raises TypeError on members it does not know."""
    members = {**said, "accelerators": frozenset(said.get("accelerators") or ())}
    return DeviceProfile(**{"os": "", **members})


def known_phases(now: datetime) -> dict[str, Known]:
    """By application, every phase that an event of now may belong to: one phase or hundreds, as many queries."""
    rows = list(
        Phase.objects.filter(Q(closed_at__isnull=True) | Q(closed_at__gt=now - OLDEST))
        .select_related("experiment__application", "experiment__model", "experiment__channel")
        .prefetch_related("arms__model_version", "experiment__overrides")
        .order_by("experiment_id", "-pk")
    )
    held = {(each.channel_id, each.model_id): each for each in Holdback.objects.filter(lifted_at=None)}
    variants = _variants(rows)
    found: dict[str, Known] = {}
    for row in rows:
        application = row.experiment.application
        known = found.get(application.slug)
        if known is None:
            # As they are published: a device's chip may be named otherwise than the class says.
            rules = application.device_classes.all()
            present = [with_all_soc_names(rule.as_rule()).to_json() for rule in rules]
            known = found[application.slug] = Known(application, present)
        held_back = held.get((row.experiment.channel_id, row.experiment.model_id))
        known.phases[row.experiment.model.slug].append(_frozen(row, known.classes_of(row), held_back, variants))
    return found


Variants = Mapping[int, Sequence[Variant]]


def _variants(rows: Iterable[Phase]) -> Variants:
    """Of the versions of all arms, by version."""
    versions = {arm.model_version_id for row in rows for arm in row.arms.all()} - {None}
    found: dict[int, list[Variant]] = defaultdict(list)
    for variant in Variant.objects.filter(version__in=versions):
        found[variant.version_id].append(variant)
    return found


def _frozen(row: Phase, classes: ClassIndex, held: Holdback | None, variants: Variants) -> FrozenPhase:
    experiment = row.experiment
    return FrozenPhase(
        key=row.pk,
        experiment=experiment.pk,
        slug=experiment.slug,
        number=row.number,
        channel=experiment.channel.slug,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        layer_salt=row.layer_salt,
        layer_range=(row.layer_first, row.layer_end),
        arm_salt=row.arm_salt,
        arms=tuple(_frozen_arm(arm, row, variants) for arm in row.arms.all()),
        classes=classes,
        holdback=(held.salt, held.span) if held else None,
        overrides=frozenset(override.unit_key for override in experiment.overrides.all()),
        is_frozen=experiment.state not in ACTIVE,
        halted_classes=frozenset(experiment.halted_classes),
    )


def _frozen_arm(arm: Arm, phase: Phase, variants: Variants) -> FrozenArm:
    version = arm.model_version
    ranges = tuple((int(first), int(end)) for first, end in arm.ranges)
    if version is None:
        return FrozenArm(arm.name, None, arm.is_control, ranges, None)
    names = set(phase.eligibility.get("versions", {}).get(str(version.number), []))
    wanted = [variant for variant in variants.get(version.pk, ()) if variant.name in names]
    frozen = tuple(FrozenVariant(each.name, each.runtime, each.min_runtime_version) for each in wanted)
    return FrozenArm(arm.name, version.number, arm.is_control, ranges, frozen)
