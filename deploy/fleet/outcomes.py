"""What became of each simulated unit in each phase, counted as the ingester and the rollups count it. Pure.

The table that `experiments.ingest` keeps in PostgreSQL, for simulations without it: a unit counts once it was assigned
the arm's version, an event of another version says nothing of the arm, and a failure that was overcome is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import isnan, log, nan

from deploy.fleet.devices import Event
from experiments.funnel import CRASH_CODE, FUNNEL, INTEGRITY_CODES, LOADING_STAGES, RANK, lost_before
from experiments.measuring import Cell
from experiments.statistics.estimates import Moments
from experiments.statistics.latency import BINS, log_quantiles, padded


@dataclass
class Outcome:
    """Of one unit in one phase. Times are hours of the simulation; `reached` and `failed` are ranks, -1: none."""

    arm: str
    device_class: str
    assigned: bool = False
    reached: int = -1
    progressed_at: float = 0.0
    failed: int = -1
    crashed: bool = False
    load_failed: bool = False
    fell_back: bool = False
    integrity: bool = False
    histogram: list[int] = field(default_factory=list)
    log_p95: float = nan

    def take(self, event: Event, arm_version: int | None, at: float) -> None:
        """One event, as `experiments.ingest.rows` marks it."""
        stage, error, has_failed = event["stage"], event.get("error") or "", event["outcome"] == "failed"
        self.fell_back |= stage == "fallback" and error != ""
        if stage == "inference" and "histogram" in event:
            # Of whichever version: who did not get the new one is as slow as before, and no survivor.
            sent = padded(event["histogram"])
            self.histogram = [a + b for a, b in zip(self.histogram or [0] * BINS, sent, strict=True)]
            self.log_p95 = float(log_quantiles([self.histogram])[0])
        version = event.get("version")
        if version is not None and version != arm_version:
            return
        rank = RANK.get(stage, -1)
        is_crash = stage == "rollback" or (has_failed and error == CRASH_CODE)
        self.crashed |= is_crash
        self.load_failed |= has_failed and stage in LOADING_STAGES and not is_crash
        self.integrity |= has_failed and error in INTEGRITY_CODES
        if has_failed:
            self.failed = max(self.failed, rank)
        elif rank >= 0:
            self.assigned |= rank == 0 and version == arm_version
            self.reached, self.progressed_at = max(self.reached, rank), max(self.progressed_at, at)


def cells_of(outcomes: Iterable[Outcome], now: float, slo_ms: float) -> dict[tuple[str, str], Cell]:
    """By (arm, class), as of the hour `now`: who is silent too long then is lost."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.arm, outcome.device_class].append(outcome)
    return {key: _cell(found, now, slo_ms) for key, found in groups.items()}


def _cell(outcomes: list[Outcome], now: float, slo_ms: float) -> Cell:
    assigned = [each for each in outcomes if each.assigned]
    logs = [each.log_p95 for each in assigned if not isnan(each.log_p95)]
    failed = [each.failed for each in assigned if each.failed > each.reached]
    lost = [lost_before(each.reached, timedelta(hours=now - each.progressed_at), each.failed) for each in assigned]
    return Cell(
        units=len(assigned),
        crashed=sum(each.crashed for each in assigned),
        load_failed=sum(each.load_failed for each in assigned),
        fell_back=sum(each.fell_back for each in assigned),
        integrity=sum(each.integrity for each in outcomes),
        reached=tuple(sum(each.reached >= rank for each in assigned) for rank in range(len(FUNNEL))),
        failed=tuple(failed.count(rank) for rank in range(len(FUNNEL))),
        lost=tuple(lost.count(rank) for rank in range(len(FUNNEL))),
        latency=Moments(len(logs), sum(logs), sum(value * value for value in logs)),
        slow=sum(value > log(slo_ms * 1000) for value in logs),
    )


def integrity_units(phases: Iterable[Mapping[str, Outcome]], treatment: str) -> int:
    """Distinct units of the treatment that refused files as not genuine, assigned or not."""
    return len({unit for phase in phases for unit, each in phase.items() if each.integrity and each.arm == treatment})
