"""How answers look in a terminal: tables and progress bars."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.cli.client import UNFINISHED, ControlPlane

STATE_STYLE = {"succeeded": "green", "not_applicable": "dim", "running": "cyan", "waiting": "dim", "queued": "dim"}


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
    """A bar over the conversions of a version, until none is open. Returns the version."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    version: dict[str, Any] = {}
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task(f"Converting {model}:{number}", total=None)
        for version in server.watch_conversions(model, number, timeout_seconds=timeout_seconds):
            jobs = version["jobs"]
            running = [job["recipe"] for job in jobs if job["state"] == "running"]
            progress.update(
                task,
                total=len(jobs),
                completed=sum(job["state"] not in UNFINISHED for job in jobs),
                description=f"Converting {model}:{number} {', '.join(running)}".strip(),
            )
    return version


def variant_table(version: dict[str, Any], variants: list[dict[str, Any]]) -> Table:
    """One line a recipe: what it cost, or why there is no variant."""
    table = Table(title=f"{version['model']} version {version['number']}")
    for name, justify in (("variant", "left"), ("bytes", "right"), ("accuracy", "right"), ("parity", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("host latency", justify="right")
    table.add_column("state")
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
        f"{accuracy['value']:.4f}" if accuracy else "–",
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


def plain_table(columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    """The named members of each row, as they came."""
    table = Table(*(column.replace("_", " ") for column in columns))
    for row in rows:
        table.add_row(*(escape(_plain(row[column])) for column in columns))
    return table


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else str(value)
