"""From counted cells (phase x arm x device class) to evidence for the policy and to what people read. Pure.

Every share is of the units assigned, also of those that never got the new version: whoever compares only devices that
activated compares survivors. Phases are compared within themselves and then combined by their size, so that a changed
split is no effect. Only phases of the same versions are combined.

| guardrail    | measured on                                                                             |
|--------------|-----------------------------------------------------------------------------------------|
| crash        | units whose process died loading or first running a version, or that gave it up         |
| load_failure | units on which it did not load, or failed its sanity vectors                            |
| fallback     | units that ran an earlier or the embedded model instead                                 |
| funnel       | units that failed on the way to the first inference and did not overcome it, or are lost|
| latency      | mean of the devices' log p95                                                            |
| slow         | share of the devices with a p95, whose p95 is above the SLO                             |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, inf
from statistics import NormalDist
from typing import Any

from experiments.funnel import FUNNEL
from experiments.policy import Evidence, Finding, Guardrail, Measure, Policy, tripped_classes
from experiments.statistics import rare, sequences
from experiments.statistics.balance import Balance, balance, drill_down
from experiments.statistics.combining import heterogeneity, pool_small, size_weighted
from experiments.statistics.estimates import (
    Estimate,
    Interval,
    Moments,
    PairedMoments,
    cuped_where_known,
    newcombe,
    welch,
)
from experiments.statistics.multiplicity import benjamini_hochberg, holm, split_alpha

PRIMARY = ("crash", "funnel")
# What a device shows in each phase anew; the others tell of a version that it gets once.
LASTING = ("latency", "slow")
Pair = tuple[Moments, Moments]
NO_MOMENTS = Moments(0, 0.0, 0.0)
NO_PAIRS = PairedMoments(NO_MOMENTS, NO_MOMENTS, 0.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """Units of one phase, arm and class. `reached`, `failed` and `lost` by stage of the funnel.

    `paired`: latency of the units that have one from before the experiment too, beside that one.
    """

    units: int = 0
    crashed: int = 0
    load_failed: int = 0
    fell_back: int = 0
    integrity: int = 0
    reached: tuple[int, ...] = (0,) * len(FUNNEL)
    failed: tuple[int, ...] = (0,) * len(FUNNEL)
    lost: tuple[int, ...] = (0,) * len(FUNNEL)
    latency: Moments = NO_MOMENTS
    slow: int = 0
    paired: PairedMoments = NO_PAIRS

    def __add__(self, other: Cell) -> Cell:
        return Cell(
            self.units + other.units,
            self.crashed + other.crashed,
            self.load_failed + other.load_failed,
            self.fell_back + other.fell_back,
            self.integrity + other.integrity,
            _added(self.reached, other.reached),
            _added(self.failed, other.failed),
            _added(self.lost, other.lost),
            self.latency + other.latency,
            self.slow + other.slow,
            self.paired + other.paired,
        )

    def moments(self, guardrail: str) -> Moments:
        """Of the value that the guardrail is about, over units; a share's events are its total."""
        if guardrail == "latency":
            return self.latency
        if guardrail == "slow":
            return Moments.of_share(self.latency.n, self.slow)
        events = {
            "crash": self.crashed,
            "load_failure": self.load_failed,
            "fallback": self.fell_back,
            "funnel": sum(self.failed) + sum(self.lost),
        }[guardrail]
        return Moments.of_share(self.units, min(self.units, events))


def _added(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=True))


@dataclass(frozen=True)
class PhaseCounts:
    """`cells` by (arm, class). `shares`: parts of the units that the arms should have, those above 0."""

    cells: Mapping[tuple[str, str], Cell]
    shares: Mapping[str, float]

    def cell(self, arm: str, classes: Iterable[str]) -> Cell:
        return sum((self.cells.get((arm, name), Cell()) for name in classes), Cell())


