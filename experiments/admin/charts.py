"""Pictures of what was measured as inline SVG, made on the server. Colours come from the page's style sheet."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from experiments import words
from experiments.admin.panels import FunnelArm
from experiments.policy import Measure

WIDTH, HEIGHT = 360, 190
_MOST_MARGINS = 4.0  # an early look is so uncertain that its whole interval would flatten everything after it
_DAY_SECONDS = 86_400
_LETTER = 6.6


@dataclass(frozen=True)
class Look:
    """One metric at one look. None where it was infinite. `low` and `high`: what the difference stays in."""

    as_of: datetime
    harm: float
    bound: float | None
    low: float | None
    high: float | None
    is_enough: bool


@dataclass(frozen=True)
class Mark:
    """Something that happened: a phase that began, or a stop."""

    at: datetime
    words: str
    is_bad: bool = False


@dataclass(frozen=True)
class _Frame:
    left: float
    top: float
    right: float
    bottom: float
    begin: datetime
    end: datetime
    low: float
    high: float

    def x(self, moment: datetime) -> float:
        whole = (self.end - self.begin).total_seconds() or 1.0
        return round(self.left + (self.right - self.left) * (moment - self.begin).total_seconds() / whole, 1)

    def y(self, value: float) -> float:
        kept = min(max(value, self.low), self.high)
        return round(self.bottom - (self.bottom - self.top) * (kept - self.low) / (self.high - self.low), 1)


def plotted(measure: str, value: float) -> float:
    """Of a mean that is compared by its logarithm, the change in percent's own scale: what people read off."""
    return math.expm1(min(value, 20.0)) if measure == Measure.LOG_MEAN else value


def _as_plotted(look: Look, measure: str) -> Look:
    bound, low, high = (None if each is None else plotted(measure, each) for each in (look.bound, look.low, look.high))
    return Look(look.as_of, plotted(measure, look.harm), bound, low, high, look.is_enough)


def over_time(looks: Sequence[Look], marks: Sequence[Mark], *, measure: str, margin: float, title: str) -> SafeString:
    """Oldest first: the estimate with its interval, the bound that is judged, and the margin that it must not cross.

    Values further away than four margins lie on the edge. Empty without a look.
    """
    if not looks:
        return SafeString("")
    last, looks = looks[-1], [_as_plotted(look, measure) for look in looks]
    limit = plotted(measure, margin)
    frame = _frame(looks, measure, limit)
    parts = [
        *_values_axis(frame, measure),
        *_time_axis(frame),
        *(_mark(frame, mark) for mark in _apart(frame, marks)),
        _margin(frame, limit, words.harm(measure, margin)),
        _band(frame, looks, measure),
        _line(frame, [(look.as_of, look.harm) for look in looks], "ag-estimate"),
        _line(frame, _judged(looks), "ag-bound"),
        _last(frame, looks[-1], words.harm(measure, last.harm)),
    ]  # fmt: skip
    told = f"{title}: {words.harm(measure, last.harm)}, at least {words.harm(measure, last.bound)}"
    return format_html(
        '<svg class="ag-picture" viewBox="0 0 {} {}" role="img" aria-label="{}; the margin is {}">{}</svg>',
        WIDTH,
        HEIGHT,
        told,
        words.harm(measure, margin),
        mark_safe("".join(parts)),  # noqa: S308  made of format_html only
    )


def _judged(looks: Sequence[Look]) -> list[tuple[datetime, float]]:
    return [(look.as_of, look.bound) for look in looks if look.bound is not None and look.is_enough]


def _frame(looks: Sequence[Look], measure: str, margin: float) -> _Frame:
    nothing = 1.0 if measure == Measure.RATIO else 0.0
    most = nothing + _MOST_MARGINS * margin
    shown = [look.harm for look in looks] + [bound for _, bound in _judged(looks)]
    high = min(max([*shown, nothing + 1.5 * margin]), most)
    low = 0.0 if measure == Measure.RATIO else max(min([*shown, -margin]), -most)
    begin, end = looks[0].as_of, looks[-1].as_of
    return _Frame(58, 16, WIDTH - 12, HEIGHT - 26, begin, end, low, high + (high - low) * 0.06)


