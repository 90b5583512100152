"""A rollout that has lived for some days: rows as the ingester leaves them, looks and steps as workers take them."""

from datetime import timedelta

from experiments import analysis, services
from experiments.models import DeviceEvent, Exposure
from tests.factories import NOW

STEPS = [
    {"percent_bp": 500, "hold_seconds": 86_400, "min_units": 200},
    {"percent_bp": 2500, "hold_seconds": 86_400, "min_units": 400},
    {"percent_bp": 5000, "hold_seconds": 172_800, "min_units": 800, "needs_approval": True},
    {"percent_bp": 10_000, "hold_seconds": 86_400, "min_units": 800},
]
CLASSES = (("android-high", "android"), ("android-mid", "android"), ("iphone", "ios"))


def expose(of, now, number, *, crash=(1, 500), fail=(1, 100), slower=0.0, only=None, start=0):
    """`number` more units an arm, a third in each class. Of the treatment `crash[0]` of `crash[1]` crash, and so on.

    The control crashes once in 500. `only`: the class in which the treatment crashes.
    """
    row = of.phase
    Exposure.objects.bulk_create(
        _unit(row, arm, start + index, now, crash=crash, fail=fail, slower=slower, only=only)
        for arm in row.arms.all()
        if arm.ranges
        for index in range(number)
    )


def _unit(row, arm, index, now, *, crash, fail, slower, only):
    name, os = CLASSES[index % 3]
    treated = not arm.is_control
    rate = crash if treated and (only is None or only == name) else (1, 500)
    has_failed = treated and index * 7919 % fail[1] < fail[0]
    return Exposure(
        phase=row, unit=f"{row.number}-{arm.name}-{index}", arm=arm.name, device_class=name, os=os,
        app_version=f"3.{index % 2}", day=now.date(), assigned_at=now, heard_at=now,
        reached=(1 if has_failed else 8) if treated else 0, failed=2 if has_failed and index // fail[1] % 2 else -1,
        progressed_at=now - timedelta(hours=40) if has_failed else now,
        crashed_at=now if index // 3 * 37 % rate[1] < rate[0] else None,
        log_p95=10.0 + (index * 31 % 100) / 100 + (slower if treated else 0.0),
    )  # fmt: skip


def live(of, clock, looks, per_look, every=timedelta(hours=4), **said):
    """So many looks, before each of them more units report; the plan goes on where it may."""
    for _ in range(looks):
        start = Exposure.objects.filter(phase=of.phase, arm=of.phase.arms.first().name).count()
        expose(of, clock(), per_look, start=start, **said)
        yield analysis.look(of, clock())
        services.advance_due(clock())
        clock.advance(seconds=every.total_seconds())
        of.refresh_from_db()
        if of.phase is None:
            return


def heard_of(model, number, now=NOW):
    """So many units are known by an event."""
    import uuid

    DeviceEvent.objects.bulk_create(
        DeviceEvent(
            event_id=uuid.uuid4(), application=model.application.slug, channel="production", unit=f"known-{index}",
            received_at=now, at=now, stage="inference", outcome="ok", model=model.slug,
        )
        for index in range(number)
    )  # fmt: skip
