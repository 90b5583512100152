"""Which manifest of a catalog is meant for this device, and why: what a poll would answer, computed here. Pure.

The first of these that holds decides; every parsed catalog gives a decision.

| when                                           | serves                      | reason                         |
|------------------------------------------------|-----------------------------|--------------------------------|
| the channel has no such model                  | nothing                     | unknown_model                  |
| the kill switch is on                          | its `use_embedded` manifest | kill_switch                    |
| there is no unit                               | current, or nothing         | no_unit                        |
| the unit is pinned                             | the version pinned          | override                       |
| its bucket lies in the holdback [1]            | the version held back       | holdback                       |
| an experiment's layer and an arm hold it [2]   | the arm's version           | see `_reason`                  |
| … halted, and the device runs it not yet [3]   | the control's version       | halted                         |
| otherwise                                      | the current release         | current_release, use_embedded  |

[1] And the version has a variant for the device. [2] And every arm has one.
[3] In an arm that is not the control.
Afterwards a floor that the device would skip is served first (`floor`), and a version without a variant for the device
gives `no_compatible_variant` and no manifest.
"""

from hashlib import sha256
from typing import NamedTuple

from aerogram_sdk.bucketing import bucket, in_range
from aerogram_sdk.catalog import Arm, Catalog, CatalogModel, Experiment, Reference, Variant
from aerogram_sdk.device_classes import DeviceClass, match
from aerogram_sdk.profile import DeviceProfile
from aerogram_sdk.versions import older


class Decision(NamedTuple):
    """`manifest` None changes nothing on the device."""

    reason: str
    version: int | None = None
    variant: str | None = None
    experiment: str | None = None
    phase: int | None = None
    arm: str | None = None
    device_class: str | None = None
    manifest: Reference | None = None

    def to_json(self) -> dict[str, str | int]:
        """The `decision` object of a poll's answer: what is known, without the manifest."""
        return {name: value for name, value in self._asdict().items() if name != "manifest" and value is not None}


class _Device(NamedTuple):
    profile: DeviceProfile
    device_class: DeviceClass | None
    current_version: int | None


class _Choice(NamedTuple):
    """`version` None: the model embedded in the app, or nothing."""

    reason: str
    version: int | None
    experiment: Experiment | None = None
    arm: Arm | None = None


def decide(
    profile: DeviceProfile, unit: str | None, model_name: str, catalog: Catalog, current_version: int | None = None
) -> Decision:
    """`current_version` is the model version the device runs now, None if unknown."""
    model = catalog.models.get(model_name)
    if model is None:
        return Decision("unknown_model")
    if model.kill_switch is not None:
        return Decision("kill_switch", manifest=model.kill_switch)
    device = _Device(profile, match(profile, catalog.device_classes), current_version)
    return _served(device, model, _choice(device, model, unit))


def override_key(salt: str, unit: str) -> str:
    """The hex digest under which a version pinned for `unit` is published."""
    return sha256(f"{salt}:{unit}".encode()).hexdigest()


def _choice(device: _Device, model: CatalogModel, unit: str | None) -> _Choice:
    if unit is None:
        return _Choice("no_unit", model.current if model.no_unit == "current" else None)
    overrides, holdback = model.overrides, model.holdback
    pinned = overrides.units.get(override_key(overrides.salt, unit)) if overrides.units else None
    if pinned is not None:
        return _Choice("override", pinned)
    if (
        holdback is not None
        and in_range(bucket(unit, holdback.salt), holdback.range)
        and _variant(device, model, holdback.version) is not None
    ):
        return _Choice("holdback", holdback.version)
    for experiment in model.experiments:
        arm = _arm(device, model, experiment, unit)
        if arm is not None:
            return _in_experiment(device, model, experiment, arm)
    return _Choice("use_embedded" if model.current is None else "current_release", model.current)


def _arm(device: _Device, model: CatalogModel, experiment: Experiment, unit: str) -> Arm | None:
    """The arm that holds the unit, if the experiment is for this unit and device at all."""
    if not in_range(bucket(unit, experiment.layer_salt), experiment.layer_range):
        return None
    versions = (arm.version for arm in experiment.arms)
    if any(version is not None and _variant(device, model, version) is None for version in versions):
        return None
    position = bucket(unit, experiment.arm_salt)
    return next((arm for arm in experiment.arms if any(in_range(position, span) for span in arm.ranges)), None)


def _in_experiment(device: _Device, model: CatalogModel, experiment: Experiment, arm: Arm) -> _Choice:
    runs_already = device.current_version is not None and device.current_version == arm.version
    if _halted(device, experiment) and not arm.control and not runs_already:
        control = next((each for each in experiment.arms if each.control), None)
        return _Choice("halted", control.version if control else model.current, experiment, arm)
    return _Choice(_reason(experiment, arm), arm.version, experiment, arm)


def _halted(device: _Device, experiment: Experiment) -> bool:
    """For everybody, or for the device's class."""
    named = device.device_class is not None and device.device_class.name in experiment.halted_classes
    return named or experiment.state == "halted"


def _reason(experiment: Experiment, arm: Arm) -> str:
    if experiment.kind == "rollout":
        return "rollout_control" if arm.control else "rollout_treatment"
    return "holdback" if experiment.kind == "holdback" and arm.control else "experiment_arm"


def _served(device: _Device, model: CatalogModel, choice: _Choice) -> Decision:
    decision = Decision(
        choice.reason,
        experiment=choice.experiment.slug if choice.experiment else None,
        phase=choice.experiment.phase if choice.experiment else None,
        arm=choice.arm.name if choice.arm else None,
        device_class=device.device_class.name if device.device_class else None,
    )
    if choice.version is None:
        return decision
    floor = _floor(device, model, choice.version)
    version = choice.version if floor is None else floor
    variant = _variant(device, model, version)
    if variant is None:
        return decision._replace(reason="no_compatible_variant", version=version)
    reason = choice.reason if floor is None else "floor"
    return decision._replace(reason=reason, version=version, variant=variant.name, manifest=variant.manifest)


def _floor(device: _Device, model: CatalogModel, version: int) -> int | None:
    """The lowest floor above what the device runs and below `version` that it can run: others would strand it."""
    current = device.current_version
    if current is None:
        return None
    floors = (floor for floor in sorted(model.floors) if current < floor < version)
    return next((floor for floor in floors if _variant(device, model, floor) is not None), None)


def _variant(device: _Device, model: CatalogModel, version: int) -> Variant | None:
    """The first of the class's preferred variants that exists and runs on the device."""
    built = {variant.name: variant for variant in model.versions[version]}
    preferred = device.device_class.variants if device.device_class else ()
    return next((built[name] for name in preferred if name in built and _runs(built[name], device.profile)), None)


def _runs(variant: Variant, profile: DeviceProfile) -> bool:
    """A runtime that the device does not name is vouched for by its class; a version that it does not name is not."""
    if profile.runtime not in ("", variant.runtime):
        return False
    least = variant.min_runtime_version
    return not least or (profile.runtime_version != "" and not older(profile.runtime_version, least))
