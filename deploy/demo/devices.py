"""Simulated phones: the real device SDK, each with a profile, a store and runtimes of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aerogram_sdk import AerogramClient, DeviceProfile, LiteRtRuntime, UpdateOutcome
from aerogram_sdk.runtimes import Runtime
from numpy.typing import NDArray

from deploy.demo.coreml_runtime import CoreMlOnLinux
from deploy.demo.digits import Digits


@dataclass
class Phone:
    name: str
    client: AerogramClient
    outcomes: dict[str, UpdateOutcome] = field(default_factory=dict)

    def update(self, model: str) -> UpdateOutcome:
        """Poll, verify, download, check and switch, as the app would at its start."""
        outcome = self.client.update([model])[0]
        self.outcomes[model] = outcome
        return outcome

    def classify(self, model: str, digits: Digits) -> float:
        """Share of the digits that the active model gets right."""
        with self.client.open(model) as active:
            scores = [next(iter(active.run({"image": image[np.newaxis]}).values()))[0] for image in digits.images]
        return float(np.mean(np.argmax(scores, axis=1) == digits.labels))

    def run_once(self, model: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        with self.client.open(model) as active:
            return active.run(inputs)

    def report(self) -> int:
        """Send what happened; returns how many events the server took."""
        return self.client.flush_events()


PROFILES: dict[str, DeviceProfile] = {
    "Android, 8 GB": DeviceProfile(
        os="android", os_version="15", app_version="4.2.0", runtime="litert", device="acme/a8", ram_mb=8192
    ),
    "Android, 3 GB": DeviceProfile(
        os="android", os_version="12", app_version="4.2.0", runtime="litert", device="acme/a3", ram_mb=3072
    ),
    "iPhone, Core ML": DeviceProfile(
        os="ios", os_version="18.1", app_version="4.2.0", runtime="coreml", runtime_version="18.1", device="iphone17,1"
    ),
    "iPhone, LiteRT": DeviceProfile(
        os="ios", os_version="17.5", app_version="4.2.0", runtime="litert", device="iphone14,2"
    ),
}


def phones(*, server: str, application: str, channel: str, root: bytes, stores: Path) -> Sequence[Phone]:
    """One phone a profile. Stores of an earlier run go on where they were."""
    runtimes: dict[str, Runtime] = {"litert": LiteRtRuntime(threads=1), "coreml": CoreMlOnLinux()}
    return [
        Phone(
            name,
            AerogramClient(
                server=server,
                application=application,
                channel=channel,
                root=root,
                store=stores / name.replace(", ", "-").replace(" ", "-").lower(),
                profile=profile,
                runtimes={profile.runtime: runtimes[profile.runtime]},
            ),
        )
        for name, profile in PROFILES.items()
    ]
