"""Which conversions a version gets: planned when it is registered, and asked for later."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from registry import errors
from registry.conversion.plan import Plan, plan
from registry.conversion.recipes import NOT_OFFERED, RECIPES, TRACE, base_of
from registry.inspection import SourceInspection
from registry.models import AuditEntry, ConversionJob, JobState, ModelVersion
from registry.services.conversions import following, queueing
from registry.services.sources import inspect_artifact


def request_conversions(
    *, version: ModelVersion, inspected: SourceInspection, recipes: Sequence[str] | None, now: datetime
) -> None:
    """Plan the recipes of a new version and queue its trace. Raises `UnknownRecipe`."""
    planned = _planned(version, inspected, recipes)
    for step in planned.steps:
        _create(version, step, JobState.QUEUED if step == TRACE else JobState.WAITING, now)
    _note_not_applicable(version, planned, now)
    queueing.send_on_commit(version.jobs.get(recipe=TRACE))


def request_recipes(*, version: ModelVersion, recipes: Sequence[str], actor: str, now: datetime) -> list[ConversionJob]:
    """Ask for further recipes of a version that exists. Returns the new jobs; those it has already stay as they are.

    Raises `UnknownRecipe`, `VersionYanked`, or `RecipesRequested` when it has all of them.
    """
    require_known(recipes)
    if version.yanked_at is not None:
        raise errors.VersionYanked(f"expected a version in use, got {version}, which is yanked")
    inspected = inspect_artifact(version.source, version.source_file_name)
    with transaction.atomic():
        # The lock makes a trace that ends meanwhile wait, and then find the jobs that are made here.
        known = {job.recipe: job for job in version.jobs.select_for_update().order_by("pk")}
        wanted = [slug for slug in dict.fromkeys(recipes) if _is_missing(known.get(slug))]
        if not wanted:
            raise errors.RecipesRequested(f"expected recipes that {version} lacks, got {', '.join(recipes) or 'none'}")
        planned = _planned(version, inspected, wanted)
        steps = [step for step in planned.steps if _is_missing(known.get(step))]
        version.jobs.filter(recipe__in=[*wanted, *steps], state=JobState.NOT_APPLICABLE).delete()
        made = [_create(version, step, JobState.WAITING, now) for step in steps]
        for job in made:
            following.start(job, now)
        _note_not_applicable(version, planned, now)
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="request_recipes",
            subject=str(version),
            application=version.model.application,
            after={"recipes": wanted},
        )
        return list(version.jobs.filter(recipe__in=wanted))


def require_known(recipes: Sequence[str] | None) -> None:
    """Raises `UnknownRecipe`."""
    for slug in recipes or ():
        if slug in NOT_OFFERED:
            detail = f"expected recipes that are offered; got {slug}: {NOT_OFFERED[slug]}"
            raise errors.UnknownRecipe(detail, field="recipes")
    unknown = sorted(set(recipes or ()) - set(RECIPES))
    if unknown:
        known = ", ".join(RECIPES)
        raise errors.UnknownRecipe(f"expected recipes among {known}; got {', '.join(unknown)}", field="recipes")


def _planned(version: ModelVersion, inspected: SourceInspection, recipes: Sequence[str] | None) -> Plan:
    require_known(recipes)
    return plan(
        inspected,
        has_evaluation_set=version.evaluation_set is not None,
        requested=recipes,
        has_training_set=version.training_set is not None,
    )


def _is_missing(job: ConversionJob | None) -> bool:
    return job is None or job.state == JobState.NOT_APPLICABLE  # what applies may have changed with the converters


def _create(version: ModelVersion, step: str, state: JobState, now: datetime) -> ConversionJob:
    base = base_of(step, version.source_format)
    return ConversionJob.objects.create(version=version, recipe=step, base=base, state=state, queued_at=now)


def _note_not_applicable(version: ModelVersion, planned: Plan, now: datetime) -> None:
    for recipe, reason in planned.not_applicable.items():
        report = {"state": JobState.NOT_APPLICABLE, "error": {"code": "not_applicable", "detail": reason}}
        ConversionJob.objects.create(
            version=version,
            recipe=recipe,
            base=base_of(recipe, version.source_format),
            state=JobState.NOT_APPLICABLE,
            report=report,
            finished_at=now,
        )
