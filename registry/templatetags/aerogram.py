"""Numbers and states as people read them."""

from datetime import timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from registry.conversion.measures.metrics import is_share
from registry.digests import is_sha256_hex
from registry.models import JobState

register = template.Library()
_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000
_PERCENT_PLACES = 2
WORDS: dict[str, tuple[str, str]] = {
    JobState.WAITING: ("waits for its trace", "calm"),
    JobState.QUEUED: ("queued", "calm"),
    JobState.RUNNING: ("running", "busy"),
    JobState.SUCCEEDED: ("succeeded", "good"),
    JobState.FAILED: ("failed", "bad"),
    JobState.TIMED_OUT: ("took too long", "bad"),
    JobState.OUT_OF_MEMORY: ("out of memory", "bad"),
    JobState.CRASHED: ("crashed", "bad"),
    JobState.PARITY_MISSED: ("differs too much", "bad"),
    JobState.NOT_APPLICABLE: ("does not apply", "calm"),
    JobState.CANCELLED: ("cancelled", "calm"),
    "stopping": ("is being stopped", "warn"),
    "equal": ("equal", "good"),
    "different": ("different", "bad"),
    "live": ("live", "good"),
    "superseded": ("superseded", "calm"),
    "yanked": ("yanked", "bad"),
    "engaged": ("engaged", "bad"),
    "lifted": ("lifted", "calm"),
    "offered": ("offered", "good"),
    "not_worth_it": ("not worth it", "calm"),
    "too_large": ("too large for a patch", "calm"),
    "enrolled": ("enrolled", "good"),
    "invited": ("invited", "busy"),
    "told of events": ("told of events", "good"),
    "disabled": ("disabled", "bad"),
    "delivered": ("delivered", "good"),
    "valid": ("valid", "good"),
    "to be tried again": ("to be tried again", "warn"),
}


@register.filter
def size(value: int | None) -> str:
    """Bytes in decimal units, three figures: 94600 → 94.6 kB."""
    if value is None:
        return "–"
    amount, unit = float(value), 0
    while abs(amount) >= _THOUSAND and unit < len(_UNITS) - 1:
        amount, unit = amount / _THOUSAND, unit + 1
    return f"{value} B" if unit == 0 else f"{amount:.3g} {_UNITS[unit]}" if abs(amount) < _THOUSAND else f"{amount:.0f}"


@register.filter
def signed_size(value: int | None) -> str:
    """A difference of bytes."""
    return "–" if value is None else "±0 B" if value == 0 else f"{'+' if value > 0 else '−'}{size(abs(value))}"


@register.filter
def percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.{_PERCENT_PLACES}f} %"


@register.filter
def signed_percent(share: float | None) -> str:
    """A relative change: 0.12 → +12 %."""
    return "" if share is None else "±0 %" if round(share * 100) == 0 else f"{share * 100:+.0f} %".replace("-", "−")


@register.filter
def signed_points(share: float | None) -> str:
    """A difference of two shares, in percentage points."""
    points = None if share is None else round(share * 100, _PERCENT_PLACES)
    return "" if points is None else "±0" if points == 0 else f"{points:+.2f} pp".replace("-", "−")


@register.filter
def measured(value: float | None, metric: str) -> str:
    """A value of a metric: shares in percent, errors as they are."""
    return percent(value) if value is None or is_share(metric) else f"{value:.3g}"


@register.filter
def difference(value: float | None, metric: str) -> str:
    """A difference of two values of a metric: shares in percentage points, errors as they are."""
    if value is None or is_share(metric):
        return signed_points(value)
    return "±0" if value == 0 else f"{value:+.2g}".replace("-", "−")


@register.filter
def microseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / _THOUSAND:.3g} ms" if value >= _THOUSAND else f"{value:.0f} µs"


@register.filter
def small(value: float | None) -> str:
    """A difference near zero, two figures."""
    return "–" if value is None else f"{value:.2g}"


@register.filter
def shape(lengths: list[int | None] | None) -> str:
    """Lengths of a tensor's axes; ? where the model leaves one open."""
    if lengths is None:
        return "shape not told"
    return " × ".join("?" if length is None else str(length) for length in lengths)


@register.filter
def state(name: str) -> SafeString:
    """A state as a coloured word; the word alone is enough to understand it."""
    words, tone = WORDS.get(str(name), (str(name).replace("_", " "), "calm"))
    return format_html('<span class="ag-state ag-{}">{}</span>', tone, words)


@register.filter
def since(moment: Any) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = max((timezone.now() - moment) // timedelta(seconds=1), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return "just now" if seconds < 10 else f"{seconds} s ago"  # noqa: PLR2004


@register.filter
def code(document: Any) -> str:
    """A short JSON value in words: {"version": 2} → version 2."""
    if isinstance(document, dict):
        return ", ".join(f"{key} {code(value)}" for key, value in document.items())
    if isinstance(document, list):
        return ", ".join(map(code, document))
    return f"{document[:12]}…" if is_sha256_hex(str(document)) else str(document)
