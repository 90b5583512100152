"""Which harm a plan would see, step by step, before anything starts. Pure.

A guardrail trips when its bound is above the margin. Told is the least harm that does so with a chance of `POWER` at
one look with all units of the step, by the bounds of `experiments.statistics.sequences` and `rare`.

| left aside                                      | so that in truth         |
|-------------------------------------------------|--------------------------|
| what earlier steps have measured already        | a little more is seen    |
| looks before the step has all its units         | a little more            |
| holdback, overrides, devices of no common class | a little less            |

Shares lie in 0..1; the harm of a ratio is the ratio itself, that of a mean the difference of logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, lgamma, log, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

from experiments.bucketing import BUCKETS
from experiments.policy import Guardrail, Measure, Policy
from experiments.statistics.multiplicity import split_alpha
from experiments.statistics.sequences import LEAST_POOLED_EVENTS, LEAST_UNITS_PER_ARM, one_sided_width

if TYPE_CHECKING:
    from experiments.ramps import Ranges

POWER = 0.8
# Of a model that nothing was measured of; what a healthy app shows, not the best one can hope for.
ASSUMED = {"crash": 0.002, "load_failure": 0.005, "fallback": 0.01, "funnel": 0.03, "slow": 0.05}
ASSUMED_DEVIATION = 0.5
MOST_UNITS = 10**8
# The prior of `experiments.statistics.rare`, which imports scipy and so is for the worker alone.
PRIOR_RATIO, PRIOR_EVENTS = 2.0, 20.0
_HALVINGS = 60
_MOST_LOG = 20.0


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the control does: its share for each guardrail on a share, and the deviation of one device's log p95.

    `units`: how many it was measured on; 0 for what is only assumed.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: dict(ASSUMED))
    log_deviation: float = ASSUMED_DEVIATION
    units: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """One step: arms that a part of all units falls into (0..1), and the units its plan asks of the smallest arm."""

    percent_bp: int
    treatment_part: float
    control_part: float
    min_units: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """One guardrail at one step. `harm` None: whatever happens, it would not trip; `why_not` says why."""

    guardrail: str
    measure: Measure
    harm: float | None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """`is_reachable` false: the step's arms cannot have the units that its plan asks for."""

    percent_bp: int
    treatment_units: int
    control_units: int
    min_units: int
    is_reachable: bool
    sights: tuple[Sight, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """Units of each arm for which a harm of twice the margin trips. None: not even `MOST_UNITS` would do."""

    guardrail: str
    measure: Measure
    harm: float
    units: int | None


def planned(percent_bp: int, ranges: Mapping[str, Ranges], control: str, part: float, min_units: int = 0) -> Planned:
    """A step from the bucket ranges of its arms; `part`: of all units that fall into the experiment's layer range.

    With several treatments the smallest one counts.
    """
    sizes = {name: sum(end - first for first, end in spans) / BUCKETS for name, spans in ranges.items()}
    treatment = min(size for name, size in sizes.items() if name != control)
    return Planned(percent_bp, part * treatment, part * sizes[control], min_units)


def detectable(
    steps: Sequence[Planned], units: int, policy: Policy, baseline: Baseline, *, treatments: int = 1
) -> list[Step]:
    """For each step and guardrail the least harm that trips. `units`: all that are known."""
    return [_step(step, units, policy, baseline, treatments) for step in steps]


def needed(policy: Policy, baseline: Baseline, *, treatments: int = 1) -> list[Need]:
    """Equal arms that are large enough to see twice each guardrail's margin."""
    alphas = _alphas(policy, treatments)
    return [
        Need(rule.name, rule.measure, _twice(rule), _least_units(rule, alphas[rule.name], policy, baseline))
        for rule in policy.guardrails
    ]


def _alphas(policy: Policy, treatments: int) -> dict[str, float]:
    parts = split_alpha(policy.alpha, {rule.name: rule.weight for rule in policy.guardrails})
    return {name: alpha / treatments for name, alpha in parts.items()}


def _twice(rule: Guardrail) -> float:
    """A ratio of 1 is no harm at all: twice as many crashes as the margin allows. Otherwise twice the margin."""
    return 2 * rule.margin


def _step(step: Planned, units: int, policy: Policy, baseline: Baseline, treatments: int) -> Step:
    arms = round(units * step.treatment_part), round(units * step.control_part)
    alphas = _alphas(policy, treatments)
    sights = tuple(_sight(rule, arms, alphas[rule.name], policy, baseline) for rule in policy.guardrails)
    smallest = min([each for each, part in zip(arms, _parts(step), strict=True) if part > 0], default=0)
    return Step(step.percent_bp, *arms, step.min_units, smallest >= step.min_units, sights)


def _parts(step: Planned) -> tuple[float, float]:
    return step.treatment_part, step.control_part


def _sight(rule: Guardrail, arms: tuple[int, int], alpha: float, policy: Policy, baseline: Baseline) -> Sight:
    if not any(arms):
        return Sight(rule.name, rule.measure, None, "not one unit to expect")
    if not arms[1]:
        return Sight(rule.name, rule.measure, None, "no control is left to compare with")
    if not arms[0]:
        return Sight(rule.name, rule.measure, None, "no unit gets the treatment")
    if rule.measure is not Measure.RATIO and min(arms) < LEAST_UNITS_PER_ARM:
        return Sight(rule.name, rule.measure, None, f"counts from {LEAST_UNITS_PER_ARM} units an arm on")
    harm = least_harm(rule, arms, alpha, policy, baseline)
    return Sight(rule.name, rule.measure, harm, "" if harm is not None else "too few units, whatever happens")


def least_harm(
    rule: Guardrail, arms: tuple[int, int], alpha: float, policy: Policy, baseline: Baseline
) -> float | None:
    """The least harm that trips with a chance of `POWER`; `arms`: units of treatment and control. None: none does."""
    if min(arms) < 1:
        return None
    if rule.measure is Measure.RATIO:
        return _least_ratio(rule, arms, alpha, baseline)
    if min(arms) < LEAST_UNITS_PER_ARM:
        return None
    n = sum(arms)
    deviations = one_sided_width(n, alpha, 2 * policy.planned_units) * sqrt(n) + NormalDist().inv_cdf(POWER)
    if rule.measure is Measure.LOG_MEAN:
        return rule.margin + deviations * baseline.log_deviation * sqrt(1 / arms[0] + 1 / arms[1])
    share = baseline.shares[rule.name]
    least = _least(share, 1.0, lambda treatment: _is_seen(treatment, share, arms, rule.margin, deviations))
    return None if least is None else least - share


def _least_ratio(rule: Guardrail, arms: tuple[int, int], alpha: float, baseline: Baseline) -> float | None:
    share = baseline.shares[rule.name]
    if not share:
        return None
    wanted = log(1 / alpha)
    return _least(rule.margin, 1 / share, lambda ratio: _evidence(ratio, share, arms, rule.margin) >= wanted)


def _evidence(ratio: float, share: float, arms: tuple[int, int], margin: float) -> float:
    """Logarithm of what `experiments.statistics.rare` finds at the likeliest counts that are as poor as 1 - `POWER`.

    Counts are taken for Poisson, and the prior for whole: cut at the null, as it is there, it says hardly more.
    """
    expected, of_control = ratio * share * arms[0], share * arms[1]
    scale = arms[0] / arms[1] * margin
    deviation = sqrt(expected + of_control * scale**2)
    poorer = NormalDist().inv_cdf(POWER) / deviation
    events = max(0.0, expected - poorer * expected), of_control + poorer * of_control * scale
    null, centre = (each * arms[0] / (each * arms[0] + arms[1]) for each in (margin, PRIOR_RATIO * margin))
    a, b = PRIOR_EVENTS * centre, PRIOR_EVENTS * (1 - centre)
    likelihood = events[0] * log(null) + events[1] * log(1 - null)
    return _log_beta(a + events[0], b + events[1]) - _log_beta(a, b) - likelihood


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _is_seen(treatment: float, control: float, arms: tuple[int, int], margin: float, deviations: float) -> bool:
    """Enough events, or non-events, and a difference that lies so many standard errors above the margin."""
    events = treatment * arms[0] + control * arms[1]
    if min(events, sum(arms) - events) < LEAST_POOLED_EVENTS:
        return False
    spread = 0.0
    for share, units in zip((treatment, control), arms, strict=True):  # Agresti-Caffo, as `estimates` has it
        drawn = (share * units + 1) / (units + 2)
        spread += drawn * (1 - drawn) / (units + 2)
    return treatment - control - margin >= deviations * sqrt(spread)


def _least(low: float, high: float, is_seen: Callable[[float], bool]) -> float | None:
    """Where `is_seen` begins to hold between two values, to 60 halvings; None if it does not hold at the upper."""
    if not is_seen(high):
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return high


def _least_units(rule: Guardrail, alpha: float, policy: Policy, baseline: Baseline) -> int | None:
    """By halving: more units always see a smaller harm."""
    wanted = _twice(rule)

    def is_enough(units: int) -> bool:
        harm = least_harm(rule, (units, units), alpha, policy, baseline)
        return harm is not None and harm <= wanted

    if not is_enough(MOST_UNITS):
        return None
    low, high = 0, MOST_UNITS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def in_words(measure: Measure, harm: float) -> str:
    """E.g. `3.1 × control's`, `+1.42 points`, `+12 %` of a mean that is compared by its logarithm."""
    if measure is Measure.RATIO:
        return f"{harm:.1f} × control's"
    if measure is Measure.SHARE:
        return f"+{harm * 100:.2f} points"
    return f"+{(exp(min(harm, _MOST_LOG)) - 1) * 100:.0f} %"
