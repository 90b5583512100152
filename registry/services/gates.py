"""Gates of a model, what its variants miss of them, and people's decisions to release one all the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import transaction

from registry import errors
from registry.conversion.gates import Gates, GatesError, Measured, Miss, misses, missing_recipes
from registry.models import (
    AuditEntry,
    DeviceBenchmark,
    DeviceClass,
    GateOverride,
    ModelVersion,
    RegisteredModel,
    Variant,
)


@dataclass(frozen=True)
class Verdict:
    """A variant, all that it misses, and what of that no override covers. Blocked while something is uncovered."""

    variant: Variant
    misses: tuple[Miss, ...]
    uncovered: tuple[Miss, ...]

    @property
    def is_blocked(self) -> bool:
        return bool(self.uncovered)


def set_gates(*, model: RegisteredModel, gates: Mapping[str, Any], actor: str, now: datetime) -> None:
    """Replace a model's gates. They judge releases from now on; what is live stays. Raises `GatesRefused`."""
    wanted = _read(gates, model)
    with transaction.atomic():
        before = RegisteredModel.objects.select_for_update().get(pk=model.pk).gates
        RegisteredModel.objects.filter(pk=model.pk).update(gates=wanted.to_json())
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="set_gates",
            subject=str(model),
            application=model.application,
            before=before,
            after=wanted.to_json(),
        )


def verdicts(version: ModelVersion) -> list[Verdict]:
    """What each variant of a version misses, by name."""
    gates = Gates.from_json(version.model.gates)
    offered = {row.name: set(row.variants) for row in version.model.application.device_classes.all()}
    variants = version.variants.prefetch_related("benchmarks", "overrides", "parts__part__version__model")
    return [_with_parts(_verdict(variant, gates, offered), offered) for variant in variants]


def releasable_variants(version: ModelVersion) -> list[Variant]:
    """Those that a release of the version may hold."""
    return [verdict.variant for verdict in verdicts(version) if not verdict.is_blocked]


def missing_from_release(version: ModelVersion, variants: Sequence[Variant]) -> list[Miss]:
    """The required recipes that a release of these variants would lack."""
    return missing_recipes(Gates.from_json(version.model.gates), {variant.name for variant in variants})


def override_gates(*, variant: Variant, reason: str, actor: str, now: datetime) -> GateOverride:
    """Release a variant although it misses these gates. Raises `NothingToOverride`."""
    with transaction.atomic():
        Variant.objects.select_for_update().get(pk=variant.pk)
        verdict = next(verdict for verdict in verdicts(variant.version) if verdict.variant.pk == variant.pk)
        if not verdict.is_blocked:
            raise errors.NothingToOverride(f"expected {variant} to be blocked by a gate, it is not")
        seen = [miss.to_json() for miss in verdict.misses]
        made = GateOverride.objects.create(variant=variant, reason=reason, actor=actor, at=now, misses=seen)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="override_gates",
            subject=str(variant),
            application=variant.version.model.application,
            after={"misses": seen},
            reason=reason,
        )
    return made


def report_benchmark(
    *,
    variant: Variant,
    device_class: str,
    device: str,
    p50_us: int,
    p90_us: int,
    runs: int,
    delegate: str = "",
    actor: str,
    now: datetime,
) -> DeviceBenchmark:
    """Keep what a real device measured. Raises `Invalid`."""
    application = variant.version.model.application
    if not application.device_classes.filter(name=device_class).exists():
        known = ", ".join(application.device_classes.values_list("name", flat=True))
        raise errors.Invalid(f"expected a device class among {known}; got {device_class!r}", field="device_class")
    if p90_us < p50_us:
        raise errors.Invalid(f"expected p90_us of at least p50_us ({p50_us}), got {p90_us}", field="p90_us")
    with transaction.atomic():
        made = DeviceBenchmark.objects.create(
            variant=variant,
            device_class=device_class,
            device=device,
            delegate=delegate,
            p50_us=p50_us,
            p90_us=p90_us,
            runs=runs,
            reported_by=actor,
            at=now,
        )
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="report_benchmark",
            subject=str(variant),
            application=application,
            after={"device_class": device_class, "device": device, "p50_us": p50_us},
        )
    return made


def _read(gates: Mapping[str, Any], model: RegisteredModel) -> Gates:
    try:
        wanted = Gates.from_json(gates)
    except GatesError as error:
        raise errors.GatesRefused(str(error), field="gates") from error
    known = set(DeviceClass.objects.filter(application=model.application).values_list("name", flat=True))
    if strangers := sorted(set(wanted.max_latency_us) - known):
        expected = f"expected device classes among {', '.join(sorted(known))} in max_latency_us"
        raise errors.GatesRefused(f"{expected}; got {strangers[0]!r}", field="gates")
    return wanted


def _verdict(variant: Variant, gates: Gates, offered: Mapping[str, set[str]]) -> Verdict:
    found = misses(
        gates,
        report=variant.report,
        size_bytes=variant.size_bytes,
        benchmarks=_newest(variant),
        device_classes={name for name, names in offered.items() if variant.name in names},
    )
    covered = [miss for override in variant.overrides.all() for miss in override.misses]
    return Verdict(variant, tuple(found), tuple(miss for miss in found if miss.to_json() not in covered))


def _with_parts(verdict: Verdict, offered: Mapping[str, set[str]]) -> Verdict:
    """A part keeps to the gates of its own model, or its misses count for the bundle, whose override covers them."""
    covered = [miss for override in verdict.variant.overrides.all() for miss in override.misses]
    found, uncovered = list(verdict.misses), list(verdict.uncovered)
    for row in verdict.variant.parts.all():
        own = _verdict(row.part, Gates.from_json(row.part.version.model.gates), offered)
        missed = [replace(miss, subject=f"part {row.name} {miss.subject}".strip()) for miss in own.uncovered]
        found += missed
        uncovered += [miss for miss in missed if miss.to_json() not in covered]
    return Verdict(verdict.variant, tuple(found), tuple(uncovered))


def _newest(variant: Variant) -> list[Measured]:
    """The last word on each device of each class, delegates apart: what an app runs on is its best one."""
    newest: dict[tuple[str, str, str], DeviceBenchmark] = {}
    for row in sorted(variant.benchmarks.all(), key=lambda row: row.pk):
        newest[row.device_class, row.device, row.delegate] = row
    best: dict[tuple[str, str], Measured] = {}
    for (device_class, device, _), row in newest.items():
        known = best.get((device_class, device))
        if known is None or row.p50_us < known.p50_us:
            best[device_class, device] = Measured(device_class, device, row.p50_us)
    return list(best.values())
