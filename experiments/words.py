"""States, verdicts, harm and time as people read them."""

from datetime import datetime, timedelta
from math import exp

from django.utils.html import format_html
from django.utils.safestring import SafeString

from experiments.lifecycle import State
from experiments.policy import Action, Guardrail, Measure

STATES: dict[str, tuple[str, str]] = {
    State.DRAFT: ("draft", "calm"),
    State.IN_REVIEW: ("in review", "warn"),
    State.APPROVED: ("approved", "busy"),
    State.SCHEDULED: ("scheduled", "busy"),
    State.RUNNING: ("running", "good"),
    State.PAUSED: ("paused", "warn"),
    State.HALTED: ("halted", "bad"),
    State.ROLLED_BACK: ("rolled back", "bad"),
    State.COMPLETED: ("completed", "good"),
    State.STOPPED: ("stopped", "calm"),
    State.ARCHIVED: ("archived", "calm"),
}
VERDICTS: dict[str, tuple[str, str]] = {
    Action.ADVANCE: ("advance", "good"),
    Action.INCONCLUSIVE: ("inconclusive", "calm"),
    Action.HOLD: ("hold", "warn"),
    Action.HALT_CLASS: ("halt a class", "bad"),
    Action.HALT: ("halt", "bad"),
    Action.ROLLBACK: ("roll back", "bad"),
}
GUARDED: dict[str, str] = {
    "crash": "units whose process died, or that gave the version up",
    "load_failure": "units on which it did not load",
    "fallback": "units that run an earlier or the embedded model instead",
    "funnel": "units that failed or were lost before the first inference",
    "latency": "the devices' p95",
    "slow": "devices whose p95 is above the limit",
}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_MOST_LOG = 20.0


def state(name: str) -> SafeString:
    return badge(*STATES[name])


def verdict(name: str) -> SafeString:
    return badge(*VERDICTS[name])


def badge(words: str, tone: str) -> SafeString:
    """A coloured word; the word alone is enough to understand it."""
    return format_html('<span class="ag-state ag-{}">{}</span>', tone, words)


def percent(basis_points: int | None) -> str:
    return "–" if basis_points is None else f"{basis_points / 100:g} %"


def number(value: int | None) -> str:
    """Thousands apart."""
    return "–" if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def harm(measure: str, value: float | None) -> str:
    """`1.20 ×`, `+0.42 points`, `+3.1 %`: each in the unit of its margin."""
    if value is None:
        return "–"
    if measure == Measure.RATIO:
        return f"{value:.2f} ×"
    told = f"{value * 100:+.2f} points" if measure == Measure.SHARE else f"{_relative(value) * 100:+.1f} %"
    return told.replace("-", "−")


def effect(measure: str, value: float | None) -> str:
    """A difference as classes are compared by: of a ratio's guardrail, too, it is points of a share."""
    return harm(Measure.SHARE if measure == Measure.RATIO else measure, value)


def between(measure: str, low: float, high: float) -> str:
    """`−0.1 … +0.4 points`."""
    return f"{effect(measure, low).split()[0]} … {effect(measure, high)}"


def _relative(log_ratio: float) -> float:
    return exp(max(-_MOST_LOG, min(log_ratio, _MOST_LOG))) - 1


def consequences(rule: Guardrail) -> str:
    """What follows when its bound is above the margin."""
    if rule.is_dry_run:
        return "nothing: a dry run"
    told = [VERDICTS[rule.action][0]]
    if rule.severe_action:
        told.append(f"above twice the margin {VERDICTS[rule.severe_action][0]}")
    if rule.class_action:
        told.append(f"in one class {'halt it' if rule.class_action is Action.HALT_CLASS else rule.class_action}")
    if rule.ceiling:
        told.append(f"above {rule.ceiling:.0%} of the treatment halt".replace("%", " %"))
    return "; ".join(told)


def span(seconds: float) -> str:
    """The two largest units: `2 d 3 h`, `40 min`, `now`."""
    left = int(max(seconds, 0))
    told: list[str] = []
    for name, length in _UNITS:
        if left >= length and len(told) < 2:  # noqa: PLR2004
            told.append(f"{left // length} {name}")
            left %= length
        elif told:
            break
    return " ".join(told) or "0 s"


def ahead(moment: datetime, now: datetime) -> str:
    """`2026-11-23 04:00 UTC, in 2 h 30 min`."""
    left = moment - now
    told = f"{moment:%Y-%m-%d %H:%M} UTC"
    return f"{told}, in {span(left.total_seconds())}" if left > timedelta() else f"{told}, now"
