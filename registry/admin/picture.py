"""Pictures of a version's variants as inline SVG, made on the server. Colours come from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from registry.admin.comparison import Measures
from registry.conversion.measures.metrics import is_share
from registry.templatetags.aerogram import measured as shown
from registry.templatetags.aerogram import size

_LINE = 15  # least distance of two labels, in SVG units, which are pixels at natural size
_LETTER = 6.4
_MOST_NAMES = 8


@dataclass(frozen=True)
class _Frame:
    """The plot's rectangle, the values at its edges, and the metric measured: better values lie higher."""

    left: float
    top: float
    right: float
    bottom: float
    most_bytes: float
    low: float
    high: float
    metric: str

    def x(self, size_bytes: float) -> float:
        return self.left + (self.right - self.left) * size_bytes / self.most_bytes

    def y(self, value: float) -> float:
        up = (value - self.low) / (self.high - self.low)
        return self.bottom - (self.bottom - self.top) * (up if is_share(self.metric) else 1 - up)


def bytes_by_accuracy(variants: Sequence[Measures], *, width: int, height: int) -> SafeString:
    """A scatter: further left is smaller, higher is better; whiskers are the 95 % interval.

    Empty when fewer than two variants have an accuracy: one point is no comparison.
    """
    measured = [variant for variant in variants if variant.accuracy is not None]
    if len(measured) < 2:  # noqa: PLR2004
        return SafeString("")
    frame = _frame(measured, width, height)
    parts = [*_accuracy_axis(frame), *_bytes_axis(frame), _source_line(frame, measured)]
    parts += [_whisker(frame, variant) for variant in measured]
    parts += [_mark(frame, variant) for variant in measured]
    parts += _labels(frame, measured)
    told = "; ".join(f"{variant.name}: {size(variant.size_bytes)}, {variant.accuracy:.4g}" for variant in measured)
    return format_html(
        '<svg class="ag-picture" viewBox="0 0 {} {}" role="img" aria-label="{} by bytes. {}">{}</svg>',
        width,
        height,
        frame.metric.capitalize(),
        told,
        mark_safe("".join(parts)),  # noqa: S308  made of format_html only
    )


def _frame(measured: Sequence[Measures], width: int, height: int) -> _Frame:
    shown = [bound for variant in measured for bound in (variant.interval or (variant.accuracy or 0.0,) * 2)]
    shown += [variant.source_accuracy for variant in measured if variant.source_accuracy is not None]
    low, high = min(shown), max(shown)
    metric = measured[0].metric
    room = max((high - low) * 0.08, 0.002) if is_share(metric) else max((high - low) * 0.08, high * 0.01, 1e-12)
    top = min(high + room, 1.0) if is_share(metric) else high + room
    most = max(variant.size_bytes for variant in measured)
    return _Frame(58, 14, width - 14, height - 40, most * 1.04, max(low - room, 0), top, metric)


def _step(span: float, most: int) -> float:
    """A round distance of ticks: 1, 2 or 5 times a power of ten, at most `most` of them."""
    magnitude = 10.0 ** math.floor(math.log10(span / most))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude * most >= span)


def _ticks(low: float, high: float, most: int) -> list[float]:
    step = _step(high - low, most)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _accuracy_axis(frame: _Frame) -> list[SafeString]:
    step = _step(frame.high - frame.low, 5)
    return [
        format_html(
            '<line class="ag-grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text class="ag-tick" x="{3}" y="{4}" '
            'text-anchor="end">{5}</text>',
            frame.left,
            frame.right,
            _round(frame.y(value)),
            frame.left - 8,
            _round(frame.y(value) + 4),
            _tick(value, step, frame.metric),
        )
        for value in _ticks(frame.low, frame.high, 5)
    ]


def _tick(value: float, step: float, metric: str) -> str:
    if is_share(metric):
        return f"{value * 100:.{0 if step >= 0.01 else 1}f} %"  # noqa: PLR2004
    return f"{round(value / step) * step:.2g}"


def _bytes_axis(frame: _Frame) -> list[SafeString]:
    most = 4 if frame.right < 400 else 6  # noqa: PLR2004
    ticks = [
        format_html(
            '<text class="ag-tick" x="{}" y="{}" text-anchor="middle">{}</text>',
            _round(frame.x(value)),
            frame.bottom + 17,
            size(round(value)),
        )
        for value in _ticks(0, frame.most_bytes, most)
        if frame.x(value) < frame.right - 10
    ]
    base = format_html(
        '<line class="ag-axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>', frame.left, frame.right, frame.bottom
    )
    title = format_html(
        '<text class="ag-tick" x="{}" y="{}" text-anchor="end">bytes on the device →</text>',
        frame.right,
        frame.bottom + 34,
    )
    return [base, *ticks, title]


def _source_line(frame: _Frame, measured: Sequence[Measures]) -> SafeString:
    source = measured[0].source_accuracy
    if source is None:
        return SafeString("")
    y = _round(frame.y(source))
    return format_html(
        '<line class="ag-source" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
        '<text class="ag-tick" x="{3}" y="{4}">source model</text>',
        frame.left,
        frame.right,
        y,
        frame.left + 6,
        y - 5,
    )


