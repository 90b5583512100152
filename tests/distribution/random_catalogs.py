"""Channels drawn at random: every rule of a decision stands in some of them, over manifests that exist."""

import random
from dataclasses import replace

from distribution.catalog import (
    Catalog,
    CatalogArm,
    CatalogExperiment,
    CatalogModel,
    CatalogVariant,
    Holdback,
    Layer,
    Overrides,
    Reference,
    override_key,
)
from experiments.bucketing import bucket, ramp_ranges
from registry.device_classes import DeviceClass, Selector

MODELS = ("digits", "faces")
VERSIONS = (1, 2, 3, 4)
UNITS = 200
CONDITIONS = {
    "os": [("android",), ("ios", "android")],
    "os_version_min": ["11", "14"],
    "os_version_max": ["13", "17.9"],
    "app_version_min": ["2", "4.0"],
    "app_version_max": ["3.9", "5"],
    "runtime": [("litert",), ("coreml", "litert")],
    "runtime_version_min": ["1.5", "2.1"],
    "runtime_version_max": ["2.0", "17"],
    "ram_mb_min": [3000, 6144],
    "ram_mb_max": [3000, 8192],
    "soc": [("Tensor G3", "SM8550")],
    "accelerators_all": [("gpu",), ("gpu", "npu")],
    "device_include": [("Google/Pixel 8", "Apple/iPhone15,2")],
    "device_exclude": [("Google/Pixel 8",), ("samsung/SM-S911B",)],
}


def unit(number: int) -> str:
    return f"unit-{number % UNITS}"


def random_catalog(plain: Catalog, chance: random.Random) -> Catalog:
    """Another channel of the same application: its manifests are those that `plain` refers to."""
    built = plain.models["digits"].versions[1]
    names = [variant.name for variant in built]
    known = {name: _model(built, chance) for name in MODELS}
    return replace(plain, device_classes=_classes(names, chance), models=known)


def _classes(names: list[str], chance: random.Random) -> tuple[DeviceClass, ...]:
    classes = [
        DeviceClass(f"class-{number}", _selector(chance), tuple(chance.sample(names, chance.randint(1, len(names)))))
        for number in range(chance.randint(0, 4))
    ]
    if chance.random() < 0.8:
        classes.append(DeviceClass("fallback", Selector(), tuple(chance.sample(names, len(names)))))
    return tuple(classes)


def _selector(chance: random.Random) -> Selector:
    chosen = chance.sample(sorted(CONDITIONS), chance.randint(1, 2))
    return Selector(**{name: chance.choice(CONDITIONS[name]) for name in chosen})


def _model(built: tuple[CatalogVariant, ...], chance: random.Random) -> CatalogModel:
    return CatalogModel(
        manifest_version=chance.randint(1, 99),
        current=chance.choice([None, *VERSIONS, 4]),
        versions={version: _variants(built, chance) for version in VERSIONS},
        kill_switch=_any_reference(built, chance) if chance.random() < 0.08 else None,
        no_unit=chance.choice(["current", "none"]),
        floors=tuple(sorted(chance.sample(VERSIONS, chance.choice([0, 0, 1, 2])))),
        holdback=Holdback("h", (0, chance.choice([500, 2500, _edge("h", chance)])), chance.choice(VERSIONS))
        if chance.random() < 0.3
        else None,
        overrides=_pins(chance) if chance.random() < 0.4 else Overrides("", {}),
        experiments=tuple(_experiments(chance)),
    )


def _variants(built: tuple[CatalogVariant, ...], chance: random.Random) -> tuple[CatalogVariant, ...]:
    kept = chance.sample(built, chance.choice([1, len(built), len(built)]))
    return tuple(replace(variant, min_runtime_version=chance.choice(["", "", "2.1"])) for variant in kept)


def _any_reference(built: tuple[CatalogVariant, ...], chance: random.Random) -> Reference:
    return chance.choice(built).manifest


def _pins(chance: random.Random) -> Overrides:
    return Overrides("o", {override_key("o", unit(number)): chance.choice(VERSIONS) for number in range(UNITS // 5)})


def _edge(salt: str, chance: random.Random) -> int:
    """The bucket of one of the units: whoever takes a range that ends there for a closed one decides differently."""
    return bucket(unit(chance.randrange(UNITS)), salt)


def _experiments(chance: random.Random) -> list[CatalogExperiment]:
    """None, or two that share a layer, of which the second may be alone in it."""
    split = chance.choice([0, 5000, 8000, _edge("layer:1:1", chance)])
    spans = ((0, split), (split, 10_000)) if split else ((0, 10_000),)
    return [_experiment(number, span, chance) for number, span in enumerate(spans) if chance.random() < 0.7]


def _experiment(number: int, span: tuple[int, int], chance: random.Random) -> CatalogExperiment:
    treatment, control = ramp_ranges(chance.choice([1000, 3000, 5000, 10_000, _edge(f"arm:{number}:1", chance)]))
    return CatalogExperiment(
        slug=f"experiment-{number}",
        kind=chance.choice(["rollout", "ab", "aa", "holdback"]),
        state=chance.choice(["running", "halted"]),
        phase=chance.randint(1, 3),
        layer=Layer("layer:1:1", span),
        arm_salt=f"arm:{number}:1",
        arms=(
            CatalogArm("treatment", chance.choice([*VERSIONS, None]), False, (treatment,)),
            CatalogArm("control", chance.choice([*VERSIONS, None]), True, (control,)),
        ),
        halted_classes=frozenset(chance.choice([(), (), ("class-0",), ("class-1", "fallback")])),
    )
