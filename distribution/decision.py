"""Which signed manifest a device gets for a model, and why. Pure; total on every parsed catalog.

The order of the steps, each of which leaves a line in the trace of a caller who wants one (`explain`):

| step        | taken when                                     | serves                     | reason                  |
|-------------|------------------------------------------------|----------------------------|-------------------------|
| unknown     | the channel has no such model                  | nothing                    | unknown_model           |
| kill switch | it is on                                       | its `use_embedded` manifest | kill_switch            |
| no unit     | the request carries none                       | current, or nothing        | no_unit                 |
| override    | the unit is listed                             | the version listed         | override                |
| holdback    | the unit's bucket lies in the slice            | the version held back      | holdback                |
| experiment  | layer and arm ranges hold an eligible unit     | the arm's version          | see `_arm_reason`       |
| halted      | as above, treatment, not yet run by the device | the control's version      | halted                  |
| current     | otherwise                                      | the current release        | current_release [1]     |

[1] `use_embedded` where the channel has no current release: the app keeps the model it was built with.

Afterwards, whatever was chosen: a floor the device would skip is served first (`floor`), and a version without a
variant for the device gives `no_compatible_variant` and no manifest.
"""

from __future__ import annotations

from bisect import insort
from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from distribution.catalog import (
    Catalog,
    CatalogArm,
    CatalogExperiment,
    CatalogModel,
    CatalogVariant,
    Reference,
    override_key,
)
from experiments.bucketing import bucket, in_range
from experiments.eligibility import arm_without_variant, choose_variant, incompatibility
from registry.device_classes import DeviceProfile, Match, match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Reason(StrEnum):
    """Why a device gets what it gets. The list is closed: every SDK and docs/protocol.md have it too."""

    CURRENT_RELEASE = "current_release"
    ROLLOUT_TREATMENT = "rollout_treatment"
    ROLLOUT_CONTROL = "rollout_control"
    EXPERIMENT_ARM = "experiment_arm"
    HOLDBACK = "holdback"
    OVERRIDE = "override"
    HALTED = "halted"
    KILL_SWITCH = "kill_switch"
    USE_EMBEDDED = "use_embedded"
    NO_COMPATIBLE_VARIANT = "no_compatible_variant"
    FLOOR = "floor"
    NO_UNIT = "no_unit"
    UNKNOWN_MODEL = "unknown_model"


class Outcome(StrEnum):
    """What came of one rule. `failed`: it is there for some devices, and this one misses the condition in `detail`."""

    APPLIED = "applied"
    NOT_APPLIED = "not_applied"
    FAILED = "failed"


class Step(NamedTuple):
    """One rule that was tried; `name` is the device class, experiment or variant it belongs to, if any."""

    rule: str
    outcome: Outcome
    detail: str
    name: str = ""


Trace = list[Step]
BucketOf: TypeAlias = "Callable[[str, str], int]"


class Decision(NamedTuple):
    """`manifest` None changes nothing on the device."""

    reason: Reason
    manifest: Reference | None = None
    version: int | None = None
    variant: str | None = None
    device_class: str | None = None
    experiment: str | None = None
    phase: int | None = None
    arm: str | None = None

    def to_json(self) -> dict[str, str | int]:
        """The `decision` object of a poll's answer: what is known, without the manifest."""
        names = ("reason", "experiment", "phase", "arm", "version", "variant", "device_class")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class _Choice(NamedTuple):
    """What the steps before floor and variant arrived at."""

    reason: Reason
    version: int | None
    experiment: CatalogExperiment | None = None
    arm: CatalogArm | None = None


class _Request(NamedTuple):
    """One device asking for one model. `trace` None: nobody wants to know, so no line is put into words."""

    profile: DeviceProfile
    unit: str | None
    current_version: int | None
    matched: Match
    model: CatalogModel
    trace: Trace | None
    bucket_of: BucketOf = bucket


def decide(
    profile: DeviceProfile,
    unit: str | None,
    model_name: str,
    catalog: Catalog,
    current_version: int | None = None,
    *,
    matched: Match | None = None,
    trace: Trace | None = None,
    bucket_of: BucketOf = bucket,
) -> Decision:
    """`current_version` is the model version the device runs now, None if unknown.

    `matched` may be passed by a caller who asks for several models: it depends on profile and classes only. Into
    `trace` goes a step for each rule tried, in order. `bucket_of` is `bucket()`, or that of a caller who keeps account
    of what was asked for: beyond its overrides, nothing but the buckets it is told of decides about a unit.
    """
    model = catalog.models.get(model_name)
    if model is None:
        if trace is not None:
            trace.append(Step("model", Outcome.FAILED, "the channel has no such model"))
        return Decision(Reason.UNKNOWN_MODEL)
    if model.kill_switch is not None:
        if trace is not None:
            trace.append(Step("kill_switch", Outcome.APPLIED, "engaged: the embedded model, whatever is released"))
        return Decision(Reason.KILL_SWITCH, model.kill_switch)
    if matched is None:
        matched = match(profile, catalog.device_classes)
    if trace is not None:
        trace.append(Step("kill_switch", Outcome.NOT_APPLIED, "not engaged"))
        trace.extend(_class_steps(matched))
    request = _Request(profile, unit, current_version, matched, model, trace, bucket_of)
    return _serve(request, _choose(request))


