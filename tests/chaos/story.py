"""The story of four rollouts on one fleet, through the running system; `make story` prints its timeline.

Every program runs as a process of its own, 6 000 simulated devices of three classes poll and report over HTTP, and
nobody says a word to the server after the start. Four models of one app go from version 1 to 2:

| model    | version 2                                          | what must become of it                              |
|----------|----------------------------------------------------|-----------------------------------------------------|
| crashing | crashes 3 times as often on class `low`, 6 % to 2 %| halted for `low` by guardrails; others go on        |
| harmless | is like version 1                                  | 100 %, and current, by itself                       |
| silent   | no device reports anything of it                   | never advances                                      |
| forged   | 15 units say that its files are not genuine        | held, not stopped; with five more it is rolled back |

The class is a quarter of the fleet: a rule that looks at everybody sees 3 % against 2 %, too little for the overall
guardrail at these numbers (evidence of 7 at the most, 40 are needed), while within the class it is plain (thousands, of
which 120 are needed) well before the step's sample is there. Faults are planted evenly, so that each run has the same
counts of them; what chance does to the rules is for the simulations in tests/experiments. Chance has one part left: a
split of units as skewed as one in a thousand is holds a rollout, rightly. Such a story is told again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from deploy.cli.client import ControlPlane
from deploy.fleet.devices import Device, forged_refusal
from deploy.fleet.driver import Driver
from deploy.fleet.population import EVERY, App, Faults
from tests.chaos.stack import Stack, until
from tests.chaos.story_timeline import Line, told_change, told_looks

DEVICES, SEED = 6_000, 20261122
CRASHING, HARMLESS, SILENT, FORGED = "crashing", "harmless", "silent", "forged"
MODELS = (CRASHING, HARMLESS, SILENT, FORGED)
OLD, NEW = 1, 2
BASE, PLANTED = 0.02, 0.06
FORGERS, ENOUGH_FORGERS = 15, 20
STREAM = "aerogram:events"
# Units in the smallest arm before the next step; what one class less, or what a slow look leaves out, is allowed for.
PLANS: Mapping[str, Sequence[Mapping[str, int]]] = {
    CRASHING: (
        {"percent_bp": 2_000, "hold_seconds": 2, "min_units": 1_000},
        {"percent_bp": 5_000, "hold_seconds": 2, "min_units": 2_000},
        {"percent_bp": 10_000, "hold_seconds": 2, "min_units": 4_000},
    ),
    HARMLESS: (
        {"percent_bp": 5_000, "hold_seconds": 2, "min_units": 2_500},
        {"percent_bp": 10_000, "hold_seconds": 2, "min_units": 5_000},
    ),
    SILENT: ({"percent_bp": 2_000, "hold_seconds": 0, "min_units": 0}, {"percent_bp": 10_000}),
    FORGED: ({"percent_bp": 5_000, "hold_seconds": 0, "min_units": 200}, {"percent_bp": 10_000}),
}
APPS = tuple(
    App(model, OLD, faults, Faults(crash={EVERY: BASE}), is_silent=model == SILENT)
    for model, faults in {
        CRASHING: {NEW: Faults(crash={EVERY: BASE, "low": PLANTED})},
        HARMLESS: {},
        SILENT: {},
        FORGED: {},
    }.items()
)


@dataclass
class Story:
    """What happened, once `tell` is through. `say` gets lines as they happen."""

    stack: Stack
    fleet: Driver
    grace: ControlPlane
    say: Callable[[str], None] = lambda _line: None
    notes: list[Line] = field(default_factory=list)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    forged_after_fifteen: dict[str, Any] = field(default_factory=dict)
    ingester_kills: int = 0
    batches_waiting_at_kill: int = 0
    seconds: float = 0.0

    # -- looking

    def status(self, model: str) -> dict[str, Any]:
        return self.stack.server.experiment(f"{model}-v2", "status")

    def changes(self, model: str) -> list[dict[str, Any]]:
        """Oldest first."""
        return self.stack.server.rows(f"experiments/{model}-v2/changes")[::-1]

    def looks(self, model: str, phase: int | None = None) -> list[dict[str, Any]]:
        """Oldest first."""
        return self.stack.server.experiment_results(f"{model}-v2", phase, None)[::-1]

    def stored(self) -> tuple[int, int]:
        """Events in PostgreSQL, and how many different ids they have."""
        return self.stack.rows("SELECT count(*), count(DISTINCT event_id) FROM experiments_event")[0]

    def waiting(self) -> int:
        """Batches that the stream holds."""
        with self.stack.event_stream() as client:
            return int(client.xlen(STREAM))

    def timeline(self) -> list[Line]:
        """What anybody did, what looks concluded, and what the fleet saw, in order."""
        lines = list(self.notes)
        for model in MODELS:
            lines += [told_change(model, each) for each in self.changes(model)]
            lines += told_looks(model, self.looks(model))
        return sorted(lines, key=lambda line: line.at)

    def note(self, what: str, why: str = "", model: str = "", who: str = "the fleet") -> None:
        self.notes.append(Line(datetime.now(UTC), model, who, what, why))
        self.say(f"{self.notes[-1].at:%H:%M:%S}  {model:9} {who}: {what}{' – ' if why else ''}{why}")

    def is_held_by_chance(self) -> bool:
        """Whether a look warned of a skewed split. A fault that skews splits does so in the next story, too."""
        reasons = [reason for model in MODELS for look in self.looks(model) for reason in look["reasons"]]
        return any(reason.startswith("sample ratio mismatch: p ") for reason in reasons)

    # -- telling

    def tell(self) -> None:
        # As in any fleet, devices are there before the rollout. Those that are new while a step is on its way to them
        # count in the control only, whose version they run already, and enough of them would look like a skewed split.
        self.visit("devices have version 1, and say so")
        self.start()
        self.visit("the first poll of everybody: 20 % and 50 % steps")
        self.wait_for("crashing at 50 %", lambda: self.status(CRASHING)["percent_bp"] == 5_000)
        self.forged_after_fifteen = self.status(FORGED)
        self.visit_while_the_ingester_dies()
        for number in range(1, 9):
            if self.is_through():
                break
            self.wait_for_something_new()
            self.visit(f"devices poll again ({number})")
        assert self.is_through(), {model: self.status(model) for model in MODELS}
        self.wait_until_counted()
        self.visit("a last poll of everybody")
        self.wait_until_counted()
        self.forge(ENOUGH_FORGERS - FORGERS)
        self.wait_for("forged to be rolled back", lambda: self.status(FORGED)["state"] == "rolled_back")
        self.ended = {model: self.status(model) for model in MODELS}

    def start(self) -> None:
        for model in MODELS:
            self._act(self.stack.server, model, "submit")
            self._act(self.grace, model, "approve")
            self._act(self.stack.server, model, "start")
        few = random.Random(SEED).sample(self.fleet.devices, 200)
        self.wait_for("version 2 at devices", lambda: self._are_given_version_2(few[:40]))
        self._polled(few)
        self.forge(FORGERS)
        self.wait_for("forged to be held", lambda: "hold" in [look["verdict"] for look in self.looks(FORGED)])

    def forge(self, number: int) -> None:
        """Units that were given the version, of those that have not said so yet."""
        told = [
            device
            for device, decision in self.fleet.answers(FORGED)
            if decision["reason"] == "rollout_treatment" and device.unit not in self._forgers
        ][:number]
        assert len(told) == number
        self._forgers |= {device.unit for device in told}
        self.note(f"{number} units say that files are not genuine", f"{len(self._forgers)} by now", FORGED)
        for device in told:
            self.fleet.report(device, forged_refusal(FORGED, NEW))
        self._wait_until_taken()

    def visit(self, why: str) -> None:
        before = Counter({name: getattr(self.fleet.tally, name) for name in ("polls", "unchanged", "events")})
        self._polled(self._shuffled())
        tally = self.fleet.tally
        polls, events = tally.polls - before["polls"], tally.events - before["events"]
        unchanged = tally.unchanged - before["unchanged"]
        self.note(f"{polls} polls, {unchanged} of them unchanged, {events} events", why)

    def visit_while_the_ingester_dies(self) -> None:
        """kill -9 while it stores what the fleet reports of the 50 % step; the stream keeps what comes meanwhile."""
        before = self.stored()[0]
        with ThreadPoolExecutor(1) as background:
            visiting = background.submit(self.visit, "devices poll, and the ingester dies meanwhile")
            many = before + 500
            until(lambda: visiting.done() or self.stored()[0] > many, "something to be stored", every_seconds=0.01)
            self.stack.kill("ingester")
            self.ingester_kills += 1
            until(lambda: visiting.done() or self.waiting() > 200, "batches to wait in the stream")
            self.batches_waiting_at_kill = self.waiting()
            self.note("kill -9", f"{self.batches_waiting_at_kill} batches wait in the stream", who="the ingester")
            self.stack.start("ingester")
            visiting.result()

    def is_through(self) -> bool:
        status = self.status(CRASHING)
        given = {reason for (_, reason, _) in self.fleet.reasons(CRASHING)}
        is_whole = status["percent_bp"] == 10_000 and "rollout_control" not in given
        return is_whole and self.status(HARMLESS)["state"] == "completed" and self._has_everybody(HARMLESS)

    def wait_for_something_new(self) -> None:
        """Devices hear of a new revision on the live channel; here the whole fleet does at once."""
        seen = self._revision_seen
        self.wait_for("a new revision", lambda: self.stack.revision() > seen)

    def wait_until_counted(self) -> None:
        """Everything that was reported is stored, and a look was taken since."""
        until(lambda: self.waiting() == 0, "the ingester to empty the stream")
        wanted = {arm: len(units) for arm, units in self.reported(FORGED).items()}
        self.wait_for("results of all reports", lambda: self.counted(FORGED) == wanted)

    def reported(self, model: str) -> dict[str, set[str]]:
        """By arm, the units whose assignment in the first phase the server has taken."""
        found: dict[str, set[str]] = {}
        for place, units in self.fleet.tally.assigned.items():
            if place.model == model and place.phase == 1 and place.arm is not None:
                found.setdefault(place.arm, set()).update(units)
        return found

    def counted(self, model: str) -> dict[str, int]:
        """By arm, the units in the last look at the first phase."""
        looks = self.looks(model, phase=1)
        return {name: arm["units"] for name, arm in looks[-1]["results"]["arms"].items()} if looks else {}

    def wait_for(self, what: str, condition: Callable[[], object]) -> None:
        until(condition, what, every_seconds=0.5)

    # -- details

    _forgers: set[str] = field(default_factory=set)
    _revision_seen: int = 0
    _round: int = 0

    def _polled(self, devices: Sequence[Device]) -> None:
        """They poll, and all that they report is taken: by then, or after what `Retry-After` asked of some."""
        self.fleet.visit(devices)
        self._wait_until_taken()

    def _wait_until_taken(self) -> None:
        until(lambda: self.fleet.flush() == 0, "the server to take all events")

    def _shuffled(self) -> list[Device]:
        self._revision_seen = self.stack.revision()
        self._round += 1
        devices = list(self.fleet.devices)
        random.Random(SEED + self._round).shuffle(devices)
        return devices

    def _act(self, server: ControlPlane, model: str, verb: str) -> None:
        path = f"experiments/{model}-v2"
        server.write("POST", f"{path}/actions/{verb}", {"reason": "the story"}, of=path)

    def _are_given_version_2(self, devices: Sequence[Device]) -> bool:
        """Of every model somebody is: the publisher has signed all of them."""
        self._polled(devices)
        return all(
            any(decision["reason"] == "rollout_treatment" for _, decision in self.fleet.answers(model))
            for model in MODELS
        )

    def _has_everybody(self, model: str) -> bool:
        return {version for (_, _, version) in self.fleet.reasons(model)} == {NEW}
