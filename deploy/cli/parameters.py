"""What options of experiments look like, and what the API gets of them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import click

BASIS_POINTS = 100


class Percent(click.ParamType[int]):
    """25 or 0.5, in hundredths of a percent at most; gives basis points."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            points = round(float(value) * BASIS_POINTS, 6)
        except ValueError:
            self.fail(f"expected a percentage like 25 or 0.5, got {value!r}", param, ctx)
        if points != int(points) or not 0 <= points <= 100 * BASIS_POINTS:
            self.fail(f"expected 0 to 100 with two decimals at most, got {value!r}", param, ctx)
        return int(points)


class PlanStep(click.ParamType[dict[str, Any]]):
    """PERCENT[:HOURS[:UNITS[:approval]]], such as 5:24:200."""

    name = "step"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        percent, hours, units, approval, *rest = [*str(value).split(":"), "0", "0", ""][: max(4, value.count(":") + 1)]
        try:
            step = {"hold_seconds": round(float(hours) * 3600), "min_units": int(units)}
        except ValueError:
            self.fail(f"expected PERCENT[:HOURS[:UNITS[:approval]]], got {value!r}", param, ctx)
        if rest or approval not in ("", "0", "approval"):
            self.fail(f"expected PERCENT[:HOURS[:UNITS[:approval]]], got {value!r}", param, ctx)
        wants = {"needs_approval": approval == "approval"}
        return {"percent_bp": Percent().convert(percent, param, ctx), **step, **wants}


class Arm(click.ParamType[dict[str, Any]]):
    """NAME=VERSION, or NAME=embedded for the model inside the app."""

    name = "arm"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        name, _, version = str(value).partition("=")
        if version != "embedded" and not version.isdigit():
            self.fail(f"expected NAME=VERSION or NAME=embedded, got {value!r}", param, ctx)
        return {"name": name, "version": None if version == "embedded" else int(version)}


class Span(click.ParamType[list[int]]):
    """FIRST:END, half-open, within 0:10000."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        first, _, end = str(value).partition(":")
        if not (first.isdigit() and end.isdigit()):
            self.fail(f"expected FIRST:END such as 0:5000, got {value!r}", param, ctx)
        return [int(first), int(end)]


class Moment(click.ParamType[str]):
    """A time with its zone; what names none is UTC."""

    name = "time"
    told: ClassVar = "2026-12-01T08:00:00Z"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"expected a time such as {self.told}, got {value!r}", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


class Document(click.ParamType[dict[str, Any]]):
    """A file that holds a JSON object."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        try:
            found = json.loads(Path(value).read_text())
        except (OSError, ValueError) as error:
            self.fail(f"expected a file with a JSON object, got {value}: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail(f"expected a JSON object in {value}, got {type(found).__name__}", param, ctx)
        return found
