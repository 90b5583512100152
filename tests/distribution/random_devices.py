"""Devices drawn at random, each as those who decide want to be asked: poll, explain, OFREP and the SDKs' runners."""

import json
import random
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.distribution.random_catalogs import MODELS, unit

CHOICES: dict[str, list[Any]] = {
    "os": ["", "android", "ios", "fuchsia"],
    "os_version": ["", "10", "12.1", "14", "17.5"],
    "app_version": ["", "1", "3.9", "4.0.1"],
    "runtime": ["", "litert", "coreml", "onnxruntime"],
    "runtime_version": ["", "1.0", "2.0", "2.1.3", "18"],
    "device": ["", "Google/Pixel 8", "Apple/iPhone15,2", "samsung/SM-S911B"],
    "soc": ["", "Tensor G3", "SM8550", "MT6985"],
    "ram_mb": [None, 2048, 3000, 6144, 16384],
    "accelerators": [[], ["gpu"], ["npu"], ["gpu", "npu"]],
}


class AskingDevice(NamedTuple):
    """`profile` holds what is known, by the names of a poll's query; `current` is the version of `model` it runs."""

    model: str
    profile: dict[str, Any]
    unit: str | None
    current: int | None

    @property
    def query(self) -> bytes:
        """Of a poll, and of `explain`."""
        fields = {name: ",".join(value) if isinstance(value, list) else value for name, value in self.profile.items()}
        return urlencode(fields | ({"current": f"{self.model}:{self.current}"} if self.current else {})).encode()

    @property
    def flags_body(self) -> bytes:
        """Of an OFREP request."""
        current = {"current": {self.model: self.current}} if self.current else {}
        return json.dumps({"context": {"targetingKey": self.unit, **self.profile, **current}}).encode()

    def case(self, catalog: int) -> dict[str, Any]:
        """For a runner: see sdk_stubs/README.md."""
        return self._asdict() | {"catalog": catalog}


def random_device(chance: random.Random) -> AskingDevice:
    drawn = {name: chance.choice(values) for name, values in CHOICES.items()}
    profile = {name: value for name, value in drawn.items() if value and chance.random() < 0.8}
    model = chance.choice([*MODELS * 4, "absent"])
    current = chance.choice([1, 2, 3, 4]) if chance.random() < 0.5 else None
    return AskingDevice(model, profile, None if chance.random() < 0.1 else unit(chance.randrange(1000)), current)
