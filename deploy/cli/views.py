"""How answers look in a terminal: tables and progress bars."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from deploy.cli.client import UNFINISHED, ControlPlane

STATE_STYLE = {"succeeded": "green", "not_applicable": "dim", "running": "cyan", "cancelled": "dim"}
STATE_STYLE |= dict.fromkeys(("waiting", "queued"), "dim")
LEAST_SHOWN = 0.001
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def print_warnings(console: Console, warnings: list[str]) -> None:
    for told in warnings:
        console.print(f"[yellow]{escape(told)}.[/yellow]")


@contextmanager
def transfer(console: Console, *, quiet: bool, files: list[Path | None]) -> Iterator[Callable[[int], None]]:
    """A bar over the bytes of all files together."""
    total = sum(path.stat().st_size for path in files if path)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task("Uploading", total=total)
        yield lambda count: progress.update(task, advance=count)


def follow_conversions(
    console: Console, server: ControlPlane, model: str, number: int, *, timeout_seconds: float, quiet: bool
) -> dict[str, Any]:
    """A line for every recipe with its step and percent, until none is open. Returns the version."""
    version: dict[str, Any] = {}
    with _live_bars(console, quiet=quiet) as progress:
        bars: dict[str, TaskID] = {}
        for version in server.watch_conversions(model, number, timeout_seconds=timeout_seconds):
            for job in version["jobs"]:
                if job["recipe"] not in bars:
                    bars[job["recipe"]] = progress.add_task(job["recipe"], total=100, told="")
                progress.update(bars[job["recipe"]], completed=_percent(job), told=_told(job))
    return version


def follow_reproduction(
    console: Console,
    server: ControlPlane,
    model: str,
    number: int,
    variant: str,
    *,
    timeout_seconds: float,
    quiet: bool,
) -> dict[str, Any]:
    """One line with the step and percent of a second build. Returns the comparison."""
    row: dict[str, Any] = {}
    with _live_bars(console, quiet=quiet) as progress:
        bar = progress.add_task(variant, total=100, told="")
        for row in server.watch_reproduction(model, number, variant, timeout_seconds=timeout_seconds):
            progress.update(bar, completed=_percent(row), told=_told(row))
    return row


def _live_bars(console: Console, *, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    return Progress(*columns, TextColumn("{task.fields[told]}"), console=console, disable=quiet)


def _percent(job: dict[str, Any]) -> int:
    return int(job["progress"].get("percent", 0)) if job["state"] in UNFINISHED else 100


def _told(job: dict[str, Any]) -> str:
    """The step while it runs, else its state."""
    return str(job["progress"].get("step") or job["state"]) if job["state"] == "running" else str(job["state"])


def print_reproduction(console: Console, variant: str, row: dict[str, Any]) -> None:
    """Every file, equal or different, then the converters that differ."""
    for file in row["files"]:
        words = "[green]equal[/green]" if file["is_equal"] else "[red]different[/red]"
        got = "" if file["is_equal"] else f", expected {_short(file['expected'])}, got {_short(file['got'])}"
        console.print(f"{words}  {escape(file['path'])}{got}")
    for name, versions in row["converter_versions"].items():
        then, now = versions["then"] or "none", versions["now"] or "none"
        console.print(f"[yellow]converter[/yellow]  {name}: {then} then, {now} now")
    detail = f": {row['detail']}" if row["detail"] else ""
    console.print(f"The second build of {escape(variant)} is {row['state']}{escape(detail)}")


def _short(sha256: str | None) -> str:
    return f"{sha256[:16]}…" if sha256 else "no such file"


def matrix_table(document: dict[str, Any]) -> Table:
    """One line a recipe, from its place in the queue to what it cost."""
    table = Table(title=f"{document['model']} version {document['version']}")
    for name in ("recipe", "state"):
        table.add_column(name, overflow="fold")
    for name in ("bytes", "zstd", "accuracy", "lost", "host latency"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("gates", overflow="fold")
    for row in document["rows"]:
        style = STATE_STYLE.get(row["state"], "red")
        state = f"{row['step'] or row['state']} {row['percent']} %" if row["state"] == "running" else _state(row)
        reused = f" (of {row['reused_from']})" if row["reused_from"] else ""
        table.add_row(row["recipe"], f"[{style}]{escape(state + reused)}[/{style}]", *_costs(row), _gates(row))
    return table


def _costs(row: dict[str, Any]) -> tuple[str, ...]:
    accuracy, lost, latency = row["accuracy"], row["accuracy_lost"], row["latency_host"]
    return (
        _number(row["size_bytes"]),
        _number(row["compressed_size_bytes"]),
        _figure(accuracy["value"]) if accuracy else "–",
        "–" if lost is None else _figure(lost, "+"),
        f"{latency['p50_us']:,.0f} µs" if latency else "–",
    )


def _figure(value: float, sign: str = "") -> str:
    """A share or an error: four places, or two figures of what would vanish in them."""
    return f"{value:{sign}.2g}" if 0 < abs(value) < LEAST_SHOWN else f"{value:{sign}.4f}"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _gates(row: dict[str, Any]) -> str:
    if row["uncovered"]:
        return "[red]blocked[/red]: " + escape("; ".join(f"{miss['code']} {miss['got']}" for miss in row["uncovered"]))
    return "[yellow]overridden[/yellow]" if row["misses"] else "kept" if row["size_bytes"] is not None else "–"


def comparison_table(document: dict[str, Any]) -> Table:
    table = Table(title=f"{document['model']}: version {document['newer']} against {document['older']}")
    table.add_column("recipe", overflow="fold")
    for name in ("bytes", "change", "worse by", "95 %", "latency ratio"):
        table.add_column(name, justify="right", overflow="fold")
    for row in document["rows"]:
        table.add_row(row["recipe"], *_difference(row))
    return table


def _difference(row: dict[str, Any]) -> tuple[str, ...]:
    older, newer, difference = row["older"], row["newer"], row["difference"]
    if difference is None:
        missing = "not in the older" if older is None else "not in the newer" if newer is None else "not built"
        return (_number(newer["size_bytes"]) if newer else "–", missing, "–", "–", "–")
    lost = difference["lost"][0] if difference["lost"] else None
    ratio = difference["latency_ratio"]
    return (
        _number(newer["size_bytes"]),
        f"{difference['size_bytes']:+,}",
        _figure(lost["lost"], "+") if lost else "–",
        f"{_figure(lost['low'], '+')} … {_figure(lost['high'], '+')}" if lost else "–",
        "–" if ratio is None else f"{ratio:.2f}",
    )


def variant_table(version: dict[str, Any], variants: list[dict[str, Any]]) -> Table:
    """One line a recipe: what it cost, or why there is no variant."""
    table = Table(title=f"{version['model']} version {version['number']}")
    table.add_column("variant", overflow="fold")
    for name in ("bytes", "accuracy", "parity", "host latency"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("state", overflow="fold")
    by_name = {variant["name"]: variant for variant in variants}
    for job in version["jobs"]:
        if job["recipe"] == "trace" and job["state"] == "succeeded":
            continue
        style = STATE_STYLE.get(job["state"], "red")
        table.add_row(job["recipe"], *_figures(by_name.get(job["recipe"])), f"[{style}]{_state(job)}[/{style}]")
    return table


def _figures(variant: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if variant is None:
        return "–", "–", "–", "–"
    report = variant["report"]
    accuracy, parity, latency = report.get("accuracy"), report.get("parity"), report.get("latency_host")
    return (
        f"{variant['size_bytes']:,}",
        _figure(accuracy["value"]) if accuracy else "–",
        f"{parity['max_abs_error']:.2g}" if parity else "–",
        f"{latency['p50_us']:,.0f} µs" if latency else "–",
    )


def _state(job: dict[str, Any]) -> str:
    error = job.get("error") or {}
    return f"{job['state']}: {error['detail']}" if error.get("detail") else str(job["state"])


def model_table(models: list[dict[str, Any]]) -> Table:
    table = Table("model", "versions")
    for model in models:
        table.add_row(model["slug"], str(model["versions"]))
    return table


def version_table(versions: list[dict[str, Any]]) -> Table:
    table = Table("version", "source", "registered", "by", "variants")
    for version in versions:
        number = f"{version['number']} (yanked)" if version["yanked_at"] else str(version["number"])
        table.add_row(
            number,
            version["source_file_name"],
            version["registered_at"][:19],
            version["registered_by"],
            ", ".join(version["variants"]) or "–",
        )
    return table


def release_table(releases: list[dict[str, Any]]) -> Table:
    table = Table("id", "model", "version", "state", "revision", "by", "reason")
    for release in releases:
        revision = str(release["live_revision"] or "–")
        version = f"{release['version']} (rollback)" if release["is_rollback"] else str(release["version"])
        table.add_row(
            str(release["id"]),
            release["model"],
            version,
            release["state"],
            revision,
            release["released_by"],
            release["reason"],
        )
    return table


def print_explanation(console: Console, told: dict[str, Any]) -> None:
    """Every rule in the order tried, then what came of it."""
    marks = {"applied": "[green]applied[/green]", "failed": "[red]failed[/red]", "not_applied": "[dim]–[/dim]"}
    table = Table("rule", "of", "outcome", "why")
    for step in told["steps"]:
        table.add_row(step["rule"], escape(step["name"] or "–"), marks[step["outcome"]], escape(step["detail"]))
    console.print(table)
    decision = told["decision"]
    parts = [f"{name} {decision[name]}" for name in ("version", "variant", "experiment", "arm") if name in decision]
    console.print(f"revision {told['revision']}: {', '.join([decision['reason'], *parts])}")
    failed = told["first_failed"]
    if failed:
        named = f" {failed['name']}" if failed["name"] else ""
        console.print(f"first that failed: {failed['rule']}{escape(named)}: {escape(failed['detail'])}")


def plain_table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    """The named members of each row; a narrow terminal breaks them, and cuts none. Times in UTC, by the second."""
    table = Table(*(Column(column.replace("_", " "), overflow="fold") for column in columns))
    for row in rows:
        table.add_row(*(escape(_plain(row[column])) for column in columns))
    return table


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return f"{value[:10]} {value[11:19]}"
    return json.dumps(value) if isinstance(value, dict) else str(value)