def _ticks(low: float, high: float, most: int) -> list[float]:
    magnitude = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude * most >= high - low)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _values_axis(frame: _Frame, measure: str) -> Iterator[SafeString]:
    for value in _ticks(frame.low, frame.high, 4):
        yield format_html(
            '<line class="{5}" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text class="ag-tick" x="{3}" y="{4}" '
            'text-anchor="end">{6}</text>',
            frame.left,
            frame.right,
            frame.y(value),
            frame.left - 7,
            frame.y(value) + 4,
            "ag-axis" if abs(value) < 1e-9 else "ag-grid",  # noqa: PLR2004
            _tick(measure, value),
        )


def _tick(measure: str, value: float) -> str:
    """Points and percent without their unit's name: the heading tells it."""
    if measure == Measure.RATIO:
        return f"{value:g} ×"
    unit = " %" if measure == Measure.LOG_MEAN else ""
    return f"{round(value * 100, 1):+g}{unit}".replace("-", "−") if value else "0"


def _time_axis(frame: _Frame) -> Iterator[SafeString]:
    seconds = (frame.end - frame.begin).total_seconds()
    shape = "%H:%M" if seconds < 2 * _DAY_SECONDS else "%d %b"
    ends = [(frame.begin, "start"), (frame.end, "end")] if seconds else [(frame.begin, "start")]
    for moment, anchor in ends:
        yield format_html(
            '<text class="ag-tick" x="{}" y="{}" text-anchor="{}">{}</text>',
            frame.x(moment),
            frame.bottom + 18,
            anchor,
            f"{moment:{shape}}",
        )


def _apart(frame: _Frame, marks: Sequence[Mark]) -> Iterator[Mark]:
    """All their lines, but words only where there is room for them."""
    free = frame.left
    for mark in sorted(marks, key=lambda each: each.at):
        if frame.begin <= mark.at <= frame.end:
            x = frame.x(mark.at)
            has_room = x >= free and x + len(mark.words) * _LETTER <= frame.right
            free = x + (len(mark.words) + 1) * _LETTER if has_room else free
            yield Mark(mark.at, mark.words if has_room else "", mark.is_bad)


def _mark(frame: _Frame, mark: Mark) -> SafeString:
    return format_html(
        '<line class="ag-event{0}" x1="{1}" x2="{1}" y1="{2}" y2="{3}"/>'
        '<text class="ag-tick" x="{4}" y="{5}">{6}</text>',
        " ag-is-bad" if mark.is_bad else "",
        frame.x(mark.at),
        frame.top - 4,
        frame.bottom,
        frame.x(mark.at) + 3,
        frame.top - 4,
        mark.words,
    )


def _margin(frame: _Frame, margin: float, told: str) -> SafeString:
    if not frame.low <= margin <= frame.high:
        return SafeString("")
    return format_html(
        '<line class="ag-margin" x1="{0}" x2="{1}" y1="{2}" y2="{2}"><title>margin {3}</title></line>',
        frame.left,
        frame.right,
        frame.y(margin),
        told,
    )


def _band(frame: _Frame, looks: Iterable[Look], measure: str) -> SafeString:
    """Of a ratio there is no interval: from the bound to the estimate."""

    def edges(look: Look) -> tuple[float, float] | None:
        if measure == Measure.RATIO:
            return None if look.bound is None else (look.bound, max(look.bound, look.harm))
        return None if look.low is None or look.high is None else (look.low, look.high)

    found = [(frame.x(look.as_of), *pair) for look in looks if look.is_enough for pair in [edges(look)] if pair]
    if len(found) < 2:  # noqa: PLR2004
        return SafeString("")
    upper = [f"{x},{frame.y(high)}" for x, _, high in found]
    lower = [f"{x},{frame.y(low)}" for x, low, _ in reversed(found)]
    return format_html('<polygon class="ag-band" points="{}"/>', " ".join([*upper, *lower]))


