"""What happened in the story, line by line: from the audit log, from the looks that were taken, and from the fleet."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

PEOPLE = ("admin", "grace")


class Line(NamedTuple):
    """One line of the timeline."""

    at: datetime
    model: str
    who: str
    what: str
    why: str = ""


def told_change(model: str, entry: Mapping[str, Any]) -> Line:
    after, verb = entry["after"], entry["verb"].removesuffix("_experiment")
    far = f", {after['phase']['percent_bp'] / 100:g} %" if after["phase"] else ""
    halted = f", halted for {', '.join(after['halted_classes'])}" if after["halted_classes"] else ""
    why = _short(entry["reason"]) if entry["actor"] not in PEOPLE else ""
    return Line(
        datetime.fromisoformat(entry["at"]), model, entry["actor"], f"{verb}: {after['state']}{far}{halted}", why
    )


def told_looks(model: str, looks: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    """Those at which the verdict changed."""
    before = None
    for look in looks:
        if (look["verdict"], look["phase"]) != before:
            what = f"{look['verdict']}, {look['units']} units in the smallest arm"
            at = datetime.fromisoformat(look["as_of"])
            yield Line(at, model, f"look at phase {look['phase']}", what, _short(look["reasons"][0]))
        before = (look["verdict"], look["phase"])


def _short(text: str) -> str:
    first = text.partition("; ")[0]
    return first if len(first) <= 110 else f"{first[:109]}…"


def printed(lines: Sequence[Line]) -> Iterator[str]:
    """The timeline for a terminal."""
    began = lines[0].at
    for line in lines:
        seconds = (line.at - began).total_seconds()
        yield f"{seconds:6.1f} s  {line.model:9} {line.who:16}  {line.what}"
        if line.why:
            yield f"{'':38}{line.why}"