def _class_steps(matched: Match) -> Iterator[Step]:
    for name, why_not in matched.trace:
        yield Step("device_class", Outcome.FAILED, why_not, name)
    if matched.device_class is None:
        yield Step("device_class", Outcome.FAILED, "no class accepts the device")
    else:
        yield Step("device_class", Outcome.APPLIED, "every condition holds", matched.device_class.name)


def _choose(request: _Request) -> _Choice:
    model, unit, trace = request.model, request.unit, request.trace
    if unit is None:
        if trace is not None:
            trace.append(Step("unit", Outcome.APPLIED, f"none was sent, the model's rule is {model.no_unit}"))
        return _Choice(Reason.NO_UNIT, model.current if model.no_unit == "current" else None)
    pinned = _overridden(request, unit)
    if pinned is not None:
        return _Choice(Reason.OVERRIDE, pinned)
    if _held_back(request, unit):
        assert model.holdback is not None
        return _Choice(Reason.HOLDBACK, model.holdback.version)
    choice = _experiment_choice(request, unit)
    if choice is not None:
        return choice
    if trace is not None:
        trace.append(Step("current", Outcome.APPLIED, _current_words(model.current)))
    return _Choice(Reason.CURRENT_RELEASE, model.current)


def _current_words(version: int | None) -> str:
    return "nothing is released: the app keeps its embedded model" if version is None else f"version {version}"


def _overridden(request: _Request, unit: str) -> int | None:
    overrides, trace = request.model.overrides, request.trace
    if not overrides.units:
        return None
    version = overrides.units.get(override_key(overrides.salt, unit))
    if trace is not None and version is None:
        trace.append(Step("override", Outcome.NOT_APPLIED, "the unit is not listed"))
    elif trace is not None:
        trace.append(Step("override", Outcome.APPLIED, f"the unit is pinned to version {version}"))
    return version


def _held_back(request: _Request, unit: str) -> bool:
    """A device for which the held-back version has no variant is outside the slice, as with an experiment."""
    holdback, trace = request.model.holdback, request.trace
    if holdback is None:
        return False
    position = request.bucket_of(unit, holdback.salt)
    if not in_range(position, holdback.range):
        if trace is not None:
            trace.append(Step("holdback", Outcome.FAILED, f"bucket {position} outside {_span(holdback.range)}"))
        return False
    if _variant_of(request, holdback.version) is None:
        if trace is not None:
            lacking = f"version {holdback.version} has no variant for the device"
            trace.append(Step("holdback", Outcome.FAILED, lacking))
        return False
    if trace is not None:
        trace.append(Step("holdback", Outcome.APPLIED, f"bucket {position} in {_span(holdback.range)}"))
    return True


def _experiment_choice(request: _Request, unit: str) -> _Choice | None:
    trace = request.trace
    for experiment in _experiments_around(request, unit):
        lacking = _arm_without_variant(request, experiment)
        if lacking is not None:
            if trace is not None:
                told = f"not eligible: arm {lacking} has no variant for the device"
                trace.append(Step("experiment", Outcome.FAILED, told, experiment.slug))
            continue
        position = request.bucket_of(unit, experiment.arm_salt)
        arm = _arm_at(experiment, position)
        if arm is None:
            if trace is not None:
                told = f"arm bucket {position} is in no arm"
                trace.append(Step("experiment", Outcome.FAILED, told, experiment.slug))
            continue
        if trace is not None:
            told = f"arm bucket {position} is in {arm.name}"
            trace.append(Step("experiment", Outcome.APPLIED, told, experiment.slug))
        return _served_by(request, experiment, arm)
    return None


def _experiments_around(request: _Request, unit: str) -> Iterable[CatalogExperiment]:
    """Experiments whose layer range contains the unit, in the catalog's order: at most one a layer."""
    layers = request.model.layers
    if request.trace is not None:
        return _experiments_tried(request, request.trace, unit)
    if len(layers) == 1:
        found = layers[0].around(request.bucket_of(unit, layers[0].salt))
        return () if found is None else (found[1],)
    return _experiments_of_layers(request, unit)


def _experiments_of_layers(request: _Request, unit: str) -> Iterator[CatalogExperiment]:
    """A layer is not hashed before the order comes to its first experiment."""
    waiting: list[tuple[int, CatalogExperiment]] = []
    for layer in request.model.layers:
        while waiting and waiting[0][0] < layer.first:
            yield waiting.pop(0)[1]
        found = layer.around(request.bucket_of(unit, layer.salt))
        if found is not None:
            insort(waiting, found, key=itemgetter(0))
    for _, experiment in waiting:
        yield experiment


