"""From what was measured and a policy to a verdict with reasons in words. Pure.

| rule            | when                                                                 | action                   |
|-----------------|----------------------------------------------------------------------|--------------------------|
| integrity       | verification failures of the treatment from 20 distinct units or more| rollback                 |
| integrity       | from fewer: events can be forged                                     | hold                     |
| guardrail       | bound above its margin                                               | the guardrail's          |
| guardrail       | bound above twice its margin                                         | the guardrail's for severe|
| guardrail       | bound above its margin within a class                                | halt that class          |
| classes         | three classes or more are halted                                     | halt                     |
| ceiling         | the treatment's share above a fixed limit, whatever the control does | halt                     |
| srm             | factor above 1000                                                    | halt                     |
| srm             | chi-square p below 0.001                                             | hold                     |
| no data         | none for 24 h, or none at all 24 h after the phase began             | hold                     |
| analysis errors | four in a row                                                        | hold                     |
| progress        | time, sample (never less than one unit) or approval is missing       | inconclusive             |
| –               | otherwise                                                            | advance                  |

The worst action wins: rollback, halt, halt_class, hold, inconclusive, advance. All reasons are told, worst first.
A step that is not monitored asks for its time and approval only: of the rules above `hold` and the sample are passed
over, stopping is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from math import expm1, log
from typing import Any, NamedTuple

DAY_SECONDS = 86_400.0
_MOST_LOG = 20.0


class Action(StrEnum):
    """Best first."""

    ADVANCE = "advance"
    INCONCLUSIVE = "inconclusive"
    HOLD = "hold"
    HALT_CLASS = "halt_class"
    HALT = "halt"
    ROLLBACK = "rollback"

    @property
    def severity(self) -> int:
        return list(Action).index(self)


class Measure(StrEnum):
    """What a margin is of: points of a share (0..1), log of a ratio of means, ratio of the rates of a rare event."""

    SHARE = "share"
    LOG_MEAN = "log_mean"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class Guardrail:
    """Harm that the treatment must not do. `weight` is its part of alpha; `ceiling` a share of the treatment's units.

    `severe_action` is taken above twice the margin, `class_action` above the margin within one device class; None:
    there is no such rule. `is_dry_run`: it is measured and told, and changes nothing.
    """

    name: str
    measure: Measure
    margin: float
    action: Action
    weight: float = 1.0
    severe_action: Action | None = None
    class_action: Action | None = None
    ceiling: float | None = None
    is_dry_run: bool = False


DEFAULT_GUARDRAILS = (
    Guardrail("crash", Measure.RATIO, 1.0, Action.ROLLBACK, 5.0, class_action=Action.HALT_CLASS, ceiling=0.05),
    Guardrail("load_failure", Measure.SHARE, 0.01, Action.HALT, class_action=Action.HALT_CLASS, ceiling=0.10),
    Guardrail("fallback", Measure.SHARE, 0.01, Action.HALT, class_action=Action.HALT_CLASS, ceiling=0.10),
    Guardrail("funnel", Measure.SHARE, 0.02, Action.HOLD),
    Guardrail("latency", Measure.LOG_MEAN, log(1.10), Action.HOLD, severe_action=Action.ROLLBACK),
    Guardrail("slow", Measure.SHARE, 0.02, Action.HOLD, severe_action=Action.ROLLBACK),
)


@dataclass(frozen=True, slots=True)
class Policy:
    """`slo_ms`: a device whose p95 is above it counts as slow. `planned_units`: where bounds are narrowest, per arm."""

    alpha: float = 0.05
    guardrails: tuple[Guardrail, ...] = DEFAULT_GUARDRAILS
    slo_ms: int = 100
    planned_units: int = 10_000
    least_class_units: int = 200
    integrity_units: int = 20
    ceiling_events: int = 20
    classes_to_halt_all: int = 3
    silence_seconds: float = DAY_SECONDS
    errors_in_row: int = 4
    srm_warning: float = 0.001
    srm_halt: float = 1000.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One guardrail measured, overall or in a class. `harm` is the estimate and `bound` what it is above at any look.

    `is_enough` false: too little data for the bound to be trusted. `arm` is told where there are several treatments.
    """

    guardrail: str
    harm: float
    bound: float
    is_enough: bool
    treatment_units: int = 0
    treatment_events: int | None = None
    arm: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known at one look. `overall` leaves out the classes that are halted or are to be halted now.

    `silent_seconds`: since the last event that reached an arm, or since the phase opened if there was none.
    """

    overall: Sequence[Finding] = ()
    by_class: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    halted_classes: tuple[str, ...] = ()
    srm_p_value: float = 1.0
    srm_factor: float = 1.0
    srm_suspects: tuple[str, ...] = ()
    integrity_units: int = 0
    silent_seconds: float = 0.0
    errors_in_row: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What the present step of the plan asks for, and what there is of it. `units` are of the treatment, assigned."""

    seconds: float = 0.0
    hold_seconds: float = 0.0
    units: int = 0
    min_units: int = 0
    is_approval_missing: bool = False
    is_monitored: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """`classes`: those to be halted now. `reasons`: worst first, never empty."""

    action: Action
    reasons: tuple[str, ...]
    classes: tuple[str, ...] = ()


