"""The phases that events may belong to, read from the database and frozen for the pure part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, Q

from experiments.attribution import FrozenArm, FrozenPhase, FrozenVariant, arm_of
from experiments.delivery import delivery
from experiments.ingest.rows import Placement
from experiments.models import Arm, Holdback, Phase
from registry import device_classes
from registry.models import Application, Variant

# Events are at most 30 days old; a phase that closed before can get none.
OLDEST = timedelta(days=31)
Class = device_classes.DeviceClass


@dataclass
class Known:
    """Of one application: its classes, and its phases by model, newest first."""

    application: Application
    classes: list[Class] = field(default_factory=list)
    phases: dict[str, list[FrozenPhase]] = field(default_factory=lambda: defaultdict(list))


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

    def placer(
        self, application: str, unit: str, profile: Mapping[str, Any]
    ) -> Callable[[str, datetime], Placement | None] | None:
        """For one device. None if no model of the application has an experiment, which costs nothing."""
        known = self._known.get(application)
        if known is None or not unit:
            return None
        return _Placer(known, unit, profile)


class _Placer:
    def __init__(self, known: Known, unit: str, profile: Mapping[str, Any]) -> None:
        self._known, self._unit = known, unit
        self._profile = profile_of(profile)
        self._class = device_classes.match(self._profile, known.classes).device_class
        self._key = delivery().unit_key(known.application, unit)
        self._arms: dict[int, FrozenArm | None] = {}

    def __call__(self, model: str, at: datetime) -> Placement | None:
        for phase in self._known.phases.get(model, ()):
            if phase.is_open(at):
                arm = self._arm(phase)
                if arm is not None and self._class is not None:
                    return Placement(phase, arm, self._class.name)
        return None

    def _arm(self, phase: FrozenPhase) -> FrozenArm | None:
        if phase.key not in self._arms:
            self._arms[phase.key] = arm_of(self._unit, self._key, self._profile, self._class, phase)
        return self._arms[phase.key]


def profile_of(said: Mapping[str, Any]) -> device_classes.DeviceProfile:
    """What the device plane checked and kept of a profile. Raises TypeError on members it does not know."""
    members = {**said, "accelerators": frozenset(said.get("accelerators") or ())}
    return device_classes.DeviceProfile(**{"os": "", **members})


def known_phases(now: datetime) -> dict[str, Known]:
    """By application, every phase that an event of now may belong to."""
    rows = (
        Phase.objects.filter(Q(closed_at__isnull=True) | Q(closed_at__gt=now - OLDEST))
        .select_related("experiment__application", "experiment__model", "experiment__channel")
        .prefetch_related("arms__model_version", "experiment__overrides")
        .order_by("-pk")
    )
    found: dict[str, Known] = {}
    for row in rows:
        application = row.experiment.application
        known = found.get(application.slug)
        if known is None:
            classes = [each.as_rule() for each in application.device_classes.all()]
            known = found[application.slug] = Known(application, classes)
        known.phases[row.experiment.model.slug].append(_frozen(row))
    return found


def _frozen(row: Phase) -> FrozenPhase:
    experiment = row.experiment
    held = Holdback.objects.filter(channel=experiment.channel_id, model=experiment.model_id, lifted_at=None).first()
    return FrozenPhase(
        key=row.pk,
        experiment=experiment.pk,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        layer_salt=row.layer_salt,
        layer_range=(row.layer_first, row.layer_end),
        arm_salt=row.arm_salt,
        arms=tuple(_frozen_arm(arm, row) for arm in row.arms.all()),
        holdback=(held.salt, held.span) if held else None,
        overrides=frozenset(override.unit_key for override in experiment.overrides.all()),
    )


def _frozen_arm(arm: Arm, phase: Phase) -> FrozenArm:
    version = arm.model_version
    ranges = tuple((int(first), int(end)) for first, end in arm.ranges)
    if version is None:
        return FrozenArm(arm.name, None, arm.is_control, ranges, None)
    names = phase.eligibility.get("versions", {}).get(str(version.number), [])
    variants = Variant.objects.filter(version=version, name__in=names)
    frozen = tuple(FrozenVariant(each.name, each.runtime, each.min_runtime_version) for each in variants)
    return FrozenArm(arm.name, version.number, arm.is_control, ranges, frozen)
