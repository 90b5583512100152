"""From experiments' rows to what a channel's catalog says of them. Writes nothing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from distribution.catalog import CatalogArm, CatalogExperiment, Holdback, Layer
from experiments import models as rows
from experiments.lifecycle import SERVED, State
from registry.models import Channel, RegisteredModel

IsServable = Callable[[int], bool]


@dataclass(frozen=True)
class ServedExperiments:
    """Of one model on one channel, as the rows say it; what of it can be served is asked with the versions in hand.

    Read at once, by one statement and what never changes beside it: verbs are said while a catalog is compiled.
    """

    phases: tuple[rows.Phase, ...]
    held_back: rows.Holdback | None

    @classmethod
    def of(cls, channel: Channel, model: RegisteredModel) -> "ServedExperiments":
        served = {"experiment__channel": channel, "experiment__model": model, "experiment__state__in": SERVED}
        phases = rows.Phase.objects.filter(closed_at=None, **served).select_related("experiment")
        holdback = rows.Holdback.objects.filter(channel=channel, model=model, lifted_at=None)
        return cls(
            tuple(phases.prefetch_related("arms__model_version").order_by("experiment_id")),
            holdback.select_related("version").first(),
        )

    def versions(self) -> set[int]:
        """Every version that an arm, an override or the holdback needs."""
        numbers = {number for phase in self.phases for number in _versions(phase).values() if number is not None}
        return numbers | ({self.held_back.version.number} if self.held_back else set())

    def catalogued(self, is_servable: IsServable) -> tuple[CatalogExperiment, ...]:
        """Those all of whose arms can be served: an arm that waits for the publisher keeps the whole one waiting."""
        return tuple(
            _catalogued(phase) for phase in self.phases if _all_servable(_versions(phase).values(), is_servable)
        )

    def holdback(self, is_servable: IsServable) -> Holdback | None:
        row = self.held_back
        if row is None or not is_servable(row.version.number):
            return None
        return Holdback(salt=row.salt, range=row.span, version=row.version.number)

    def overrides(self, is_servable: IsServable) -> dict[str, int]:
        """Version by the unit's key; of two, that of the experiment that was written down first."""
        found: dict[str, int] = {}
        for phase in self.phases:
            versions = _versions(phase)
            for key, arm in phase.experiment.overrides.order_by("unit_key").values_list("unit_key", "arm"):
                number = versions.get(arm)
                if number is not None and is_servable(number):
                    found.setdefault(key, number)
        return found


def _versions(phase: rows.Phase) -> dict[str, int | None]:
    """By arm; None is the embedded model."""
    return {arm.name: arm.model_version.number if arm.model_version else None for arm in phase.arms.all()}


def _all_servable(numbers: Iterable[int | None], is_servable: IsServable) -> bool:
    return all(number is None or is_servable(number) for number in numbers)


def _catalogued(phase: rows.Phase) -> CatalogExperiment:
    row, versions = phase.experiment, _versions(phase)
    return CatalogExperiment(
        slug=row.slug,
        kind=row.kind,
        state="halted" if row.state == State.HALTED else "running",
        phase=phase.number,
        layer=Layer(salt=phase.layer_salt, range=(phase.layer_first, phase.layer_end)),
        arm_salt=phase.arm_salt,
        arms=tuple(
            CatalogArm(
                name=arm.name,
                version=versions[arm.name],
                control=arm.is_control,
                ranges=tuple((first, end) for first, end in arm.ranges),
            )
            for arm in phase.arms.all()
        ),
        halted_classes=frozenset(row.halted_classes),
    )