@dataclass(frozen=True)
class Counted:
    """`phases`: those that compare the present versions, the present one last. `groups`: of the present phase, units by
    arm (in the order of `shares`) for each OS and app version. `tiers` of classes that are too small.
    """

    phases: Sequence[PhaseCounts]
    control: str
    treatments: Sequence[str]
    halted_classes: tuple[str, ...] = ()
    groups: Mapping[str, Sequence[int]] = field(default_factory=dict)
    tiers: Mapping[str, str] = field(default_factory=dict)
    integrity_units: int = 0
    silent_seconds: float = 0.0
    is_halted: bool = False

    @property
    def present(self) -> PhaseCounts:
        return self.phases[-1]

    @property
    def classes(self) -> list[str]:
        return sorted({name for phase in self.phases for _, name in phase.cells})

    @property
    def live(self) -> list[str]:
        """Classes that are not halted."""
        return [name for name in self.classes if name not in self.halted_classes]

    @property
    def smallest_arm(self) -> int:
        """Units of the smallest arm that the present phase gives any buckets, without those of halted classes."""
        counts = [self.present.cell(arm, self.live).units for arm in self.present.shares]
        return min(counts, default=0)


def evidence_of(counted: Counted, policy: Policy) -> Evidence:
    """Classes first: one that is to be halted at this look is left out of the whole, which then may be healthy."""
    live = counted.live
    by_class = {name: _class_findings(counted, policy, name, len(live)) for name in live}
    # Harm in every class is no matter of classes: then the whole is judged.
    rest = [name for name in live if name not in tripped_classes(by_class, policy)] or live
    mismatch = srm(counted, live)
    return Evidence(
        overall=findings(counted, policy, rest),
        by_class=by_class,
        halted_classes=counted.halted_classes,
        srm_p_value=mismatch.p_value if mismatch else 1.0,
        srm_factor=mismatch.factor if mismatch else 1.0,
        srm_suspects=tuple(name for name, _ in suspects(counted, live)) if mismatch else (),
        integrity_units=counted.integrity_units,
        silent_seconds=counted.silent_seconds,
    )


def findings(counted: Counted, policy: Policy, classes: Sequence[str], divisor: int = 1) -> list[Finding]:
    """Every guardrail of every treatment over `classes`; alpha is shared among them and `divisor` groups of classes."""
    alphas = split_alpha(policy.alpha, {rule.name: rule.weight for rule in policy.guardrails})
    parts = divisor * len(counted.treatments)
    several = len(counted.treatments) > 1
    return [
        replace(found, arm=arm) if several else found
        for arm in counted.treatments
        for rule in policy.guardrails
        for found in [_finding(counted, policy, rule, arm, classes, alphas[rule.name] / parts)]
    ]


def _class_findings(counted: Counted, policy: Policy, name: str, classes: int) -> list[Finding]:
    rules = tuple(rule for rule in policy.guardrails if rule.class_action is not None)
    wanted = {rule.name for rule in rules}
    return [each for each in findings(counted, policy, [name], classes) if each.guardrail in wanted]


def _finding(
    counted: Counted, policy: Policy, rule: Guardrail, arm: str, classes: Sequence[str], alpha: float
) -> Finding:
    pairs = _pairs(counted, rule, arm, classes)
    present = pairs[-1][0]
    is_share = rule.measure is not Measure.LOG_MEAN
    facts = (present.n, round(present.total) if is_share else None)
    if rule.measure is Measure.RATIO:
        strata = [rare.Counts(round(t.total), round(c.total), t.n, c.n) for t, c in pairs]
        whole = _sum_counts(strata)
        return Finding(rule.name, whole.ratio, rare.lower_bound(strata, alpha), whole.events > 0, *facts)
    estimate = _combined(pairs, rule)
    bound = sequences.lower_bound(estimate, alpha, 2 * policy.planned_units)
    return Finding(rule.name, estimate.value, bound, _is_enough(pairs, is_share=is_share), *facts)


def _pairs(counted: Counted, rule: Guardrail, arm: str, classes: Sequence[str]) -> list[Pair]:
    """Treatment and control in each phase."""
    cells = [[phase.cell(each, classes) for each in (arm, counted.control)] for phase in counted.phases]
    return [(treatment.moments(rule.name), control.moments(rule.name)) for treatment, control in cells]


def _sum_counts(strata: Sequence[rare.Counts]) -> rare.Counts:
    return rare.Counts(
        sum(each.treatment_events for each in strata),
        sum(each.control_events for each in strata),
        sum(each.treatment_units for each in strata),
        sum(each.control_units for each in strata),
    )


