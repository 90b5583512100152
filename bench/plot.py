"""results.png: the rates of every server beside each other, with each round as a dot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.outcome import Measurement

_COLOURS = {"device plane": "#1f6f8b", "nginx": "#9aa5b1", "hello": "#d9a441"}


def draw(path: Path, taken: Sequence[Measurement]) -> str | None:
    """Why there is no plot, or None."""
    shown = [measurement for measurement in taken if measurement.series]
    if not shown:
        return "nothing was measured"
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # the extra `bench` is optional
    except ImportError:
        return "matplotlib is missing (extra `bench`)"
    figure = Figure(figsize=(5.5 * len(shown), 4.2), layout="constrained")
    for axes, measurement in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        series = [each for each in measurement.series if each.load == measurement.series[0].load]
        names = [each.name for each in series]
        axes.bar(
            names,
            [each.median("requests_per_second") for each in series],
            color=[_COLOURS.get(name, "#777777") for name in names],
        )
        for position, each in enumerate(series):
            rates = [sample.requests_per_second for sample in each.samples]
            axes.plot([position] * len(rates), rates, "o", color="black", markersize=3, alpha=0.6)
        first = measurement.ratios[0]
        axes.set_title(f"{measurement.identifier}  {first.median:.2f} × {first.reference}")
        axes.set_ylabel("requests/s, one core")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return None
