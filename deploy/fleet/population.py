"""Which devices there are, and what goes wrong with the versions they are given. Pure.

Shares are of 0..1; a fault names the kinds of device that it strikes, and `EVERY` is all the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploy.fleet.chances import uniform

EVERY = ""
Shares = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Network:
    """`megabytes_per_second` while it lasts; `breaks`: share of downloads that break off and are resumed."""

    name: str
    megabytes_per_second: float
    breaks: float = 0.0


WIFI, CELLULAR, FLAKY = Network("wifi", 12.0), Network("cellular", 2.5, 0.02), Network("flaky", 0.4, 0.25)


@dataclass(frozen=True, slots=True)
class Kind:
    """Devices alike. `share` of the fleet; `p95_ms` of an inference of the median one; `app_versions`, `networks`: any.

    `hours_asleep` a night and `days_away`, the share of days on which it is not switched on or has no network at all.
    """

    name: str
    share: float
    profile: Mapping[str, str | int]
    p95_ms: float
    app_versions: Sequence[str] = ("4.2.0", "4.1.3")
    networks: Sequence[Network] = (WIFI, WIFI, CELLULAR)
    hours_asleep: int = 8
    days_away: float = 0.05


_ANDROID: dict[str, str | int] = {"os": "android", "runtime": "litert", "runtime_version": "2.3.0"}
KINDS = (
    Kind("high", 0.35, {**_ANDROID, "os_version": "15", "device": "acme/a8", "soc": "SM8550", "ram_mb": 8192}, 12.0),
    Kind("mid", 0.40, {**_ANDROID, "os_version": "14", "device": "acme/a5", "soc": "SM6225", "ram_mb": 4096}, 25.0),
    Kind(
        "low",
        0.25,
        {**_ANDROID, "os_version": "12", "device": "acme/a3", "soc": "MT6739", "ram_mb": 2048},
        60.0,
        networks=(WIFI, CELLULAR, FLAKY),
        days_away=0.15,
    ),
)
# Where they are told apart on a server: the conditions of a device class for each kind that needs one of its own.
SELECTORS: Mapping[str, Mapping[str, object]] = {
    "high": {"os": ["android"], "ram_mb_min": 6144},
    "mid": {"os": ["android"], "ram_mb_min": 3073, "ram_mb_max": 6143},
    "low": {"os": ["android"], "ram_mb_max": 3072},
}


@dataclass(frozen=True, slots=True)
class Faults:
    """Of one version of a model, by kind of device.

    `crash`: share of the units whose process dies at a first run under an assignment. `compile_failure`: it does not
    load, and the device runs what it had. `download_loss`: it is not heard of again after it was offered. `slow`: its
    inferences take `SLOWER` times as long. `forged`: it says that files are not as published, which others may forge.
    """

    crash: Shares = field(default_factory=dict)
    compile_failure: Shares = field(default_factory=dict)
    download_loss: Shares = field(default_factory=dict)
    slow: Shares = field(default_factory=dict)
    forged: Shares = field(default_factory=dict)

    def share(self, fault: str, kind: str) -> float:
        shares: Shares = getattr(self, fault)
        return shares.get(kind, shares.get(EVERY, 0.0))


SLOWER = 4.0
NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class App:
    """One model as the app has it: what devices run at first, and the faults of each version.

    `is_silent`: devices poll, and get what they are given, and report nothing of it.
    """

    model: str
    installed: int | None = None
    faults: Mapping[int, Faults] = field(default_factory=dict)
    usual: Faults = NO_FAULTS
    size_bytes: int = 4_000_000
    is_silent: bool = False

    def faults_of(self, version: int | None) -> Faults:
        return self.usual if version is None else self.faults.get(version, self.usual)


def kinds_of(number: int, kinds: Sequence[Kind] = KINDS, *, seed: int = 1) -> list[Kind]:
    """The kind of each of `number` devices: shares exact to one device, mixed. Raises ValueError on none."""
    total = sum(kind.share for kind in kinds)
    if number < 1 or total <= 0:
        raise ValueError(f"fleet: expected devices of some kind, got {number} of {len(kinds)} kinds")
    ends, sum_of = [], 0.0
    for kind in kinds:
        sum_of += kind.share / total
        ends.append(round(sum_of * number))
    ordered = [next(kind for kind, end in zip(kinds, ends, strict=True) if place < end) for place in range(number)]
    places = sorted(range(number), key=lambda place: uniform(seed, "order", place))
    return [ordered[place] for place in places]