def _is_enough(pairs: Sequence[Pair], *, is_share: bool) -> bool:
    units = (sum(t.n for t, _ in pairs), sum(c.n for _, c in pairs))
    if not is_share:
        return sequences.is_enough(units)
    events = sum(t.total + c.total for t, c in pairs)
    return sequences.is_enough(units, round(min(events, sum(units) - events)))


def srm(counted: Counted, classes: Sequence[str]) -> Balance | None:
    """Of the present phase at `assigned`. None with one arm, and while halted: the treatment then takes nobody new."""
    shares = counted.present.shares
    if len(shares) < 2 or counted.is_halted:  # noqa: PLR2004  # two arms to compare
        return None
    return balance([counted.present.cell(arm, classes).units for arm in shares], list(shares.values()))


def suspects(counted: Counted, classes: Sequence[str]) -> list[tuple[str, Balance]]:
    """Which OS, app version or class is out of balance, worst first."""
    shares = counted.present.shares
    by_class = {f"class {name}": [counted.present.cell(arm, [name]).units for arm in shares] for name in classes}
    return drill_down({**counted.groups, **by_class}, list(shares.values()))


# -- what people read


def results(counted: Counted, policy: Policy) -> dict[str, Any]:
    """Everything that pages and the API show of one look, as JSON."""
    live = counted.live
    mismatch = srm(counted, live)
    return {
        "arms": {arm: _told_arm(counted.present.cell(arm, counted.classes)) for arm in _arms(counted)},
        "srm": None
        if mismatch is None
        else {
            "p_value": mismatch.p_value,
            "factor": mismatch.factor,
            "counts": dict(zip(counted.present.shares, mismatch.counts, strict=True)),
            "shares": dict(counted.present.shares),
            "suspects": [name for name, _ in suspects(counted, live)],
        },
        "metrics": [
            _told_metric(counted, policy, rule, arm, live) for arm in counted.treatments for rule in policy.guardrails
        ],
        "final": final_read(counted, policy, live),
        "integrity_units": counted.integrity_units,
        "silent_seconds": counted.silent_seconds,
        "phases": len(counted.phases),
    }


def _arms(counted: Counted) -> list[str]:
    return [counted.control, *counted.treatments]


def _told_arm(cell: Cell) -> dict[str, Any]:
    return {
        "units": cell.units,
        "funnel": [
            {"stage": stage, "reached": reached, "failed": failed, "lost": lost}
            for stage, reached, failed, lost in zip(FUNNEL, cell.reached, cell.failed, cell.lost, strict=True)
        ],
        "crashed": cell.crashed,
        "load_failed": cell.load_failed,
        "fell_back": cell.fell_back,
        "slow": cell.slow,
        "latency_units": cell.latency.n,
        "p95_ms": exp(cell.latency.mean) / 1000 if cell.latency.n else None,
    }


def _told_metric(counted: Counted, policy: Policy, rule: Guardrail, arm: str, classes: Sequence[str]) -> dict[str, Any]:
    """`harm` with what it is within at any look, and per class (small ones in their tier) with heterogeneity."""
    alphas = split_alpha(policy.alpha, {each.name: each.weight for each in policy.guardrails})
    found = _finding(counted, policy, rule, arm, classes, alphas[rule.name] / len(counted.treatments))
    estimate = _estimate(counted, rule, arm, classes)
    low, high = sequences.interval(estimate, policy.alpha, 2 * policy.planned_units)
    rows = {name: _estimate(counted, rule, arm, members) for name, members in _tiers(counted, policy, arm, classes)}
    spread = heterogeneity(list(rows.values()))
    return {
        "name": rule.name,
        "arm": arm,
        "measure": rule.measure.value,
        "margin": rule.margin,
        "harm": found.harm,
        "bound": _finite(found.bound),
        "is_enough": found.is_enough,
        "is_dry_run": rule.is_dry_run,
        "difference": estimate.value,
        "interval": [_finite(low), _finite(high)],
        "by_class": {
            name: {"difference": each.value, "standard_error": _finite(each.standard_error), "units": each.n}
            for name, each in rows.items()
        },
        "heterogeneity": {"p_value": spread.p_value, "i_squared": spread.i_squared},
    }


