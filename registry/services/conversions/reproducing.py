"""Prove that a variant follows from what is recorded of it: build it again from the stored source, compare bytes."""

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction

from registry import errors
from registry.conversion import runner
from registry.conversion.recipes import RECIPES, TRACE, base_of
from registry.conversion.report import Report
from registry.digests import sha256_of_file
from registry.models import AuditEntry, Reproduction, Variant
from registry.services import workspaces
from registry.services.conversions import queueing
from registry.services.conversions.building import Bench, overlay
from registry.services.conversions.bundling import built_files
from registry.services.conversions.running import Clock, LeaseLost

State = Reproduction.State


class NotBuilt(Exception):
    """A step of the second build came to no good end; the message is its report's."""


def request_reproduction(*, variant: Variant, actor: str, now: datetime) -> Reproduction:
    """Queue a second build of a variant. Raises `ReproductionRunning` while another one of it is open."""
    with transaction.atomic():
        Variant.objects.select_for_update().get(pk=variant.pk)
        if variant.reproductions.filter(state__in=[State.QUEUED, State.RUNNING]).exists():
            raise errors.ReproductionRunning(f"expected no open reproduction of {variant}, found one")
        made: Reproduction = Reproduction.objects.create(
            variant=variant, requested_by=actor, requested_at=now, queued_at=now
        )
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="request_reproduction",
            subject=str(variant),
            application=variant.version.model.application,
        )
        queueing.send_on_commit(made)
    return made


def run_reproduction(*, reproduction_id: int, clock: Clock) -> None:
    """Build the variant again and keep the comparison. Does nothing when it is taken or done."""
    row: Reproduction = Reproduction.objects.select_related("variant__version__model").get(pk=reproduction_id)
    if not row.claim(clock()):
        return
    with workspaces.workspace(f"reproduction-{row.pk}-") as workspace, suppress(LeaseLost):
        try:
            outcome = _compared(row.variant, _built_again(row, workspace, clock), workspace / row.variant.name)
        except NotBuilt as error:
            outcome = {"state": State.FAILED, "detail": str(error)}
        if not row.end(now=clock(), progress={}, **outcome):
            raise LeaseLost(f"{row} was given to another worker")


def _built_again(row: Reproduction, workspace: Path, clock: Clock) -> list[Report]:
    """The reports of each step from the source on; the variant's files lie in the folder of its name."""
    recipe = RECIPES.get(row.variant.name)
    if recipe is None:
        raise NotBuilt(f"expected the recipe {row.variant.name} to exist, it was taken out of Aerogram")
    base = base_of(recipe.slug, row.variant.version.source_format)
    steps = list(dict.fromkeys((TRACE, base, recipe.slug)))

    def beat(**told: object) -> None:
        if not row.beat(clock(), **told):
            raise LeaseLost(f"{row} was given to another worker")

    reports: list[Report] = []

    def tell(progress: runner.Progress) -> None:
        percent = (100 * len(reports) + progress.percent) // len(steps)
        beat(progress={"step": f"{steps[len(reports)]}: {progress.step}", "percent": percent})

    bench = Bench(row.variant.version, workspace, workspaces.every_second(beat, clock), tell)
    start: Path | None = None
    for step in steps:
        report = bench.build(step, start=start, output=workspace / step)
        if report.state != "succeeded":
            detail = report.error.detail if report.error else "the log says why"
            raise NotBuilt(f"expected {step} to succeed as it once did; it ended as {report.state}: {detail}")
        reports.append(report)
        made = workspace / step
        start = made if start is None else overlay(workspace / f"start-after-{step}", start, made)
    return reports


def _compared(variant: Variant, reports: list[Report], output: Path) -> dict[str, Any]:
    """Every file that either build has, with both digests, and the versions of converters that are not the same."""
    expected = {file.path: file.artifact.sha256 for file in built_files(variant)}
    got = {file.path: sha256_of_file(output / file.path)[0] for file in reports[-1].files if file.role != "trace"}
    files = [
        {
            "path": path,
            "expected": expected.get(path),
            "got": got.get(path),
            "is_equal": expected.get(path) == got.get(path),
        }
        for path in sorted(expected | got)
    ]
    recorded = recorded_versions(variant)
    used = {name: found for report in reports for name, found in report.converter_versions.items()}
    versions = {
        name: {"then": recorded.get(name), "now": used.get(name)}
        for name in sorted({*recorded, *used})
        if recorded.get(name) != used.get(name)
    }
    is_equal = all(file["is_equal"] for file in files)
    return {
        "state": State.EQUAL if is_equal else State.DIFFERENT,
        "files": files,
        "converter_versions": versions,
        "detail": _why(variant, is_equal=is_equal),
    }


def recorded_versions(variant: Variant) -> dict[str, str]:
    """The converters of every step that led to the variant, as their reports named them."""
    steps = [TRACE, *([base_of(variant.name, variant.version.source_format)] if variant.name in RECIPES else [])]
    jobs = {job.recipe: job for job in variant.version.jobs.filter(recipe__in=steps)}
    found: dict[str, str] = {}
    for step in dict.fromkeys(steps):
        if step in jobs:
            found |= jobs[step].report.get("converter_versions") or {}
    return found | (variant.report.get("converter_versions") or {})


def _why(variant: Variant, *, is_equal: bool) -> str:
    if not is_equal and RECIPES[variant.name].digest != variant.recipe_digest:
        return f"the recipe {variant.name} itself has changed since: its digest was {variant.recipe_digest[:12]}"
    return ""
