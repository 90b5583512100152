"""Which signed manifest a device gets for a model, and why. Pure; total on every parsed catalog.

The order of the steps, each of which leaves a line in the trace:

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

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

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
from experiments.eligibility import arm_without_variant, choose_variant
from registry.device_classes import DeviceProfile, Match, match

if TYPE_CHECKING:
    from collections.abc import Iterator


class Reason(StrEnum):
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


class Decision(NamedTuple):
    """`manifest` None changes nothing on the device. `trace` is (step, outcome) in the order taken, for `explain`."""

    reason: Reason
    manifest: Reference | None = None
    version: int | None = None
    variant: str | None = None
    device_class: str | None = None
    experiment: str | None = None
    phase: int | None = None
    arm: str | None = None
    trace: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, str | int]:
        """The `decision` object of a poll's answer: what is known, without manifest and trace."""
        names = ("reason", "experiment", "phase", "arm", "version", "variant", "device_class")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class _Choice(NamedTuple):
    """What the steps before floor and variant arrived at."""

    reason: Reason
    version: int | None
    experiment: CatalogExperiment | None = None
    arm: CatalogArm | None = None


class _Request(NamedTuple):
    """One device asking for one model, and the trace written on the way."""

    profile: DeviceProfile
    unit: str | None
    current_version: int | None
    matched: Match
    model: CatalogModel
    trace: list[tuple[str, str]]


def decide(
    profile: DeviceProfile,
    unit: str | None,
    model_name: str,
    catalog: Catalog,
    current_version: int | None = None,
    *,
    matched: Match | None = None,
) -> Decision:
    """`current_version` is the model version the device runs now, None if unknown.

    `matched` may be passed by a caller who asks for several models: it depends on profile and classes only.
    """
    model = catalog.models.get(model_name)
    if model is None:
        return Decision(Reason.UNKNOWN_MODEL, trace=(("model", "not in the channel"),))
    if model.kill_switch is not None:
        return Decision(Reason.KILL_SWITCH, model.kill_switch, trace=(("kill_switch", "on"),))
    if matched is None:
        matched = match(profile, catalog.device_classes)
    request = _Request(profile, unit, current_version, matched, model, [])
    return _serve(request, _choose(request))


def _choose(request: _Request) -> _Choice:
    model, unit, trace = request.model, request.unit, request.trace
    if unit is None:
        trace.append(("unit", f"none, rule is {model.no_unit}"))
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
    return _Choice(Reason.CURRENT_RELEASE, model.current)


def _overridden(request: _Request, unit: str) -> int | None:
    overrides = request.model.overrides
    if not overrides.units:
        return None
    version = overrides.units.get(override_key(overrides.salt, unit))
    request.trace.append(("override", "not listed" if version is None else f"version {version}"))
    return version


def _held_back(request: _Request, unit: str) -> bool:
    """A device for which the held-back version has no variant is outside the slice, as with an experiment."""
    holdback = request.model.holdback
    if holdback is None:
        return False
    position = bucket(unit, holdback.salt)
    if not in_range(position, holdback.range):
        request.trace.append(("holdback", f"bucket {position} outside {_span(holdback.range)}"))
        return False
    if _variant_of(request, holdback.version) is None:
        request.trace.append(("holdback", f"version {holdback.version} has no variant for the device"))
        return False
    request.trace.append(("holdback", f"bucket {position} in {_span(holdback.range)}"))
    return True


def _experiment_choice(request: _Request, unit: str) -> _Choice | None:
    for experiment in _experiments_around(request, unit):
        lacking = _arm_without_variant(request, experiment)
        if lacking is not None:
            request.trace.append((experiment.slug, f"not eligible: arm {lacking} has no variant for the device"))
            continue
        position = bucket(unit, experiment.arm_salt)
        arm = _arm_at(experiment, position)
        if arm is None:
            request.trace.append((experiment.slug, f"arm bucket {position} is in no arm"))
            continue
        request.trace.append((experiment.slug, f"arm bucket {position} is in {arm.name}"))
        return _served_by(request, experiment, arm)
    return None


def _experiments_around(request: _Request, unit: str) -> Iterator[CatalogExperiment]:
    """Experiments whose layer range contains the unit: at most one a layer, and one hash a layer."""
    positions: dict[str, int] = {}
    for experiment in request.model.experiments:
        layer = experiment.layer
        position = positions.get(layer.salt)
        if position is None:
            position = positions[layer.salt] = bucket(unit, layer.salt)
            request.trace.append(("layer", f"bucket {position} under {layer.salt}"))
        if in_range(position, layer.range):
            yield experiment


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
    if experiment.state == "halted" and not arm.control and not _runs_already(request, arm):
        control = experiment.control
        request.trace.append((experiment.slug, "halted: the device does not run the treatment, it gets the control"))
        return _Choice(Reason.HALTED, control.version if control else request.model.current, experiment, arm)
    return _Choice(_arm_reason(experiment, arm), arm.version, experiment, arm)


def _runs_already(request: _Request, arm: CatalogArm) -> bool:
    return request.current_version is not None and request.current_version == arm.version


def _arm_reason(experiment: CatalogExperiment, arm: CatalogArm) -> Reason:
    if experiment.kind == "rollout":
        return Reason.ROLLOUT_CONTROL if arm.control else Reason.ROLLOUT_TREATMENT
    return Reason.HOLDBACK if experiment.kind == "holdback" else Reason.EXPERIMENT_ARM


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
        return decision._replace(reason=reason, trace=tuple(request.trace))
    floor = _floor_before(request, choice.version)
    version = choice.version if floor is None else floor
    variant = _variant_of(request, version)
    if variant is None:
        request.trace.append(("variant", f"version {version} has none for the device"))
        return decision._replace(reason=Reason.NO_COMPATIBLE_VARIANT, version=version, trace=tuple(request.trace))
    return decision._replace(
        reason=choice.reason if floor is None else Reason.FLOOR,
        manifest=variant.manifest,
        version=version,
        variant=variant.name,
        trace=tuple(request.trace),
    )


def _floor_before(request: _Request, version: int) -> int | None:
    """The lowest floor above what the device runs and below `version`, if the device can run it.

    A floor without a variant for the device is passed over, because stopping there would strand it for ever.
    """
    if request.current_version is None:
        return None
    for floor in request.model.floors:
        if request.current_version < floor < version and _variant_of(request, floor) is not None:
            request.trace.append(("floor", f"version {floor} comes before {version}"))
            return floor
    return None


def _variant_of(request: _Request, version: int) -> CatalogVariant | None:
    return choose_variant(request.model.versions[version], request.profile, request.matched.device_class)


def _span(span: tuple[int, int]) -> str:
    return f"[{span[0]}, {span[1]})"
