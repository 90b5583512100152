"""A rollout on simulated devices through the pure core: days pass in seconds, and no service runs.

Devices poll by the hour when they are awake and have a network, `decide()` answers from a catalog, what they report is
attributed, counted, measured and judged, and the plan goes on or stops: the functions are those of the services, and
only their tables are this module's own. What a policy does to a release, and how fast, can be tried before any start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from deploy.fleet.chances import uniform
from deploy.fleet.devices import Device
from deploy.fleet.outcomes import Outcome, cells_of, integrity_units
from deploy.fleet.population import SELECTORS, App
from distribution.catalog import Catalog, CatalogArm, CatalogExperiment, CatalogModel, CatalogVariant, Layer, Reference
from distribution.decision import Decision, decide
from experiments.bucketing import BUCKETS, bucket
from experiments.measuring import Counted, PhaseCounts, evidence_of
from experiments.plans import PlanStep, Standing, advise
from experiments.policy import Action, Policy, Progress, Verdict, judge
from experiments.ramps import Share, ranges_at, size
from registry.device_classes import DeviceClass, DeviceProfile, Match, Selector, match

TREATMENT, CONTROL, VARIANT = "treatment", "control", "tflite-float32"
SLUG = "simulated"
POLL_HOURS, QUIET_LOOK_HOURS = 4, 6
_BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
_ARMS = (Share(TREATMENT, 5_000), Share(CONTROL, 5_000, control=True))


class Step(NamedTuple):
    """One step of the plan; see `experiments.plans`."""

    percent_bp: int
    hold_hours: float = 0.0
    min_units: int = 0


class Happening(NamedTuple):
    """What the rollout did: `what` is started, advanced, held, class_halted, halted, rolled_back or completed."""

    hour: float
    what: str
    percent_bp: int
    reasons: tuple[str, ...] = ()


@dataclass
class Phase:
    """`outcomes` by unit. `shares`: parts of the units that the arms should have, those above 0."""

    percent_bp: int
    opened_at: float
    experiment: CatalogExperiment
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        sizes = {arm.name: size(arm.ranges) for arm in self.experiment.arms}
        return {name: part / sum(sizes.values()) for name, part in sizes.items() if part}


@dataclass
class Rollout:
    """Of version `new` of an app's model against `old`. `state`: running, halted, rolled_back or completed.

    `heard` is told of each thing that happens. `seed` draws the buckets; devices have seeds of their own.
    """

    devices: Sequence[Device]
    app: App
    steps: Sequence[Step]
    policy: Policy = field(default_factory=Policy)
    old: int = 1
    new: int = 2
    seed: int = 1
    heard: Callable[[Happening], None] = lambda _: None
    state: str = "running"
    halted_classes: tuple[str, ...] = ()
    history: list[Happening] = field(default_factory=list)
    verdict: Verdict = field(default_factory=lambda: Verdict(Action.INCONCLUSIVE, ("no look was taken yet",)))

    def __post_init__(self) -> None:
        self._classes = tuple(DeviceClass(kind, _selector(kind), (VARIANT,)) for kind in SELECTORS)
        self._classes += (DeviceClass("others", Selector(), (VARIANT,)),)
        self._matched = {device.kind.name: match(_profile(device), self._classes) for device in self.devices}
        self._profiles = {device.unit: _profile(device) for device in self.devices}
        self._told: dict[str, Decision] = {}
        self._bucket = lru_cache(maxsize=None)(bucket)
        self._phases: list[Phase] = []
        self._step, self._units, self._hour, self._heard_at = 0, 0, 0.0, 0.0
        self._next_poll = {device.unit: self._spread(device, 0) for device in self.devices}
        self._open("started", self.steps[0].percent_bp)

    @property
    def percent_bp(self) -> int:
        return self._phases[-1].percent_bp

    def run(self, days: float) -> str:
        """Until it has ended, for at most `days`. Returns the state."""
        for hour in range(int(days * 24)):
            self._hour = float(hour)
            self._poll_all()
            # Between two reports only time passes, by which few verdicts change.
            if self.state in ("running", "halted") and (self._heard_at == hour or hour % QUIET_LOOK_HOURS == 0):
                self._look()
            if self.state == "running":
                self._advance()
            if self.state in ("rolled_back", "completed"):
                break
        return self.state

    # -- devices

    def _poll_all(self) -> None:
        day, hour = divmod(int(self._hour), 24)
        for device in self.devices:
            if self._next_poll[device.unit] <= self._hour and device.is_reachable(day, hour):
                self._next_poll[device.unit] = self._hour + POLL_HOURS + self._spread(device, self._hour)
                self._poll(device)

    def _spread(self, device: Device, hour: float) -> float:
        """A fifth of the time between two polls, as the SDK spreads them; all of it at the beginning."""
        return uniform(device.seed, device.unit, "poll", hour) * POLL_HOURS * (0.2 if hour else 1.0)

    def _poll(self, device: Device) -> None:
        matched = self._matched[device.kind.name]
        running = device.held[self.app.model].version
        told = decide(
            self._profiles[device.unit],
            device.unit,
            self.app.model,
            self._catalog,
            running,
            matched=matched,
            bucket_of=self._bucket,
        )
        if self._told.get(device.unit) == told:
            return
        self._told[device.unit] = told
        for event in device.follow(self.app, told.to_json(), has_manifest=told.manifest is not None):
            self._count(device, matched, event)

    def _count(self, device: Device, matched: Match, event: dict[str, object]) -> None:
        """Under the arm that the unit's bucket has, whatever it was served: a halted class gets another's version."""
        phase = self._phases[-1]
        arm = _arm_at(phase.experiment, self._bucket(device.unit, phase.experiment.arm_salt))
        if arm is None or matched.device_class is None:
            return
        known = phase.outcomes.get(device.unit)
        if known is None:
            known = phase.outcomes[device.unit] = Outcome(arm.name, matched.device_class.name)
        known.take(event, arm.version, self._hour)
        self._heard_at = self._hour

    # -- the rules

    def _look(self) -> None:
        counted = self._counted()
        self._units = counted.smallest_arm
        before, self.verdict = (
            self.verdict,
            judge(evidence_of(counted, self.policy), Progress(units=counted.smallest_arm), self.policy),
        )
        action, reasons = self.verdict.action, self.verdict.reasons
        if action is Action.ROLLBACK:
            self._end("rolled_back", reasons)
        elif action is Action.HALT and self.state == "running":
            self._halt(reasons)
        elif set(self.verdict.classes) - set(self.halted_classes):
            self.halted_classes = tuple(sorted({*self.halted_classes, *self.verdict.classes}))
            self._tell("class_halted", reasons)
            self._serve()
        elif action is Action.HOLD and before.action is not Action.HOLD:
            self._tell("held", reasons)

    def _counted(self) -> Counted:
        phases = [
            PhaseCounts(cells_of(phase.outcomes.values(), self._hour, self.policy.slo_ms), phase.shares)
            for phase in self._phases
        ]
        return Counted(
            phases=phases,
            control=CONTROL,
            treatments=[TREATMENT],
            halted_classes=self.halted_classes,
            integrity_units=integrity_units([phase.outcomes for phase in self._phases], TREATMENT),
            silent_seconds=(self._hour - max(self._phases[-1].opened_at, self._heard_at)) * 3600,
            is_halted=self.state == "halted",
        )

    def _advance(self) -> None:
        step = self.steps[self._step]
        is_last, is_whole = self._step + 1 == len(self.steps), self.percent_bp == BUCKETS and not self.halted_classes
        # What halted a class at this look is not asked again before the next.
        verdict = Action.HOLD if self.verdict.action is Action.HALT_CLASS else self.verdict.action
        advice = advise(
            PlanStep(round(step.hold_hours * 3600), step.min_units, True, 0),
            since=_time(self._phases[-1].opened_at),
            now=_time(self._hour),
            standing=Standing(verdict, self._units, self.verdict.reasons),
            is_at_the_end=is_last and not is_whole,
        )
        if advice.unmet:
            return
        if is_last:
            self._end("completed", self.verdict.reasons)
        else:
            self._step += 1
            self._open("advanced", self.steps[self._step].percent_bp)

    # -- what is served

    def _open(self, what: str, percent_bp: int) -> None:
        ranges = ranges_at("rollout", _ARMS, percent_bp)
        arms = tuple(
            CatalogArm(arm.name, self.old if arm.control else self.new, control=arm.control, ranges=ranges[arm.name])
            for arm in _ARMS
        )
        layer = Layer(f"layer:{SLUG}:{self.seed}", (0, BUCKETS))
        number, salt = len(self._phases) + 1, f"arm:{SLUG}:{self.seed}"
        experiment = CatalogExperiment(SLUG, "rollout", "running", number, layer, salt, arms)
        self._phases.append(Phase(percent_bp, self._hour, experiment))
        self._units, self.verdict = 0, Verdict(Action.INCONCLUSIVE, ("no look at this phase yet",))
        self._tell(what)
        self._serve()

    def _serve(self) -> None:
        """A catalog of what holds now; an experiment that has ended is in none."""
        phase, is_live = self._phases[-1].experiment, self.state in ("running", "halted")
        served = CatalogExperiment(
            phase.slug, phase.kind, self.state, phase.phase, phase.layer, phase.arm_salt, phase.arms,
            frozenset(self.halted_classes),
        )  # fmt: skip
        model = CatalogModel(
            manifest_version=1,
            current=self.new if self.state == "completed" else self.old,
            versions={version: (_variant(version),) for version in (self.old, self.new)},
            experiments=(served,) if is_live else (),
        )
        self._catalog = Catalog("fleet", "production", POLL_HOURS * 3600, self._classes, {self.app.model: model})

    def _halt(self, reasons: Sequence[str]) -> None:
        self.state = "halted"
        self._tell("halted", reasons)
        self._serve()

    def _end(self, state: str, reasons: Sequence[str]) -> None:
        self.state = state
        self._tell(state, reasons)
        self._serve()

    def _tell(self, what: str, reasons: Sequence[str] = ()) -> None:
        self.history.append(Happening(self._hour, what, self.percent_bp, tuple(reasons)))
        self.heard(self.history[-1])


def require_rising(steps: Sequence[Step]) -> None:
    """Raises ValueError unless there are steps and each goes further than the one before."""
    if not steps or any(after.percent_bp <= before.percent_bp for before, after in pairwise(steps)):
        raise ValueError(f"steps: expected rising percentages, got {[step.percent_bp for step in steps]}")


def _selector(kind: str) -> Selector:
    told = SELECTORS[kind]
    return Selector(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})  # type: ignore[arg-type]


def _profile(device: Device) -> DeviceProfile:
    return DeviceProfile(**device.profile)  # type: ignore[arg-type]


def _arm_at(experiment: CatalogExperiment, position: int) -> CatalogArm | None:
    return next((arm for arm in experiment.arms if any(a <= position < b for a, b in arm.ranges)), None)


def _variant(version: int) -> CatalogVariant:
    return CatalogVariant(VARIANT, "litert", Reference(f"manifests/{version}.json", "0" * 64, 1))


def _time(hour: float) -> datetime:
    return _BEGAN + timedelta(hours=hour)
