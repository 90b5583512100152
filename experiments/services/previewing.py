"""What a verb would do, by doing it and taking it back: every rule applies, and nothing stays."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from experiments.bucketing import bucket, in_range
from experiments.delivery import delivery
from experiments.lifecycle import SERVED
from experiments.models import Experiment, Holdback
from experiments.ramps import arm_at, moved
from experiments.services.exceptions import held_back, told_holdback
from experiments.services.recording import told
from registry.models import Channel, RegisteredModel

MOST_UNITS = 20_000
MOST_EVENTS = 200_000
KNOWN_FOR = timedelta(days=30)
_LATEST_UNITS = """
SELECT count(*), array_agg(DISTINCT unit) FILTER (WHERE channel IN ('', %s) AND unit <> '')
FROM (
    SELECT unit, channel FROM experiments_event WHERE application = %s AND model = %s AND received_at >= %s
    ORDER BY received_at DESC LIMIT %s
) AS latest
"""


@dataclass(frozen=True)
class Preview:
    """`changes`: {name: [before, after]} of the state. `buckets_moved`: of 10 000 within the layer's part.

    `units_moved` of `units_known` would be served another version. Those are the units heard of in 30 days, or
    20 000 of them (`is_sample`). Overrides and the holdback are left aside.
    """

    changes: dict[str, list[Any]]
    buckets_moved: int
    units_moved: int
    units_known: int
    is_sample: bool


@dataclass(frozen=True)
class _Served:
    """What units get, frozen at a moment. Outside of the arms it is the current release."""

    current: int | None
    layer: tuple[str, tuple[int, int]] | None
    arm_salt: str
    ranges: dict[str, Any]
    versions: dict[str, int | None]

    @classmethod
    def of(cls, experiment: Experiment | None, channel: Channel, model: RegisteredModel) -> "_Served":
        current = delivery().current_version(channel, model)
        number = current.number if current else None
        phase = experiment.phase if experiment is not None and experiment.state in SERVED else None
        if phase is None:
            return cls(number, None, "", {}, {})
        versions = {arm.name: arm.model_version for arm in phase.arms.select_related("model_version")}
        return cls(
            number,
            (phase.layer_salt, (phase.layer_first, phase.layer_end)),
            phase.arm_salt,
            phase.ranges,
            {name: version.number if version else None for name, version in versions.items()},
        )

    def version(self, unit: str) -> int | None:
        if self.layer is None or not in_range(bucket(unit, self.layer[0]), self.layer[1]):
            return self.current
        arm = arm_at(self.ranges, bucket(unit, self.arm_salt))
        return self.current if arm is None else self.versions[arm]

    def others_than(self, other: "_Served") -> int:
        """Buckets with another arm; all of either side where the draw itself differs."""
        if self.arm_salt == other.arm_salt or not self.ranges or not other.ranges:
            return moved(self.ranges, other.ranges)
        return max(moved(self.ranges, {}), moved(other.ranges, {}))


def preview(
    deed: Callable[[], Experiment],
    show: Callable[[Experiment], dict[str, Any]],
    *,
    channel: Channel,
    model: RegisteredModel,
    now: datetime,
    of: Experiment | None,
) -> tuple[dict[str, Any], Preview]:
    """Do it, look, and take it back. `of`: the experiment as it is, None where one is made. Raises whatever it raises.

    `show` is called while it is done; its answer is returned.
    """
    before, told_before = _Served.of(of, channel, model), told(of) if of else {}
    with _taken_back():
        experiment = deed()
        after, told_after = _Served.of(experiment, channel, model), told(experiment)
        shown = show(Experiment.objects.get(pk=experiment.pk))
    units, is_sample = known_units(channel, model, now)
    return shown, Preview(
        changes={
            name: [told_before.get(name), value] for name, value in told_after.items() if told_before.get(name) != value
        },
        buckets_moved=before.others_than(after),
        units_moved=_count_moved(units, before, after),
        units_known=len(units),
        is_sample=is_sample,
    )


def preview_holdback(
    deed: Callable[[], Holdback], *, channel: Channel, model: RegisteredModel, now: datetime
) -> tuple[Holdback, Preview]:
    """The row as it would be, and the units that would be held on another version or be let go."""
    before = held_back(channel, model)
    with _taken_back():
        row = deed()
        after = held_back(channel, model)
    told_before, told_after = told_holdback(before), told_holdback(after)
    units, is_sample = known_units(channel, model, now)
    spans = [row.percent_bp if row else 0 for row in (before, after)]
    is_same = before is not None and after is not None and before.version_id == after.version_id
    return row, Preview(
        changes={"holdback": [told_before, told_after]} if told_before != told_after else {},
        buckets_moved=abs(spans[0] - spans[1]) if is_same else max(spans),
        units_moved=sum(_held_on(before, unit) != _held_on(after, unit) for unit in units),
        units_known=len(units),
        is_sample=is_sample,
    )


def _held_on(held: Holdback | None, unit: str) -> int | None:
    return held.version.number if held and in_range(bucket(unit, held.salt), held.span) else None


def known_units(channel: Channel, model: RegisteredModel, now: datetime) -> tuple[list[str], bool]:
    """Units that reported of the model in the last 30 days, 20 000 at most, and whether there may be more.

    Those of an SDK that does not name its channel count for every channel. Of the model's latest 200 000 events:
    all of 30 days would take minutes where a fleet is large.
    """
    values = [model.application.slug, model.slug, now - KNOWN_FOR, MOST_EVENTS]
    with connection.cursor() as cursor:
        cursor.execute(_LATEST_UNITS, [channel.slug, *values])
        events, units = cursor.fetchone()
    found: list[str] = units or []
    return found[:MOST_UNITS], events >= MOST_EVENTS or len(found) > MOST_UNITS


def _count_moved(units: Iterable[str], before: _Served, after: _Served) -> int:
    return sum(before.version(unit) != after.version(unit) for unit in units)


@contextmanager
def _taken_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