def _line(frame: _Frame, points: Sequence[tuple[datetime, float]], name: str) -> SafeString:
    drawn = " ".join(f"{frame.x(at)},{frame.y(value)}" for at, value in points)
    return format_html('<polyline class="{}" points="{}"/>', name, drawn) if points else SafeString("")


def _last(frame: _Frame, look: Look, told: str) -> SafeString:
    return format_html(
        '<circle class="ag-estimate-now" cx="{}" cy="{}" r="4"><title>{}</title></circle>',
        frame.x(look.as_of),
        frame.y(look.harm),
        told,
    )


# -- the funnel


_ROW, _BAR = 34, 10


def funnel_picture(arms: Sequence[FunnelArm], *, width: int) -> SafeString:
    """A row for each stage with a bar for each arm: units that reached it, then those that failed or were lost there.

    Of each arm's own units, so that arms of unequal size can be compared. Empty without units.
    """
    if not any(arm.units for arm in arms):
        return SafeString("")
    row = max(_ROW, len(arms) * (_BAR + 3) + 12)
    left, room = 98, width - 98 - 58
    parts = [
        part
        for rank, stage in enumerate(arms[0].stages)
        for part in _stage(arms, rank, stage["words"], rank * row, left, room)
    ]
    told = "; ".join(
        f"{arm.name}: " + ", ".join(f"{stage['words']} {stage['reached']}" for stage in arm.stages) for arm in arms
    )
    return format_html(
        '<svg class="ag-picture" viewBox="0 0 {} {}" role="img" aria-label="Units at each stage. {}">{}</svg>',
        width,
        row * len(arms[0].stages),
        told,
        mark_safe("".join(parts)),  # noqa: S308  made of format_html only
    )


def _stage(
    arms: Sequence[FunnelArm], rank: int, name: str, top: float, left: float, room: float
) -> Iterator[SafeString]:
    middle = top + 4 + len(arms) * (_BAR + 3) / 2
    yield format_html('<text class="ag-tick" x="{}" y="{}" text-anchor="end">{}</text>', left - 8, middle + 4, name)
    for number, arm in enumerate(arms):
        y = top + 4 + number * (_BAR + 3)
        stage = arm.stages[rank]
        scale = _scale(arm.units, room)
        reached, failed, lost = (scale(stage[key]) for key in ("reached", "failed", "lost"))
        tone = "ag-arm-control" if arm.is_control else f"ag-arm-{number % 4}"
        title = f"{arm.name}, {name}: {stage['reached']} reached, {stage['failed']} failed, {stage['lost']} lost"
        yield format_html('<rect class="ag-track" x="{}" y="{}" width="{}" height="{}" rx="2"/>', left, y, room, _BAR)
        yield _bars(left, y, [(reached, tone), (failed, "ag-failed"), (lost, "ag-lost")], title)
        share = f"{100 * stage['reached'] / arm.units:.1f} %" if arm.units else "–"
        yield format_html('<text class="ag-tick" x="{}" y="{}">{}</text>', left + room + 8, y + _BAR - 0.5, share)


def _scale(units: int, room: float) -> Callable[[int], float]:
    return lambda count: room * min(count, units) / units if units else 0.0


def _bars(left: float, y: float, parts: Sequence[tuple[float, str]], title: str) -> SafeString:
    starts = [left + sum(wide for wide, _ in parts[:number]) for number in range(len(parts))]
    drawn = format_html_join(
        "",
        '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>',
        (
            (name, round(start, 1), y, round(wide, 1), _BAR)
            for start, (wide, name) in zip(starts, parts, strict=True)
            if wide > 0
        ),
    )
    return format_html("<g><title>{}</title>{}</g>", title, drawn)
