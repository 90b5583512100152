"""Figures on disk: results.json holds every round, RESULTS.md what a person reads.

Each measurement is kept with the conditions it was taken under, so that a run of one leaves the others their figures.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from bench.harness import DISTURBED
from bench.outcome import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bench.outcome import Ratio, Series, Table

_NAME = "results.json"
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


def stored(folder: Path) -> list[Measurement]:
    """What earlier runs left in the folder; nothing where there is no file."""
    path = folder / _NAME
    document = json.loads(path.read_text()) if path.exists() else {"measurements": []}
    # Files of older runs had one set of conditions for all.
    common = {**document.get("machine", {}), **document.get("settings", {})}
    return [Measurement.from_json({"conditions": common, **each}) for each in document["measurements"]]


def merged(before: Iterable[Measurement], taken: Iterable[Measurement]) -> list[Measurement]:
    """In the order of their numbers; what was taken now replaces what was there of the same identifier."""
    by_name = {each.identifier: each for each in (*before, *taken)}
    return sorted(by_name.values(), key=lambda each: _number(each.identifier))


def write(folder: Path, measurements: Sequence[Measurement], absent: Sequence[str]) -> None:
    """`absent`: lines about the measurements of the design that have never been taken."""
    document = {"measurements": [each.to_json() for each in measurements]}
    text = json.dumps(document, indent=1, ensure_ascii=False, default=str)
    (folder / _NAME).write_text(text + "\n")
    (folder / "RESULTS.md").write_text("\n".join(_page(measurements, absent)) + "\n")


def _page(measurements: Sequence[Measurement], absent: Sequence[str]) -> Iterator[str]:
    yield _HEAD
    yield from _summary(measurements)
    for measurement in measurements:
        yield f"\n## {measurement.identifier} {measurement.title}\n"
        yield from lines(measurement)
        if measurement.conditions:
            yield f"\nTaken under: {_members(measurement.conditions)}"
    yield from _unmeasured(measurements, absent)


def _summary(measurements: Sequence[Measurement]) -> Iterator[str]:
    """Every ratio that has an aim, in one table."""
    yield "| | ratio | of | to | median | aim |"
    yield "|---|---|---|---|---:|---|"
    for measurement in measurements:
        for ratio in measurement.ratios:
            if any(character.isdigit() for character in ratio.aim):
                cells = (measurement.identifier, ratio.name, ratio.subject, ratio.reference)
                yield f"| {' | '.join(cells)} | {ratio.median:.2f} | {ratio.aim} |"


def _unmeasured(measurements: Sequence[Measurement], absent: Sequence[str]) -> Iterator[str]:
    yield "\n## What could not be measured\n"
    told = [f"{each.identifier}: {each.skipped or each.failed}" for each in measurements if each.skipped or each.failed]
    told += [f"{each.identifier}: {note}" for each in measurements for note in each.notes]
    yield from (f"- {line}" for line in [*told, *absent] or ["nothing: every measurement of the design was taken."])


def lines(measurement: Measurement) -> Iterator[str]:
    """One measurement as Markdown, which a terminal shows well enough."""
    if measurement.skipped or measurement.failed:
        yield f"skipped: {measurement.skipped}\n" if measurement.skipped else f"failed: {measurement.failed}\n"
        return
    if measurement.ratios:
        yield "| ratio | of | to | median | range | aim |"
        yield "|---|---|---|---:|---:|---|"
        yield from (_ratio_row(ratio) for ratio in measurement.ratios)
    for table in measurement.tables:
        yield from _table_lines(table)
    if measurement.series:
        yield from _series_lines(measurement.series)
    yield f"\n{_members(measurement.facts)}"
    yield from (f"\nNote: {note}" for note in measurement.notes)
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


def _members(facts: Mapping[str, Any]) -> str:
    return " · ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in facts.items())


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return str(value)


def _number(identifier: str) -> int:
    found = re.search(r"\d+", identifier)
    return int(found.group()) if found else 0
