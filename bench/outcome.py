"""What a measurement comes to: rounds as they were taken, their medians, and ratios to the reference beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Sample:
    """One run of the load generator against one server. CPU shares are of one core, 0..1.

    `others_share` is what everybody else used meanwhile, of the server's core or the generator's, whichever is more:
    above a tenth, the round was disturbed. `server_cpu_us` is the server's CPU time per request, which busy neighbours
    raise as well, through cold caches.
    """

    requests: int
    requests_per_second: float
    p50_us: float
    p99_us: float
    bytes_per_answer: float
    server_cpu_us: float
    server_share: float
    generator_share: float
    others_share: float


@dataclass(frozen=True)
class Ratio:
    """`subject` over `reference`, of one figure, round by round. `aim` is the line of the design document."""

    name: str
    subject: str
    reference: str
    figure: str
    aim: str
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.rounds)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "lowest": min(self.rounds), "highest": max(self.rounds)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Ratio:
        names = ("name", "subject", "reference", "figure", "aim")
        return cls(*(document[name] for name in names), rounds=tuple(document["rounds"]))


@dataclass(frozen=True)
class Series:
    """The rounds of one server under one kind of load."""

    name: str
    load: str
    samples: tuple[Sample, ...]

    def median(self, figure: str) -> float:
        return float(median(getattr(sample, figure) for sample in self.samples))

    def to_json(self) -> dict[str, Any]:
        figures = Sample.__dataclass_fields__
        return {
            "name": self.name,
            "load": self.load,
            "medians": {figure: self.median(figure) for figure in figures},
            "rounds": [asdict(sample) for sample in self.samples],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Series:
        return cls(document["name"], document["load"], tuple(Sample(**sample) for sample in document["rounds"]))


@dataclass(frozen=True)
class Table:
    """Figures of whatever kind (seconds, bytes, memory) as they are shown: a row for each thing measured."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "columns": list(self.columns), "rows": rows}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Table:
        rows = document["rows"]
        columns = tuple(document.get("columns") or rows[0])
        return cls(document["title"], columns, tuple(tuple(row[column] for column in columns) for row in rows))


@dataclass(frozen=True)
class Measurement:
    """`series` are of servers under load; `tables` are for all other figures. Either may be empty.

    `notes` tell what could not be measured, and what a reader must know to read the figures right. `conditions` are
    the machine and the settings of the run that took it, since a later run of another one keeps this one.
    """

    identifier: str
    title: str
    series: Sequence[Series] = ()
    ratios: Sequence[Ratio] = ()
    tables: Sequence[Table] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    conditions: Mapping[str, Any] = field(default_factory=dict)
    skipped: str | None = None
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.identifier,
            "title": self.title,
            "skipped": self.skipped,
            "failed": self.failed,
            "conditions": dict(self.conditions),
            "facts": dict(self.facts),
            "notes": list(self.notes),
            "ratios": [ratio.to_json() for ratio in self.ratios],
            "series": [series.to_json() for series in self.series],
            "tables": [table.to_json() for table in self.tables],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Measurement:
        return cls(
            document["id"],
            document["title"],
            series=tuple(map(Series.from_json, document["series"])),
            ratios=tuple(map(Ratio.from_json, document["ratios"])),
            tables=tuple(map(Table.from_json, document.get("tables", ()))),
            facts=document["facts"],
            notes=tuple(document.get("notes", ())),
            conditions=document.get("conditions", {}),
            skipped=document["skipped"],
            failed=document["failed"],
        )


def ratio(name: str, subject: Series, reference: Series, figure: str, aim: str, *, times: float = 1.0) -> Ratio:
    """Paired: each round's figure over the reference's in the same round, so that a slow minute touches both.

    `times` is how many of the reference's requests stand for one of the subject's, for a figure of requests a second.
    """
    pairs = zip(subject.samples, reference.samples, strict=True)
    rounds = tuple(times * getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in pairs)
    return Ratio(name, subject.name, reference.name, figure, aim, rounds)
