"""The tree that polls are measured on: one model, ten device classes, one experiment; and the phones that poll."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from distribution.catalog import CatalogArm, CatalogExperiment, Layer
from registry.device_classes import DeviceClass, Selector
from tests.simulators import PublishedTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION, CHANNEL, MODEL = "demo", "production", "digits"
POLL_PATH = f"/v1/apps/{APPLICATION}/channels/{CHANNEL}/manifests/{MODEL}"
FILES = {"model.tflite": b"weights", "labels.txt": b"0\n1\n", "sanity.json": b"{}"}
SIGNATURE_SCHEMA = {
    "inputs": [{"name": "image", "shape": [1, 32, 32, 1], "dtype": "float32"}],
    "outputs": [{"name": "digit", "shape": [1, 10], "dtype": "float32"}],
}
_ANDROID = ("tflite-full-int8", "tflite-float16")
_APPLE = ("coreml-fp16", "tflite-float16")

DEVICE_CLASSES = (
    DeviceClass(
        "android-npu",
        Selector(os=("android",), os_version_min="13", ram_mb_min=8192, accelerators_all=("npu",)),
        _ANDROID,
        ("npu", "gpu", "xnnpack"),
    ),
    DeviceClass("android-tensor", Selector(os=("android",), soc=("Tensor G3", "Tensor G4")), _ANDROID, ("gpu",)),
    DeviceClass("android-unreliable-gpu", Selector(device_include=("acme/slow-10",)), _ANDROID, ("xnnpack",)),
    DeviceClass(
        "android-high", Selector(os=("android",), ram_mb_min=6144, accelerators_all=("gpu",)), _ANDROID, ("gpu",)
    ),
    DeviceClass("android-old", Selector(os=("android",), os_version_max="9"), ("tflite-float16",), ("xnnpack",)),
    DeviceClass("android-low", Selector(os=("android",), ram_mb_max=3072), _ANDROID, ("xnnpack",)),
    DeviceClass("android-any", Selector(os=("android",)), _ANDROID, ("gpu", "xnnpack")),
    DeviceClass("ios-recent", Selector(os=("ios",), os_version_min="17"), _APPLE, ("npu", "gpu")),
    DeviceClass("ios-any", Selector(os=("ios",)), _APPLE, ("gpu",)),
    DeviceClass("any", Selector(), ("tflite-float16",), ("xnnpack",)),
)
EXPERIMENT = CatalogExperiment(
    slug="digits-v4",
    kind="ab",
    state="running",
    phase=2,
    layer=Layer(salt="digits:layer-1", range=(0, 10_000)),
    arm_salt="digits-v4:2",
    arms=(
        CatalogArm("control", 3, control=True, ranges=((0, 5_000),)),
        CatalogArm("treatment", 4, control=False, ranges=((5_000, 10_000),)),
    ),
)


@dataclass(frozen=True)
class Phone:
    """What one phone states in the query of its poll."""

    query: str

    @property
    def target(self) -> str:
        return f"{POLL_PATH}?{self.query}"


def publish(root: Path) -> None:
    """Write the signed tree below `root`, as the publisher would."""
    tree = PublishedTree(root, application=APPLICATION, now=datetime.now(UTC), device_classes=DEVICE_CLASSES)
    for version in (3, 4):
        built = dict.fromkeys(("tflite-full-int8", "tflite-float16", "coreml-fp16"), FILES)
        tree.release(MODEL, version, built, channel=CHANNEL, current=version == 3)  # noqa: PLR2004
        for key, manifest in tree.manifests.items():
            tree.manifests[key] = replace(manifest, signature_schema=SIGNATURE_SCHEMA)
    # The manifests changed after their signing: a release of nothing signs them anew.
    tree.release(MODEL, 4, {}, channel=CHANNEL, current=False)
    tree.change(MODEL, channel=CHANNEL, experiments=(EXPERIMENT,))
    tree.publish()


def phones() -> list[Phone]:
    """Some 300 different queries, from the models and app versions of a real fleet in small."""
    return [Phone(query) for query in (*_android(), *_apple(), *_others())]


def _android() -> Iterator[str]:
    makes = (
        ("google/pixel-8", "Tensor G3", 8192, "gpu,npu"),
        ("google/pixel-6a", "Tensor", 6144, "gpu"),
        ("samsung/s23", "SM8550", 8192, "gpu,npu"),
        ("acme/slow-10", "MT6765", 4096, ""),
        ("acme/mini", "MT6739", 2048, ""),
        ("acme/mid", "SM6225", 4096, ""),
    )
    for (device, soc, ram, accelerators), os_version, app in product(makes, ("9", "12.0", "14.0.1", "15"), range(10)):
        yield _query("android", os_version, f"3.{app}.0", "litert", "2.1.0", device, soc, ram, accelerators)


def _apple() -> Iterator[str]:
    for device, os_version, app in product(("iPhone16,1", "iPhone12,8"), ("16.7", "17.5"), range(10)):
        yield _query("ios", os_version, f"3.{app}.0", "coreml", os_version, device, "", 6144, "npu")


def _others() -> Iterator[str]:
    for app in range(10):
        yield _query("linux", "6.1", f"3.{app}.0", "litert", "2.1.0", "kiosk", "", 2048, "")


def _query(
    os: str, os_version: str, app: str, runtime: str, runtime_version: str, device: str, soc: str, ram: int, units: str
) -> str:
    fields = {
        "os": os,
        "os_version": os_version,
        "app_version": app,
        "runtime": runtime,
        "runtime_version": runtime_version,
        "device": device,
        "soc": soc,
        "ram_mb": str(ram),
        "accelerators": units,
        "current": f"{MODEL}:3",
    }
    return urlencode({name: value for name, value in fields.items() if value})
