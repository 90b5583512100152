"""One simulated device: what it asks for, and what it reports of what it is answered. Pure: no network, no clock.

It reports what the device SDK reports, at the same stages and by the same codes. An assignment is reported once for
each decision, also by a control that gets nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from statistics import NormalDist
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from deploy.fleet.chances import Chances, uniform
from deploy.fleet.population import SLOWER, App, Kind, Network, kinds_of
from experiments.funnel import CRASH_CODE
from experiments.statistics.latency import BOUNDS_US

T = TypeVar("T")
Event = dict[str, Any]
Decision = Mapping[str, Any]
FORGED_CODE = "hash_mismatch"
INFERENCES = 40
_SPREAD_OF_UNITS, _SPREAD_WITHIN = 0.35, 0.25  # of the log of a latency
_NORMAL = NormalDist()
_P95 = _NORMAL.inv_cdf(0.95)


@dataclass
class Held:
    """What a device knows of one model. `assigned`: the decision it last reported. `is_lost`: heard of no more."""

    version: int | None
    assigned: tuple[Any, ...] | None = None
    is_lost: bool = False


@dataclass
class Device:
    """One installation on one simulated phone; everything about it that varies follows from `seed` and `unit`."""

    unit: str
    kind: Kind
    apps: Sequence[App]
    chances: Chances
    seed: int = 1
    held: dict[str, Held] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.held = {app.model: Held(app.installed) for app in self.apps}
        self._to_bed = int(uniform(self.seed, self.unit, "bed") * 6) + 20  # the hour
        self._app_version = self._one_of(self.kind.app_versions, "app")
        self._query = ""

    @property
    def network(self) -> Network:
        return self._one_of(self.kind.networks, "network")

    @property
    def profile(self) -> dict[str, str | int]:
        """As an event batch states it."""
        return {**self.kind.profile, "app_version": self._app_version}

    @property
    def query(self) -> str:
        """The query string of a poll for all models of the app."""
        if not self._query:
            pairs = sorted((name, held.version) for name, held in self.held.items() if held.version is not None)
            fields = {name: str(value) for name, value in self.profile.items()} | {
                "models": ",".join(sorted(self.held))
            }
            if pairs:
                fields["current"] = ",".join(f"{name}:{version}" for name, version in pairs)
            self._query = urlencode(sorted(fields.items()), quote_via=quote)
        return self._query

    def is_reachable(self, day: int, hour: int) -> bool:
        """Whether it is on and has a network; each device sleeps at its own hours."""
        if (hour - self._to_bed) % 24 < self.kind.hours_asleep:
            return False
        return uniform(self.seed, self.unit, "away", day) >= self.kind.days_away

    def take(self, answer: Mapping[str, Any]) -> list[Event]:
        """Do what the `models` of a poll's answer say; the events of it, without id and time."""
        return [
            event
            for app in self.apps
            if (entry := answer.get(app.model)) is not None
            for event in self.follow(app, entry["decision"], has_manifest=entry["manifest"] is not None)
        ]

    def follow(self, app: App, decision: Decision, *, has_manifest: bool) -> Iterator[Event]:
        """The events of one model, of which an app that is silent sends none."""
        held = self.held[app.model]
        events = [] if held.is_lost else list(self._followed(app, held, decision, has_manifest=has_manifest))
        return iter(() if app.is_silent else events)

    def _followed(self, app: App, held: Held, decision: Decision, *, has_manifest: bool) -> Iterator[Event]:
        told = tuple(decision.get(name) for name in ("reason", "experiment", "phase", "arm", "version"))
        version = decision.get("version")
        if told == held.assigned:
            return
        held.assigned = told
        subject = _subject(app.model, version, decision.get("variant"))
        yield _event("assigned", subject, experiment=decision.get("experiment"), phase=decision.get("phase") or 0)
        if version is not None and has_manifest and version != held.version:
            yield from self._install(app, held, subject)
        if not held.is_lost:
            running = subject if held.version == version else _subject(app.model, held.version, None)
            yield from self._run(app, held, running, decision.get("phase"))

    def _install(self, app: App, held: Held, subject: Event) -> Iterator[Event]:
        version = subject["version"]
        yield _event("offered", subject, bytes=app.size_bytes)
        if self._strikes("download_loss", app, version):
            held.is_lost = True
            return
        if self.network.breaks and uniform(self.seed, self.unit, "breaks", app.model, version) < self.network.breaks:
            yield _event("download", subject, error="download_truncated")
        seconds = app.size_bytes / 1e6 / self.network.megabytes_per_second
        yield _event("download", subject, ms=round(seconds * 1000), bytes=app.size_bytes)
        if self._strikes("forged", app, version):
            yield _event("verify", subject, error=FORGED_CODE)
            return
        yield _event("verify", subject, ms=20)
        yield _event("unpack", subject, ms=10)
        if self._strikes("compile_failure", app, version):
            yield _event("compile", subject, error="load_failed")
            yield _event("fallback", _subject(app.model, held.version, None), outcome="ok", error="load_failed")
            return
        for stage, milliseconds in (("compile", 150), ("sanity", 40), ("activate", 5)):
            yield _event(stage, subject, ms=milliseconds)
        held.version, self._query = version, ""
        yield _event("first_inference", subject, ms=round(self.p95_ms(app, version)))

    def _run(self, app: App, held: Held, subject: Event, phase: object) -> Iterator[Event]:
        if self._strikes("crash", app, held.version, phase):
            yield _event("compile", subject, error=CRASH_CODE)
        yield _event("inference", subject, histogram=self.histogram(app, held.version))

    def _strikes(self, fault: str, app: App, version: int | None, *when: object) -> bool:
        share = app.faults_of(version).share(fault, self.kind.name)
        # Nobody's turn comes nearer by a fault that is not planted.
        return share > 0 and self.chances.strikes(share, self.unit, fault, app.model, version, self.kind.name, *when)

    def p95_ms(self, app: App, version: int | None) -> float:
        """Of this very device: those of a kind differ from each other more than one does from itself."""
        own = _NORMAL.inv_cdf(min(0.999, max(0.001, uniform(self.seed, self.unit, "speed"))))
        usual = self.kind.p95_ms * exp(own * _SPREAD_OF_UNITS)
        share = app.faults_of(version).share("slow", self.kind.name)
        is_slow = share > 0 and uniform(self.seed, self.unit, "slow", app.model, version) < share
        return usual * (SLOWER if is_slow else 1.0)

    def histogram(self, app: App, version: int | None) -> list[int]:
        """Counts of `INFERENCES` log-normal latencies in the bins that all devices share; the last are left out."""
        median = log(self.p95_ms(app, version) * 1000) - _P95 * _SPREAD_WITHIN
        counts, before = [], 0
        for bound in BOUNDS_US:
            below = round(INFERENCES * _NORMAL.cdf((log(bound) - median) / _SPREAD_WITHIN))
            counts.append(below - before)
            before = below
            if below == INFERENCES:
                break
        return counts

    def _one_of(self, things: Sequence[T], what: str) -> T:
        return things[int(uniform(self.seed, self.unit, what) * len(things))]


def fleet_of(number: int, apps: Sequence[App], chances: Chances, *, seed: int = 1) -> list[Device]:
    """`number` devices of mixed kinds. The same seed gives the same units, which a server then knows again."""
    return [
        Device(f"sim-{seed}-{place:06d}", kind, apps, chances, seed)
        for place, kind in enumerate(kinds_of(number, seed=seed))
    ]


def forged_refusal(model: str, version: int) -> list[Event]:
    """What anybody can post who knows a version's number: that its files are not genuine."""
    return [_event("verify", _subject(model, version, None), error=FORGED_CODE)]


def _subject(model: str, version: int | None, variant: str | None) -> Event:
    members: Event = {"model": model, "version": version, "variant": variant}
    return {name: value for name, value in members.items() if value is not None}


def _event(stage: str, subject: Event, *, error: str | None = None, outcome: str = "", **members: Any) -> Event:
    failed = {"error": error} if error else {}
    return {"stage": stage, "outcome": outcome or ("failed" if error else "ok"), **subject, **failed, **members}