class Ruling(NamedTuple):
    action: Action
    reason: str
    device_class: str = ""


def judge(evidence: Evidence, progress: Progress, policy: Policy) -> Verdict:
    """The table above, applied."""
    rulings = list(_rulings(evidence, policy))
    if not progress.is_monitored:
        rulings = [ruling for ruling in rulings if ruling.action is not Action.HOLD]
    rulings += _missing(progress)
    rulings.sort(key=lambda ruling: -ruling.action.severity)
    if not rulings:
        return Verdict(Action.ADVANCE, ("no guardrail speaks against it",))
    classes = tuple(sorted({ruling.device_class for ruling in rulings} - {""}))
    return Verdict(rulings[0].action, tuple(ruling.reason for ruling in rulings), classes)


def tripped_classes(by_class: Mapping[str, Sequence[Finding]], policy: Policy) -> tuple[str, ...]:
    """Classes that a guardrail halts at this look, by name."""
    return tuple(sorted({ruling.device_class for ruling in _class_rulings(by_class, policy)}))


def _rulings(evidence: Evidence, policy: Policy) -> Iterator[Ruling]:
    yield from _integrity(evidence, policy)
    for finding in evidence.overall:
        yield from _guardrail(finding, policy)
    by_class = {name: each for name, each in evidence.by_class.items() if name not in evidence.halted_classes}
    tripped = list(_class_rulings(by_class, policy))
    yield from tripped
    yield from _many_classes({*evidence.halted_classes, *(each.device_class for each in tripped)}, policy)
    yield from _balance(evidence, policy)
    if evidence.silent_seconds >= policy.silence_seconds:
        yield Ruling(Action.HOLD, f"no data for {evidence.silent_seconds / 3600:.0f} h")
    if evidence.errors_in_row >= policy.errors_in_row:
        yield Ruling(Action.HOLD, f"the analysis failed {evidence.errors_in_row} times in a row")


def _integrity(evidence: Evidence, policy: Policy) -> Iterator[Ruling]:
    units = evidence.integrity_units
    if units >= policy.integrity_units:
        yield Ruling(Action.ROLLBACK, f"integrity: {units} units refused files of the treatment as not genuine")
    elif units:
        told = f"integrity: {units} of {policy.integrity_units} units refused files of the treatment: look into it"
        yield Ruling(Action.HOLD, told)


def _guardrail(finding: Finding, policy: Policy) -> Iterator[Ruling]:
    rule = _rule(finding, policy)
    if rule is None:
        return
    events = finding.treatment_events
    if rule.ceiling is not None and events is not None and events >= policy.ceiling_events:
        share = events / max(1, finding.treatment_units)
        if share > rule.ceiling:
            told = f"{share * 100:.1f} % of the treatment, the ceiling is {rule.ceiling * 100:.1f} %"
            yield Ruling(Action.HALT, f"{_name(rule, finding)}: {told}")
    if not finding.is_enough or finding.bound <= rule.margin:
        return
    severe = rule.severe_action if finding.bound > 2 * rule.margin else None
    yield Ruling(severe or rule.action, _told(rule, finding, " twice" if severe else ""))


def _class_rulings(by_class: Mapping[str, Sequence[Finding]], policy: Policy) -> Iterator[Ruling]:
    for name, findings in by_class.items():
        for finding in findings:
            rule = _rule(finding, policy)
            if rule is None or rule.class_action is None or not finding.is_enough or finding.bound <= rule.margin:
                continue
            is_halt = rule.class_action is Action.HALT_CLASS
            yield Ruling(rule.class_action, f"{name}: {_told(rule, finding)}", name if is_halt else "")


def _rule(finding: Finding, policy: Policy) -> Guardrail | None:
    return next((rule for rule in policy.guardrails if rule.name == finding.guardrail and not rule.is_dry_run), None)


def _many_classes(halted: set[str], policy: Policy) -> Iterator[Ruling]:
    if len(halted) >= policy.classes_to_halt_all:
        told = f"{len(halted)} classes are halted ({', '.join(sorted(halted))}), {policy.classes_to_halt_all} halt all"
        yield Ruling(Action.HALT, told)


def _balance(evidence: Evidence, policy: Policy) -> Iterator[Ruling]:
    where = f"; most in {', '.join(evidence.srm_suspects)}" if evidence.srm_suspects else ""
    if evidence.srm_factor > policy.srm_halt:
        yield Ruling(Action.HALT, f"sample ratio mismatch: factor {evidence.srm_factor:.3g}{where}")
    elif evidence.srm_p_value < policy.srm_warning:
        yield Ruling(Action.HOLD, f"sample ratio mismatch: p {evidence.srm_p_value:.2g}{where}")