def _experiments_tried(request: _Request, trace: Trace, unit: str) -> Iterator[CatalogExperiment]:
    """As above, one by one: whoever asks why is told of each."""
    positions: dict[str, int] = {}
    for experiment in request.model.experiments:
        layer = experiment.layer
        position = positions.get(layer.salt)
        if position is None:
            position = positions[layer.salt] = request.bucket_of(unit, layer.salt)
        if in_range(position, layer.range):
            yield experiment
        else:
            told = f"layer bucket {position} outside {_span(layer.range)}"
            trace.append(Step("experiment", Outcome.FAILED, told, experiment.slug))


def _arm_without_variant(request: _Request, experiment: CatalogExperiment) -> str | None:
    versions = request.model.versions
    arms = [(arm.name, None if arm.version is None else versions[arm.version]) for arm in experiment.arms]
    return arm_without_variant(arms, request.profile, request.matched.device_class)


def _arm_at(experiment: CatalogExperiment, position: int) -> CatalogArm | None:
    for arm in experiment.arms:
        for span in arm.ranges:
            if in_range(position, span):
                return arm
    return None


def _served_by(request: _Request, experiment: CatalogExperiment, arm: CatalogArm) -> _Choice:
    if _is_halted(request, experiment) and not arm.control and not _runs_already(request, arm):
        control = experiment.control
        if request.trace is not None:
            told = "the device does not run the treatment, it gets the control"
            request.trace.append(Step("halted", Outcome.APPLIED, told, experiment.slug))
        return _Choice(Reason.HALTED, control.version if control else request.model.current, experiment, arm)
    return _Choice(_arm_reason(experiment, arm), arm.version, experiment, arm)


def _is_halted(request: _Request, experiment: CatalogExperiment) -> bool:
    """For everybody, or for the device's class."""
    device_class = request.matched.device_class
    return experiment.state == "halted" or (device_class is not None and device_class.name in experiment.halted_classes)


def _runs_already(request: _Request, arm: CatalogArm) -> bool:
    return request.current_version is not None and request.current_version == arm.version


def _arm_reason(experiment: CatalogExperiment, arm: CatalogArm) -> Reason:
    if experiment.kind == "rollout":
        return Reason.ROLLOUT_CONTROL if arm.control else Reason.ROLLOUT_TREATMENT
    return Reason.HOLDBACK if experiment.kind == "holdback" and arm.control else Reason.EXPERIMENT_ARM


def _serve(request: _Request, choice: _Choice) -> Decision:
    """Apply floors, pick the variant, and fill in the decision."""
    device_class = request.matched.device_class
    decision = Decision(
        choice.reason,
        device_class=device_class.name if device_class else None,
        experiment=choice.experiment.slug if choice.experiment else None,
        phase=choice.experiment.phase if choice.experiment else None,
        arm=choice.arm.name if choice.arm else None,
    )
    if choice.version is None:
        reason = Reason.USE_EMBEDDED if choice.reason is Reason.CURRENT_RELEASE else choice.reason
        return decision._replace(reason=reason)
    floor = _floor_before(request, choice.version)
    version = choice.version if floor is None else floor
    variant = _variant_of(request, version)
    if request.trace is not None:
        request.trace.extend(_variant_steps(request, version))
    if variant is None:
        return decision._replace(reason=Reason.NO_COMPATIBLE_VARIANT, version=version)
    return decision._replace(
        reason=choice.reason if floor is None else Reason.FLOOR,
        manifest=variant.manifest,
        version=version,
        variant=variant.name,
    )


def _floor_before(request: _Request, version: int) -> int | None:
    """The lowest floor above what the device runs and below `version`, if the device can run it.

    A floor without a variant for the device is passed over, because stopping there would strand it for ever.
    """
    trace = request.trace
    if request.current_version is None:
        return None
    for floor in request.model.floors:
        if not request.current_version < floor < version:
            continue
        if _variant_of(request, floor) is not None:
            if trace is not None:
                trace.append(Step("floor", Outcome.APPLIED, f"version {floor} comes before {version}"))
            return floor
        if trace is not None:
            trace.append(Step("floor", Outcome.FAILED, f"version {floor} has no variant for the device"))
    return None


def _variant_of(request: _Request, version: int) -> CatalogVariant | None:
    return choose_variant(request.model.versions[version], request.profile, request.matched.device_class)


def _variant_steps(request: _Request, version: int) -> Iterator[Step]:
    """Each variant that the class prefers, best first, up to the one that is served."""
    device_class = request.matched.device_class
    built = {variant.name: variant for variant in request.model.versions[version]}
    for name in device_class.variants if device_class else ():
        variant = built.get(name)
        why_not = f"version {version} has none" if variant is None else incompatibility(variant, request.profile)
        if why_not is None:
            yield Step("variant", Outcome.APPLIED, f"version {version} runs on the device", name)
            return
        yield Step("variant", Outcome.FAILED, why_not, name)


def _span(span: tuple[int, int]) -> str:
    return f"[{span[0]}, {span[1]})"
