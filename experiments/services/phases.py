"""Open and close phases, and hold the buckets of a layer while an experiment is live."""

from typing import Any

from django.db import IntegrityError, transaction

from experiments import errors
from experiments.delivery import delivery
from experiments.models import Arm, Experiment, Layer, LayerAllocation, Phase
from experiments.ramps import ranges_at
from experiments.services.designing import shares
from experiments.services.recording import Deed
from registry.device_classes import with_all_soc_names
from registry.models import ModelVersion
from registry.services import releasable_variants

EXCLUSIVE = "allocation_exclusive"


def open_phase(deed: Deed, *, cause: str, percent_bp: int) -> Phase:
    """Close the present phase and open the next, with the experiment's seed and its arms at `percent_bp`."""
    row = deed.experiment
    last = row.phases.last()
    close_phase(deed)
    phase = Phase.objects.create(
        experiment=row,
        number=last.number + 1 if last else 1,
        cause=cause,
        percent_bp=percent_bp,
        step_position=row.step_position,
        seed=row.seed,
        layer_salt=row.layer.salt,
        layer_first=row.layer_first,
        layer_end=row.layer_end,
        arm_salt=row.arm_salt,
        eligibility=eligibility(row),
        opened_by=deed.actor,
        opened_at=deed.now,
    )
    ranges = ranges_at(row.kind, shares(row.arms), percent_bp)
    versions = versions_of(row)
    Arm.objects.bulk_create(
        Arm(
            phase=phase,
            name=arm["name"],
            model_version=versions.get(arm["version"]),
            is_control=arm["control"],
            ranges=[list(span) for span in ranges[arm["name"]]],
        )
        for arm in row.arms
    )
    row.edition += 1  # an approval of a step is of that step alone
    row.step_since = deed.now
    deed.publishes = True
    return phase


def close_phase(deed: Deed) -> None:
    deed.experiment.phases.filter(closed_at__isnull=True).update(closed_at=deed.now)


def versions_of(experiment: Experiment) -> dict[int, ModelVersion]:
    """By number, those of the design; the embedded model is none."""
    numbers = [arm["version"] for arm in experiment.arms if arm["version"] is not None]
    return {version.number: version for version in experiment.model.versions.filter(number__in=numbers)}


def eligibility(experiment: Experiment) -> dict[str, Any]:
    """What decides which devices can take part, as it is now: variants of each arm's version, and the classes."""
    versions, rules = versions_of(experiment), list(experiment.application.device_classes.all())
    return {
        "versions": {
            str(number): sorted(variant.name for variant in releasable_variants(version))
            for number, version in sorted(versions.items())
        },
        "device_classes": {rule.name: rule.variants for rule in rules},
        "class_rules": [with_all_soc_names(rule.as_rule()).to_json() for rule in rules],
    }


def offer_arms(deed: Deed) -> None:
    """Let the publisher sign every version that an arm has."""
    row = deed.experiment
    for version in versions_of(row).values():
        delivery().offer(
            channel=row.channel, version=version, actor=deed.actor, now=deed.now, reason=f"an arm of {row}"
        )


def claim(deed: Deed) -> None:
    """Take the experiment's range of its layer. Raises `LayerTaken`."""
    row = deed.experiment
    # One after the other: two that insert at once would wait for each other until PostgreSQL ends one of them.
    Layer.objects.select_for_update().get(pk=row.layer_id)
    try:
        with transaction.atomic():
            LayerAllocation.objects.create(
                layer=row.layer,
                experiment=row,
                first_bucket=row.layer_first,
                end_bucket=row.layer_end,
                claimed_at=deed.now,
            )
    except IntegrityError as error:
        if EXCLUSIVE not in str(error):
            raise
        raise errors.LayerTaken(taken_from(row), field="layer_range") from error


def give_back(deed: Deed) -> None:
    """The range of its layer."""
    held = deed.experiment.allocations.filter(released_at__isnull=True)
    held.update(released_at=deed.now)


def taken_from(experiment: Experiment) -> str:
    """Who holds buckets that it would take, in words; empty where all are free."""
    held = LayerAllocation.objects.filter(
        layer=experiment.layer,
        released_at__isnull=True,
        first_bucket__lt=experiment.layer_end,
        end_bucket__gt=experiment.layer_first,
    ).select_related("experiment")
    told = ", ".join(f"{row.experiment} holds [{row.first_bucket}, {row.end_bucket})" for row in held)
    wanted = f"[{experiment.layer_first}, {experiment.layer_end})"
    return f"expected free buckets in {wanted} of {experiment.layer}: {told}" if told else ""