def _whisker(frame: _Frame, variant: Measures) -> SafeString:
    if variant.interval is None:
        return SafeString("")
    low, high = (_round(frame.y(bound)) for bound in variant.interval)
    return format_html(
        '<line class="ag-whisker" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>', _round(frame.x(variant.size_bytes)), low, high
    )


def _mark(frame: _Frame, variant: Measures) -> SafeString:
    """LiteRT round, Core ML square, ONNX a diamond: told apart without colour too."""
    x, y = frame.x(variant.size_bytes), frame.y(variant.accuracy or 0.0)
    told = shown(variant.accuracy, variant.metric)
    told = f"{told} right" if is_share(variant.metric) else f"{told} {variant.metric}"
    title = f"{variant.name}: {size(variant.size_bytes)}, {told}"
    if variant.runtime == "coreml":
        return format_html(
            '<rect x="{}" y="{}" width="10" height="10" rx="1.5" class="ag-mark ag-coreml"><title>{}</title></rect>',
            _round(x - 5),
            _round(y - 5),
            title,
        )
    if variant.runtime == "onnxruntime":
        return format_html(
            '<path d="M{0} {1}l7 7l-7 7l-7 -7z" class="ag-mark ag-onnxruntime"><title>{2}</title></path>',
            _round(x),
            _round(y - 7),
            title,
        )
    return format_html(
        '<circle cx="{}" cy="{}" r="5.5" class="ag-mark ag-litert"><title>{}</title></circle>',
        _round(x),
        _round(y),
        title,
    )


def _labels(frame: _Frame, measured: Sequence[Measures]) -> list[SafeString]:
    """Names beside their marks, moved apart where they would lie on each other.

    Where there are too many to read, only those are named that no other beats in both bytes and accuracy.
    """
    marks = [(frame.x(variant.size_bytes), frame.y(variant.accuracy or 0.0)) for variant in measured]
    taken = [(x - 7, x + 7, y) for x, y in marks]
    source = measured[0].source_accuracy
    if source is not None:
        taken.append((frame.left, frame.left + 13 * _LETTER, frame.y(source) - 9))
    parts = []
    named = measured if len(measured) <= _MOST_NAMES else unbeaten(measured)
    for variant in sorted(named, key=lambda row: (frame.y(row.accuracy or 0.0), row.size_bytes)):
        x, y = frame.x(variant.size_bytes), frame.y(variant.accuracy or 0.0)
        wide = len(variant.name) * _LETTER
        is_left = x + 10 + wide > frame.right
        start = x - 10 - wide if is_left else x + 10
        line = _free_line(taken, start, start + wide, y, frame)
        taken.append((start, start + wide, line))
        if abs(line - y) > _LINE / 2:
            parts.append(
                format_html(
                    '<line class="ag-leader" x1="{}" y1="{}" x2="{}" y2="{}"/>',
                    _round(x),
                    _round(y),
                    _round(x - 8 if is_left else x + 8),
                    _round(line),
                )
            )
        parts.append(
            format_html(
                '<text class="ag-name" x="{}" y="{}" text-anchor="{}">{}</text>',
                _round(x - 10 if is_left else x + 10),
                _round(line + 4),
                "end" if is_left else "start",
                variant.name,
            )
        )
    return parts


def unbeaten(variants: Sequence[Measures]) -> list[Measures]:
    """Those than which no other is both smaller and as good, smallest first; of equal ones the first by name."""
    found: list[Measures] = []
    for variant in sorted(variants, key=lambda row: (row.size_bytes, -_goodness(row), row.name)):
        if not found or _goodness(variant) > _goodness(found[-1]):
            found.append(variant)
    return found


def _goodness(variant: Measures) -> float:
    value = variant.accuracy or 0.0
    return value if is_share(variant.metric) else -value


def _free_line(
    taken: Sequence[tuple[float, float, float]], left: float, right: float, y: float, frame: _Frame
) -> float:
    """The height nearest to `y` at which nothing else is written between left and right."""
    for distance in range(40):
        for line in (y + distance * 4, y - distance * 4):
            clashes = any(a < right and left < b and abs(line - other) < _LINE for a, b, other in taken)
            if frame.top <= line <= frame.bottom - 4 and not clashes:
                return line
    return y


def bars(variants: Sequence[Measures], *, width: int) -> SafeString:
    """Without accuracies: one bar of bytes a variant."""
    if not variants:
        return SafeString("")
    most = max(variant.size_bytes for variant in variants)
    room = width - 90
    drawn = format_html_join(
        "",
        '<text class="ag-name" x="0" y="{}">{}</text><rect class="ag-bar ag-{}" x="0" y="{}" width="{}" height="12" '
        'rx="3"/><text class="ag-tick" x="{}" y="{}">{}</text>',
        (
            (
                14 + 38 * number,
                variant.name,
                variant.runtime,
                20 + 38 * number,
                _round(max(room * variant.size_bytes / most, 3)),
                _round(max(room * variant.size_bytes / most, 3) + 8),
                30 + 38 * number,
                size(variant.size_bytes),
            )
            for number, variant in enumerate(variants)
        ),
    )
    told = "; ".join(f"{variant.name}: {size(variant.size_bytes)}" for variant in variants)
    return format_html(
        '<svg class="ag-picture" viewBox="0 0 {} {}" role="img" aria-label="Bytes. {}">{}</svg>',
        width,
        38 * len(variants) + 4,
        told,
        drawn,
    )


def _round(value: float) -> float:
    return round(value, 1)
