"""`python -m bench [P1 P2 …]`: measure, print ratios, write results.json, RESULTS.md and results.png.

Each measurement is written as soon as it is taken and replaces only its own former figures.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import traceback
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import (
    machine,
    p1_poll,
    p2_not_modified,
    p3_public,
    p4_peers,
    p5_growth,
    p6_push,
    p7_conversion,
    p8_ingest,
    p9_patches,
    p10_memory,
    p11_day,
    plot,
    report,
)
from bench.harness import Harness, Patience
from bench.outcome import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, ModuleType

MEASUREMENTS: dict[str, ModuleType] = {
    module.IDENTIFIER: module
    for module in (
        p1_poll,
        p2_not_modified,
        p3_public,
        p4_peers,
        p5_growth,
        p6_push,
        p7_conversion,
        p8_ingest,
        p9_patches,
        p10_memory,
        p11_day,
    )
}
DESIGNED = tuple(f"P{number}" for number in range(1, 12))
_FOLDER = Path(__file__).parent
_ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM)


class Ended(BaseException):
    """A signal ended the run; nothing that catches an Exception may keep it going."""


@click.command()
@click.argument("identifiers", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option("--seconds", default=3, show_default=True, type=click.IntRange(1, 30), help="Length of one run.")
@click.option("--patience", default=40, show_default=True, help="Seconds to spend on waiting for quiet neighbours.")
@click.option("--limit", default=2400, show_default=True, help="Seconds after which everything is stopped.")
@click.option("--output", default=_FOLDER, type=click.Path(path_type=Path, file_okay=False, exists=True))
def main(identifiers: tuple[str, ...], rounds: int, seconds: int, patience: int, limit: int, output: Path) -> None:
    """Measure IDENTIFIERS (all without any): ratios to a reference in the same run."""
    settings: dict[str, Any] = {"rounds": rounds, "seconds_per_run": seconds}
    chosen = [module for name, module in MEASUREMENTS.items() if not identifiers or name in identifiers]
    failed = False
    with _bounded(limit), _folder() as folder:
        for measurement in _measure_each(chosen, folder, settings, patience):
            failed = failed or measurement.failed is not None
            _keep(output, measurement)
            click.echo(f"\n{measurement.identifier} {measurement.title}\n" + "\n".join(report.lines(measurement)))
    without = plot.draw(output / "results.png", report.stored(output))
    if without:
        click.echo(f"no plot: {without}")
    sys.exit(failed)


def _keep(output: Path, measurement: Measurement) -> None:
    kept = report.merged(report.stored(output), [measurement])
    known = {each.identifier for each in kept}
    absent = [f"{name}: not measured yet" for name in DESIGNED if name not in known]
    report.write(output, kept, absent)


def _measure_each(
    chosen: list[ModuleType], folder: Path, settings: dict[str, Any], patience: float
) -> Iterator[Measurement]:
    """What the machine lacks skips those that need it."""
    about = machine.describe()
    usable = os.sched_getaffinity(0)
    for module in chosen:
        conditions = {**about, **settings, "load_average_before": round(os.getloadavg()[0], 2), "runs_repeated": 0}
        try:
            measurement = _measured_or_skipped(module, folder, conditions, patience / len(chosen))
        finally:
            os.sched_setaffinity(0, usable)
        conditions["load_average_after"] = round(os.getloadavg()[0], 2)
        conditions["taken"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        yield replace(measurement, conditions=conditions)


def _measured_or_skipped(module: ModuleType, folder: Path, settings: dict[str, Any], patience: float) -> Measurement:
    """Servers and load are pinned to a core each; what needs neither runs where the machine puts it."""
    share = Patience(patience)
    cores = machine.Cores(0, 0)
    if getattr(module, "NEEDS_SERVERS", True):
        try:
            machine.require_tools()
            cores = machine.Cores.choose()
        except machine.ToolsMissing as missing:
            return Measurement(module.IDENTIFIER, module.TITLE, skipped=str(missing))
        os.sched_setaffinity(0, {cores.generator})
    harness = Harness(folder, cores, settings["rounds"], settings["seconds_per_run"], share, click.echo)
    measurement = _measured(module, harness)
    settings["runs_repeated"] += share.repeated
    return measurement


def _measured(module: ModuleType, harness: Harness) -> Measurement:
    """A measurement that fails leaves the others theirs."""
    click.echo(f"{module.IDENTIFIER} {module.TITLE}")
    try:
        measurement: Measurement = module.measure(harness)
    except Exception as error:  # noqa: BLE001  # whatever it is, it belongs into the report
        click.echo(traceback.format_exc(), err=True)
        return Measurement(module.IDENTIFIER, module.TITLE, failed=f"{type(error).__name__}: {error}")
    return measurement


@contextmanager
def _bounded(seconds: int) -> Iterator[None]:
    """Leave by an exception on a signal and after `seconds`, so that every `finally` stops its server."""

    def leave(number: int, _: FrameType | None) -> None:
        for caught in _ENDINGS:
            signal.signal(caught, signal.SIG_IGN)
        alarm = number == signal.SIGALRM
        raise Ended(f"its limit of {seconds} s" if alarm else signal.Signals(number).name)

    for caught in _ENDINGS:
        signal.signal(caught, leave)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Ended as reason:
        click.echo(f"bench: ended by {reason}; what was measured until then is kept", err=True)
        sys.exit(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _folder() -> Iterator[Path]:
    # Not below var/, which others may clean meanwhile.
    folder = Path(tempfile.mkdtemp(prefix="aerogram-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
