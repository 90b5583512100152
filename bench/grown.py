"""Trees of any size for P5: so many models in the channel, device classes, and experiments on the model `digits`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from bench.published import APPLICATION, CHANNEL, MODEL, SIGNATURE_SCHEMA, phones
from distribution.catalog import CatalogArm, CatalogExperiment, Layer
from experiments.bucketing import BUCKETS
from registry.device_classes import DeviceClass, Selector
from tests.simulators import PublishedTree

if TYPE_CHECKING:
    from pathlib import Path

FALLBACK = DeviceClass("any", Selector(), ("tflite-float16", "coreml-fp16"), ("xnnpack",))
_VARIANTS = ("tflite-full-int8", "tflite-float16", "coreml-fp16")
_OLD, _NEW = 3, 4


@dataclass(frozen=True)
class Size:
    """Numbers of each; `classes` includes the fallback."""

    name: str
    models: int = 1
    classes: int = 1
    experiments: int = 0

    def model_names(self) -> list[str]:
        return [MODEL, *(f"model-{number:04}" for number in range(1, self.models))]

    def device_classes(self) -> tuple[DeviceClass, ...]:
        """Ordered as teams order them: single devices, chips and generations first. Most phones reach the fallback."""
        narrow = (
            DeviceClass(
                f"class-{number:03}",
                Selector(os=("android",), os_version_min="12", **_narrowing(number)),
                (_VARIANTS[number % len(_VARIANTS)],),
                ("gpu", "xnnpack"),
            )
            for number in range(1, self.classes)
        )
        return (*narrow, FALLBACK)

    def experiments_of_digits(self) -> tuple[CatalogExperiment, ...]:
        """Side by side in one layer, as the layer of a model holds them: every unit is in exactly one."""
        wide = BUCKETS // max(1, self.experiments)
        return tuple(
            CatalogExperiment(
                slug=f"experiment-{number:03}",
                kind="ab",
                state="running",
                phase=1,
                layer=Layer(salt=f"{MODEL}:layer-1", range=(number * wide, (number + 1) * wide)),
                arm_salt=f"experiment-{number:03}:1",
                arms=(
                    CatalogArm("control", _OLD, control=True, ranges=((0, BUCKETS // 2),)),
                    CatalogArm("treatment", _NEW, control=False, ranges=((BUCKETS // 2, BUCKETS),)),
                ),
            )
            for number in range(self.experiments)
        )


def _narrowing(number: int) -> dict[str, Any]:
    """Most of a team's classes are for devices, many for chips, some for what phones of one generation have."""
    if number % 10 == 0:
        return {"ram_mb_min": 16_384 + number, "accelerators_all": ("npu",)}
    return {"soc": (f"SM{number}",)} if number % 3 == 0 else {"device_include": (f"acme/a{number}",)}


def publish(root: Path, size: Size) -> None:
    """Write the signed tree below `root`."""
    classes = size.device_classes()
    tree = PublishedTree(root, application=APPLICATION, now=datetime.now(UTC), device_classes=classes)
    for name in size.model_names():
        for version in (_OLD, _NEW) if name == MODEL else (_OLD,):
            built = {variant: {"model.tflite": b"weights"} for variant in _VARIANTS}
            tree.release(name, version, built, channel=CHANNEL, current=version == _OLD)
    for key, manifest in tree.manifests.items():
        # As the publisher does: the classes that prefer the variant.
        listed = {each.name: each.delegate_order for each in classes if manifest.variant in each.variants}
        tree.manifests[key] = replace(manifest, signature_schema=SIGNATURE_SCHEMA, device_classes=listed)
    for name in size.model_names():
        tree.release(name, _OLD, {}, channel=CHANNEL, current=True)
    tree.change(MODEL, channel=CHANNEL, experiments=size.experiments_of_digits())
    tree.publish()


def targets(size: Size, count: int, *, apps: int = 0) -> list[str]:
    """`count` different polls, the models in turn. With `apps` the app's versions make them new to the server."""
    names, queries = cycle(size.model_names()), cycle(phone.query for phone in phones())
    numbered = zip(range(count), names, queries, strict=False)
    return [
        f"/v1/apps/{APPLICATION}/channels/{CHANNEL}/manifests/{name}?{_with_app(query, apps + number)}"
        for number, name, query in islice(numbered, count)
    ]


def _with_app(query: str, number: int) -> str:
    return query.replace("app_version=3.", f"app_version={4 + number // 1000}.{number % 1000}.", 1)
