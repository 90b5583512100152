"""What a release, and a version that is withdrawn, do to experiments that devices are told of."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from experiments.delivery import delivery
from experiments.lifecycle import Kind, State, Verb
from experiments.models import Arm, Experiment, Holdback
from experiments.services.exceptions import lift_holdback
from experiments.services.phases import open_phase
from experiments.services.recording import doing
from experiments.services.running import end, rollback
from registry.models import Channel, ModelVersion, VariantPart


def follow(
    *,
    experiment: Experiment,
    version: ModelVersion | None,
    actor: str,
    now: datetime,
    reason: str,
    row_version: int | None = None,
) -> None:
    """A rollout's control is the current release: `version`, which is that now, takes its place. None: the embedded.

    The same units and seed, a new phase; the step's time begins anew. Where the treatment itself was released, the
    rollout is completed. Raises `Stale`, `WrongState`.
    """
    with doing(Verb.FOLLOW, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row, phase = deed.experiment, deed.experiment.phase
        assert phase is not None, "what is live has a phase"
        number = version.number if version else None
        treatment = next(arm for arm in row.arms if not arm["control"])
        if number == treatment["version"]:
            deed.details |= {"winner": treatment["name"]}
            end(deed, State.COMPLETED)
            return
        row.arms = [{**arm, "version": number} if arm["control"] else arm for arm in row.arms]
        open_phase(deed, cause=deed.verb, percent_bp=phase.percent_bp)


def rollouts_behind(channel: Channel, version: ModelVersion) -> list[Experiment]:
    """Rollouts on the channel whose control is another version of the model than this one."""
    served = Experiment.objects.served().rollouts().filter(channel=channel, model=version.model)
    others = _open_arms().filter(is_control=True).exclude(model_version=version)
    return list(served.filter(pk__in=others.values("phase__experiment")).order_by("pk"))


def withdraw(*, version: ModelVersion, actor: str, now: datetime, reason: str) -> None:
    """End what compares or holds back a version that was yanked; call in the transaction that yanks it.

    A rollout whose control it was goes on with what is current now. Every other experiment that has it is rolled back.
    """
    told = f"{version} was yanked: {reason}"
    with transaction.atomic():
        gone = [version, *_bundles_without_variants(version)]
        # All rows before any entry of the log: whoever waits for a row while the log is locked may wait for ever.
        experiments = _lock_those_with(gone)
        holdbacks = list(Holdback.objects.filter(version__in=gone, lifted_at=None).select_for_update().order_by("pk"))
        for experiment in experiments:
            treatments = _open_arms().filter(phase__experiment=experiment, is_control=False, model_version__in=gone)
            if experiment.kind == Kind.ROLLOUT and not treatments.exists():
                current = delivery().served_version(experiment.channel, experiment.model)
                follow(experiment=experiment, version=current, actor=actor, now=now, reason=told)
            else:
                rollback(experiment=experiment, actor=actor, now=now, reason=told)
        for held in holdbacks:
            lift_holdback(channel=held.channel, model=held.model, actor=actor, now=now, reason=told)


def _open_arms() -> "QuerySet[Arm]":
    return Arm.objects.filter(phase__closed_at=None)


def _lock_those_with(versions: Iterable[ModelVersion]) -> list[Experiment]:
    concerned = _open_arms().filter(model_version__in=list(versions)).values("phase__experiment")
    return list(Experiment.objects.served().filter(pk__in=concerned).select_for_update().order_by("pk"))


def _bundles_without_variants(part: ModelVersion) -> list[ModelVersion]:
    """Versions all of whose variants hold a version that is yanked, this part among them."""
    holding = VariantPart.objects.filter(part__version=part).values("variant__version")
    found = ModelVersion.objects.filter(pk__in=holding)
    return [version for version in found if not version.variants.with_parts_in_use().exists()]