def _estimate(counted: Counted, rule: Guardrail, arm: str, classes: Sequence[str]) -> Estimate:
    """Points of a share, a rare event's too, or log of a ratio: combined over phases."""
    return _combined(_pairs(counted, rule, arm, classes), rule)


def _combined(pairs: Sequence[Pair], rule: Guardrail) -> Estimate:
    return size_weighted(pairs, is_share=rule.measure is not Measure.LOG_MEAN, is_lasting=rule.name in LASTING)


def _tiers(counted: Counted, policy: Policy, arm: str, classes: Sequence[str]) -> list[tuple[str, list[str]]]:
    units = {
        name: min(sum(phase.cell(each, [name]).units for phase in counted.phases) for each in (arm, counted.control))
        for name in classes
    }
    group_of = pool_small(units, counted.tiers, policy.least_class_units)
    return [(group, [name for name in classes if group_of[name] == group]) for group in sorted(set(group_of.values()))]


def final_read(counted: Counted, policy: Policy, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Fixed-horizon intervals, for whoever planned one look at the end: Holm on the primaries, BH on the rest.

    Latency is adjusted by what the same units measured before the experiment (CUPED); `cuped` tells how much of the
    variance that took away, for how many units, and what stands there without it.
    """
    read = [
        (arm, rule.name, _fixed(_final_pairs(counted, rule, arm, classes), rule))
        for arm in counted.treatments
        for rule in policy.guardrails
    ]
    rules = {rule.name: rule for rule in policy.guardrails}
    adjusted: dict[int, float] = {}
    for is_primary, method in ((True, holm), (False, benjamini_hochberg)):
        places = [place for place, (_, name, _) in enumerate(read) if (name in PRIMARY) is is_primary]
        adjusted |= dict(zip(places, method([read[place][2].p_value for place in places]), strict=True))
    return [
        {
            "name": name,
            "arm": arm,
            "is_primary": name in PRIMARY,
            "difference": found.value,
            "interval": [_finite(found.lower), _finite(found.upper)],
            "p_value": found.p_value,
            "adjusted_p_value": adjusted[place],
            "cuped": _told_cuped(counted, rules[name], arm, classes) if name == "latency" else None,
        }
        for place, (arm, name, found) in enumerate(read)
    ]


def _final_pairs(counted: Counted, rule: Guardrail, arm: str, classes: Sequence[str]) -> list[Pair]:
    if rule.name != "latency":
        return _pairs(counted, rule, arm, classes)
    cells = [[phase.cell(each, classes) for each in (arm, counted.control)] for phase in counted.phases]
    return [cuped_where_known(t.latency, c.latency, t.paired, c.paired) for t, c in cells]


def _told_cuped(counted: Counted, rule: Guardrail, arm: str, classes: Sequence[str]) -> dict[str, Any]:
    plain, adjusted = _pairs(counted, rule, arm, classes), _final_pairs(counted, rule, arm, classes)
    found = _fixed(plain, rule)
    errors = [_combined(pairs, rule).standard_error for pairs in (plain, adjusted)]
    arms = (arm, counted.control)
    return {
        "variance_reduction": 1 - (errors[1] / errors[0]) ** 2 if 0 < errors[0] < inf else 0.0,
        "units": sum(phase.cell(each, classes).paired.y.n for phase in counted.phases for each in arms),
        "plain_difference": found.value,
        "plain_interval": [_finite(found.lower), _finite(found.upper)],
    }


def _fixed(pairs: Sequence[Pair], rule: Guardrail) -> Interval:
    is_share = rule.measure is not Measure.LOG_MEAN
    if len(pairs) == 1:
        return newcombe(*pairs[0]) if is_share else welch(*pairs[0])
    combined = _combined(pairs, rule)
    if combined.standard_error in (0.0, inf):
        return Interval(combined.value, -inf, inf, 1.0)
    half = NormalDist().inv_cdf(0.975) * combined.standard_error
    p_value = 2 * NormalDist().cdf(-abs(combined.value) / combined.standard_error)
    return Interval(combined.value, combined.value - half, combined.value + half, p_value)


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return None if abs(value) == inf or value != value else value  # noqa: PLR0124  # NaN
