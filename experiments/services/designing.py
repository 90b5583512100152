"""Write an experiment down, and change what is not served yet."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from experiments import errors, ramps
from experiments.bucketing import BUCKETS
from experiments.delivery import delivery
from experiments.lifecycle import Kind, State, Verb
from experiments.models import Experiment, Layer, Step
from experiments.models.layers import DEFAULT_LAYER
from experiments.policy import policy_from_json
from experiments.ramps import Share
from experiments.services.recording import Deed, doing, record
from registry.errors import NameTaken
from registry.models import Channel, RegisteredModel

DAY = 86_400
TREATMENT, CONTROL = "treatment", "control"
# Of a rollout whose author names none: a day and 200 devices each, as the default policy's floors ask.
DEFAULT_PLAN = tuple(
    {"percent_bp": percent_bp, "hold_seconds": DAY, "min_units": 200}
    for percent_bp in (100, 500, 1000, 2500, 5000, BUCKETS)
)
AT_ONCE = ({"percent_bp": BUCKETS},)
MOST_STEPS = 50


def create(
    *,
    channel: Channel,
    model: RegisteredModel,
    slug: str,
    kind: str,
    actor: str,
    now: datetime,
    reason: str = "",
    version: int | None = None,
    arms: Sequence[Mapping[str, Any]] | None = None,
    steps: Sequence[Mapping[str, Any]] | None = None,
    hypothesis: str = "",
    policy: Mapping[str, Any] | None = None,
    layer: str = DEFAULT_LAYER,
    layer_range: tuple[int, int] = (0, BUCKETS),
    starts_at: datetime | None = None,
) -> Experiment:
    """A draft. A rollout names the `version` to roll out, any other kind its `arms`.

    Raises `NameTaken`, `DesignRefused`.
    """
    with transaction.atomic():
        found = layer_of(channel, model, layer)
        if channel.application.experiments.filter(slug=slug).exists():
            raise NameTaken(f"expected a new name in {channel.application}, got {slug!r}, which exists", field="slug")
        experiment = Experiment(
            application=channel.application,
            channel=channel,
            model=model,
            slug=slug,
            kind=kind,
            hypothesis=hypothesis,
            policy=checked_policy(policy or {}),
            layer=found,
            starts_at=starts_at,
            created_by=actor,
            created_at=now,
            arms=designed_arms(channel, model, kind, version, arms),
        )
        _set_range(experiment, layer_range)
        experiment.save(force_insert=True)
        _set_steps(experiment, steps)
        record(Deed(experiment, "create", actor, now, reason, None))
    return experiment


def edit(
    *,
    experiment: Experiment,
    actor: str,
    now: datetime,
    reason: str = "",
    row_version: int | None = None,
    version: int | None = None,
    arms: Sequence[Mapping[str, Any]] | None = None,
    steps: Sequence[Mapping[str, Any]] | None = None,
    layer_range: tuple[int, int] | None = None,
    **changes: Any,
) -> None:
    """Change the design: it is a draft again and its approvals are void. What is left out stays.

    `changes`: hypothesis, policy, starts_at. Raises `Stale`, `WrongState`, `DesignRefused`.
    """
    with doing(Verb.EDIT, experiment, actor=actor, now=now, reason=reason, row_version=row_version) as deed:
        row = deed.experiment
        if "policy" in changes:
            checked_policy(changes["policy"])
        for name, value in changes.items():
            setattr(row, name, value)
        if version is not None or arms is not None:
            row.arms = designed_arms(row.channel, row.model, row.kind, version, arms)
        if layer_range is not None:
            _set_range(row, layer_range)
        if steps is not None:
            row.steps.all().delete()
            _set_steps(row, steps)
        row.edition += 1
        row.edited_by, row.editors = actor, sorted({*row.editors, actor})
        row.awaiting = Experiment.Awaiting.NOTHING
        deed.move(State.DRAFT)


def layer_of(channel: Channel, model: RegisteredModel, slug: str = DEFAULT_LAYER) -> Layer:
    """Made at first sight."""
    row, _ = Layer.objects.get_or_create(channel=channel, model=model, slug=slug)
    return row


def designed_arms(
    channel: Channel,
    model: RegisteredModel,
    kind: str,
    version: int | None,
    arms: Sequence[Mapping[str, Any]] | None,
) -> list[dict[str, Any]]:
    """As they stand in the row. Raises `DesignRefused`."""
    if kind == Kind.ROLLOUT:
        if version is None or arms is not None:
            raise errors.DesignRefused("expected the version to roll out and no arms", field="version")
        designed = rollout_arms(channel, model, version)
    else:
        if not arms or version is not None:
            raise errors.DesignRefused(f"expected the arms of the {kind} experiment and no version", field="arms")
        designed = _with_shares(arms)
    try:
        ramps.require_arms(kind, shares(designed))
    except ValueError as error:
        raise errors.DesignRefused(str(error), field="arms") from error
    require_versions(model, [arm["version"] for arm in designed])
    return designed


def rollout_arms(channel: Channel, model: RegisteredModel, version: int) -> list[dict[str, Any]]:
    """The control of a rollout is the current release. Raises `DesignRefused` when that is the version itself."""
    current = delivery().current_version(channel, model)
    if current is not None and current.number == version:
        raise errors.DesignRefused(f"expected another version than {current}, which {channel} has", field="version")
    half = BUCKETS // 2
    return [
        {"name": TREATMENT, "version": version, "control": False, "share_bp": half},
        {"name": CONTROL, "version": current.number if current else None, "control": True, "share_bp": half},
    ]


def checked_policy(document: Mapping[str, Any]) -> dict[str, Any]:
    """As it was written, once it is one. Raises `DesignRefused`."""
    try:
        policy_from_json(document)
    except ValueError as error:
        raise errors.DesignRefused(str(error), field="policy") from error
    return dict(document)


def shares(arms: Sequence[Mapping[str, Any]]) -> list[Share]:
    return [Share(arm["name"], arm["share_bp"], arm["control"]) for arm in arms]


def require_versions(model: RegisteredModel, numbers: Iterable[int | None]) -> None:
    """None is the embedded model, which is always there. Raises `DesignRefused`.

    Held to the end of the transaction: a yank waits, and then finds what was made of them.
    """
    wanted = {number for number in numbers if number is not None}
    held = model.versions.select_for_update(no_key=True).filter(number__in=wanted).order_by("pk")
    missing = wanted - {version.number for version in held if version.yanked_at is None}
    if missing:
        told = ", ".join(map(str, sorted(missing)))
        raise errors.DesignRefused(f"expected a version of {model} that is not yanked, got {told}", field="version")


def require_ahead(moment: datetime | None, now: datetime, field: str) -> None:
    """Raises `DesignRefused` for a time that is over: most often one of another zone."""
    if moment is not None and moment <= now:
        told, got = (f"{each.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for each in (now, moment))
        raise errors.DesignRefused(f"expected a time after {told}, got {got}", field=field)


def _with_shares(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    equal = ramps.equal_shares([arm["name"] for arm in arms])
    return [
        {
            "name": arm["name"],
            "version": arm.get("version"),
            "control": bool(arm.get("control", False)),
            "share_bp": arm.get("share_bp") or equal[index],
        }
        for index, arm in enumerate(arms)
    ]


def _set_range(experiment: Experiment, span: tuple[int, int]) -> None:
    first, end = span
    if not 0 <= first < end <= BUCKETS:
        raise errors.DesignRefused(
            f"expected a range [first, end] with 0 <= first < end <= {BUCKETS}, got {list(span)}", field="layer_range"
        )
    experiment.layer_first, experiment.layer_end = first, end


def _set_steps(experiment: Experiment, steps: Sequence[Mapping[str, Any]] | None) -> None:
    if steps is None:
        steps = DEFAULT_PLAN if experiment.kind == Kind.ROLLOUT else AT_ONCE
    percentages = [step["percent_bp"] for step in steps]
    if not 1 <= len(steps) <= MOST_STEPS:
        raise errors.DesignRefused(f"expected 1 to {MOST_STEPS} steps, got {len(steps)}", field="steps")
    if percentages != sorted(set(percentages)) or not 0 <= percentages[0] <= percentages[-1] <= BUCKETS:
        raise errors.DesignRefused(
            f"expected steps that rise within 0 to {BUCKETS} basis points, got {percentages}", field="steps"
        )
    Step.objects.bulk_create(Step(experiment=experiment, position=index, **step) for index, step in enumerate(steps))