def _missing(progress: Progress) -> Iterator[Ruling]:
    if progress.seconds < progress.hold_seconds:
        hours = f"{progress.seconds / 3600:.1f} of {progress.hold_seconds / 3600:.1f} h"
        yield Ruling(Action.INCONCLUSIVE, f"the step's time is not over: {hours}")
    # Without a single unit nothing was measured, whatever the plan asks for.
    least = max(1, progress.min_units)
    if progress.is_monitored and progress.units < least:
        told = f"the sample is too small: {progress.units} of {least} units"
        yield Ruling(Action.INCONCLUSIVE, told)
    if progress.is_approval_missing:
        yield Ruling(Action.INCONCLUSIVE, "the next step waits for approval")


def _told(rule: Guardrail, finding: Finding, times: str = "") -> str:
    """E.g. `crash: 3.1 times the control's, at least 1.4; the margin is 1`."""
    if rule.measure is Measure.RATIO:
        numbers = f"{finding.harm:.2f} times the control's, at least {finding.bound:.2f}; above{times} the margin of "
        return f"{_name(rule, finding)}: {numbers}{rule.margin:g}"
    if rule.measure is Measure.SHARE:
        numbers = f"{finding.harm * 100:+.2f} points, at least {finding.bound * 100:+.2f}; above{times} the margin of "
        return f"{_name(rule, finding)}: {numbers}{rule.margin * 100:.2f}"
    harm, bound, margin = (expm1(min(each, _MOST_LOG)) * 100 for each in (finding.harm, finding.bound, rule.margin))
    return f"{_name(rule, finding)}: {harm:+.1f} %, at least {bound:+.1f} %; above{times} the margin of {margin:.1f} %"


def _name(rule: Guardrail, finding: Finding) -> str:
    return f"{rule.name} of {finding.arm}" if finding.arm else rule.name


_NUMBERS = {item.name for item in fields(Policy)} - {"guardrails"}
_SHARES = ("alpha", "srm_warning")
# Of the whole: harm that is no class's halts none.
_ACTIONS = (Action.HOLD, Action.HALT, Action.ROLLBACK)


def policy_from_json(document: Mapping[str, Any]) -> Policy:
    """The default policy with what `document` changes. Raises ValueError saying what was expected.

    `{"slo_ms": 50, "guardrails": {"crash": {"margin": 1.5}, "latency": {"is_dry_run": true}}}`
    """
    unknown = set(document) - _NUMBERS - {"guardrails"}
    if unknown:
        expected = ", ".join(sorted(_NUMBERS | {"guardrails"}))
        raise ValueError(f"policy: expected members of {expected}, got {', '.join(sorted(unknown))}")
    numbers = {name: _policy_number(name, document[name]) for name in _NUMBERS & set(document)}
    rules = document.get("guardrails", {})
    if not isinstance(rules, Mapping):
        raise ValueError(f"policy.guardrails: expected an object, got {rules!r}")  # noqa: TRY004  # the document's fault
    known = {rule.name: rule for rule in DEFAULT_GUARDRAILS}
    strangers = set(rules) - set(known)
    if strangers:
        raise ValueError(f"policy.guardrails: expected some of {', '.join(known)}, got {', '.join(sorted(strangers))}")
    changed = tuple(_changed(rule, rules.get(rule.name, {})) for rule in DEFAULT_GUARDRAILS)
    return replace(Policy(), guardrails=changed, **numbers)


def _changed(rule: Guardrail, document: object) -> Guardrail:
    at = f"policy.guardrails.{rule.name}"
    if not isinstance(document, Mapping):
        raise ValueError(f"{at}: expected an object, got {document!r}")  # noqa: TRY004  # the document's fault
    changes: dict[str, Any] = {}
    for name, value in document.items():
        if name == "ceiling" or (name == "margin" and rule.measure is Measure.SHARE):
            changes[name] = _share(f"{at}.{name}", value)
        elif name in ("margin", "weight"):
            changes[name] = _number(f"{at}.{name}", value)
        elif name == "class_action":
            changes[name] = _action(f"{at}.{name}", value, (*_ACTIONS, Action.HALT_CLASS))
        elif name in ("action", "severe_action"):
            changes[name] = _action(f"{at}.{name}", value, _ACTIONS)
        elif name == "is_dry_run" and isinstance(value, bool):
            changes[name] = value
        else:
            expected = "margin, weight, ceiling, action, severe_action, class_action or is_dry_run (a boolean)"
            raise ValueError(f"{at}: expected {expected}, got {name}: {value!r}")
    return replace(rule, **changes)


def _number(at: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10**9:
        raise ValueError(f"{at}: expected a positive number, got {value!r}")
    return value


def _policy_number(name: str, value: object) -> Any:
    """What counts units, events or errors is whole: half a unit would be none, and always there."""
    at, default = f"policy.{name}", getattr(Policy(), name)
    if name in _SHARES:
        return _share(at, value)
    number = _number(at, value)
    if isinstance(default, int) and number != int(number):
        raise ValueError(f"{at}: expected a whole number, got {value!r}")
    return type(default)(number)


def _share(at: str, value: object) -> float:
    number = _number(at, value)
    if number >= 1:
        raise ValueError(f"{at}: expected a number between 0 and 1, got {value}")
    return number


def _action(at: str, value: object, allowed: tuple[Action, ...]) -> Action:
    if value not in allowed:
        raise ValueError(f"{at}: expected {', '.join(allowed)}, got {value!r}")
    return Action(str(value))
