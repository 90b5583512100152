"""Figures on disk: results.json holds every round, RESULTS.md what a person reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.harness import DISTURBED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.outcome import Measurement, Ratio, Series, Table

_HEAD = """\
# Results of `make bench`

Figures of one machine and one hour; the ratios are what to compare. A ratio is the median of the rounds' own ratios,
because subject and reference alternate; its range is beside it. "Aim" is the line of the design, not a promise.
The server is pinned to one core, `wrk` to another; "others" is what the rest of the machine took of the worse of the
two. A run in which they took more than a tenth is repeated while there is time; the ones left disturbed are counted.
CPU per request is the server's own, but busy neighbours raise it too (here by a quarter to a half).
At half load connections pause at random between requests, since `wrk` knows no rate; the half is of the rate flat out
in the same run, so where neighbours lowered that rate, it is less than half of what the server could do.
"""


def write(folder: Path, machine: Mapping[str, Any], settings: Mapping[str, Any], taken: Sequence[Measurement]) -> None:
    document = {"machine": machine, "settings": settings, "measurements": [each.to_json() for each in taken]}
    text = json.dumps(document, indent=1, ensure_ascii=False, default=str)
    (folder / "results.json").write_text(text + "\n")
    (folder / "RESULTS.md").write_text("\n".join(_page(machine, settings, taken)) + "\n")


def _page(machine: Mapping[str, Any], settings: Mapping[str, Any], taken: Sequence[Measurement]) -> Iterator[str]:
    yield _HEAD
    for facts in (machine, settings):
        yield " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()) + "\n"
    for measurement in taken:
        yield f"## {measurement.identifier} {measurement.title}\n"
        yield from lines(measurement)


def lines(measurement: Measurement) -> Iterator[str]:
    """One measurement as Markdown, which a terminal shows well enough."""
    if measurement.skipped or measurement.failed:
        yield f"skipped: {measurement.skipped}\n" if measurement.skipped else f"failed: {measurement.failed}\n"
        return
    yield "| ratio | of | to | median | range | aim |"
    yield "|---|---|---|---:|---:|---|"
    yield from (_ratio_row(ratio) for ratio in measurement.ratios)
    for table in measurement.tables:
        yield from _table_lines(table)
    if measurement.series:
        yield from _series_lines(measurement.series)
    yield "\n" + " · ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in measurement.facts.items())
    if measurement.series:
        yield from _disturbance_lines(measurement.series)


def _table_lines(table: Table) -> Iterator[str]:
    yield f"\n{table.title}\n" if table.title else ""
    yield "| " + " | ".join(table.columns) + " |"
    yield "|" + "|".join("---:" if _is_figure(column) else "---" for column in zip(*table.rows, strict=True)) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in table.rows)


def _is_figure(cells: Sequence[str]) -> bool:
    return all(cell[:1].isdigit() for cell in cells)


def _series_lines(series: Sequence[Series]) -> Iterator[str]:
    yield "\n| server | load | requests/s | p50 ms | p99 ms | CPU µs/request | server's core | wrk's core | others |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    yield from (_series_row(each) for each in series)


def _disturbance_lines(series: Sequence[Series]) -> Iterator[str]:
    shares = [sample.others_share for each in series for sample in each.samples]
    disturbed = sum(share > DISTURBED for share in shares)
    yield f"\nRuns in which others took more than {DISTURBED:.0%} of a core: {disturbed} of {len(shares)}.\n"
    if disturbed > len(shares) / 2:
        yield "Provisional: most runs were disturbed, so no aim is shown to be met or missed by these.\n"


def _ratio_row(ratio: Ratio) -> str:
    spread = f"{min(ratio.rounds):.2f}–{max(ratio.rounds):.2f}"
    return f"| {ratio.name} | {ratio.subject} | {ratio.reference} | {ratio.median:.2f} | {spread} | {ratio.aim} |"


def _series_row(series: Series) -> str:
    at = series.median
    rate, cpu = f"{at('requests_per_second'):,.0f}", f"{at('server_cpu_us'):.1f}"
    shares = " | ".join(f"{at(name):.0%}" for name in ("server_share", "generator_share", "others_share"))
    milliseconds = f"{at('p50_us') / 1_000:.2f} | {at('p99_us') / 1_000:.2f}"
    return f"| {series.name} | {series.load} | {rate} | {milliseconds} | {cpu} | {shares} |"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return str(value)
