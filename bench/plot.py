"""results.png: rates of the servers beside each other, each round a dot; ratios where nothing was loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.outcome import Measurement, Ratio

_COLOURS = {"device plane": "#1f6f8b", "nginx": "#9aa5b1", "hello": "#d9a441"}
_OTHERS = "#777777"
_COLUMNS = 3
_MOST_RATIOS = 16


def draw(path: Path, taken: Sequence[Measurement]) -> str | None:
    """Why there is no plot, or None."""
    shown = [measurement for measurement in taken if measurement.series or measurement.ratios]
    if not shown:
        return "nothing was measured"
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # the extra `bench` is optional
    except ImportError:
        return "matplotlib is missing (extra `bench`)"
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(6.0 * _COLUMNS, 4.4 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axes, measurement in zip(panels, shown, strict=False):
        (_draw_rates if measurement.series else _draw_ratios)(axes, measurement)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.savefig(path, dpi=90)
    return None


def _draw_rates(axes: Any, measurement: Measurement) -> None:
    """Servers under the first kind of load; a server that was measured beside each of several counts once."""
    series = {each.name: each for each in measurement.series if each.load == measurement.series[0].load}
    names = list(series)
    axes.bar(
        names,
        [each.median("requests_per_second") for each in series.values()],
        color=[_COLOURS.get(name, _OTHERS) for name in names],
    )
    for position, each in enumerate(series.values()):
        rates = [sample.requests_per_second for sample in each.samples]
        axes.plot([position] * len(rates), rates, "o", color="black", markersize=3, alpha=0.6)
    first = measurement.ratios[0]
    axes.set_title(f"{measurement.identifier}  {first.name}: {first.median:.2f} × {first.reference}", fontsize=10)
    axes.set_ylabel(f"requests/s, one core, {measurement.series[0].load}")
    axes.tick_params(axis="x", labelrotation=20 if len(names) > 3 else 0)  # noqa: PLR2004


def _draw_ratios(axes: Any, measurement: Measurement) -> None:
    """A bar for each ratio with an aim, and the aim as a stroke through it."""
    ratios = [ratio for ratio in measurement.ratios if _aim(ratio) is not None][:_MOST_RATIOS]
    names = [ratio.name for ratio in ratios]
    axes.barh(names, [ratio.median for ratio in ratios], color="#1f6f8b")
    for position, ratio in enumerate(ratios):
        axes.plot([_aim(ratio)] * 2, [position - 0.4, position + 0.4], color="#c0392b", linewidth=2)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_title(f"{measurement.identifier}  ratios to the reference, and the aims (red)", fontsize=10)


def _aim(ratio: Ratio) -> float | None:
    found = re.search(r"\d+(\.\d+)?", ratio.aim)
    return float(found.group()) if found else None
