"""`python -m bench [P1 P2 …]`: measure, print ratios, write results.json, RESULTS.md and results.png."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import machine, p1_poll, p2_not_modified, p7_conversion, p9_patches, plot, report
from bench.harness import Harness, Patience
from bench.outcome import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, ModuleType

MEASUREMENTS: dict[str, ModuleType] = {
    module.IDENTIFIER: module for module in (p1_poll, p2_not_modified, p7_conversion, p9_patches)
}
_FOLDER = Path(__file__).parent
_ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGALRM)


class Ended(BaseException):
    """A signal ended the run; nothing that catches an Exception may keep it going."""


class OutOfTime(Ended):
    """The whole must end in time. What was measured until then is kept."""


@click.command()
@click.argument("identifiers", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 50))
@click.option("--seconds", default=3, show_default=True, type=click.IntRange(1, 30), help="Length of one run.")
@click.option("--patience", default=40, show_default=True, help="Seconds to spend on waiting for quiet neighbours.")
@click.option("--limit", default=1200, show_default=True, help="Seconds after which everything is stopped.")
@click.option("--output", default=_FOLDER, type=click.Path(path_type=Path, file_okay=False, exists=True))
def main(identifiers: tuple[str, ...], rounds: int, seconds: int, patience: int, limit: int, output: Path) -> None:
    """Measure IDENTIFIERS (all without any): ratios to a reference in the same run."""
    settings: dict[str, Any] = {"rounds": rounds, "seconds_per_run": seconds}
    chosen = [MEASUREMENTS[name] for name in identifiers or MEASUREMENTS]
    with _bounded(limit), _folder() as folder:
        taken = _measure_all(chosen, folder, settings, patience)
        settings["load_average_after"] = round(os.getloadavg()[0], 2)
    report.write(output, machine.describe(), settings, taken)
    for measurement in taken:
        click.echo(f"\n{measurement.identifier} {measurement.title}\n" + "\n".join(report.lines(measurement)))
    without = plot.draw(output / "results.png", taken)
    if without:
        click.echo(f"no plot: {without}")
    sys.exit(any(measurement.failed for measurement in taken))


def _measure_all(
    chosen: list[ModuleType], folder: Path, settings: dict[str, Any], patience: float
) -> list[Measurement]:
    """What the machine lacks skips those that need it; the end of the time fails those that are left."""
    taken: list[Measurement] = []
    settings |= {"load_average_before": round(os.getloadavg()[0], 2), "runs_repeated": 0}
    usable = os.sched_getaffinity(0)
    try:
        for module in chosen:
            os.sched_setaffinity(0, usable)
            taken.append(_measured_or_skipped(module, folder, settings, patience / len(chosen)))
    except OutOfTime as reason:
        left = chosen[len(taken) :]
        taken += [Measurement(each.IDENTIFIER, each.TITLE, failed=str(reason)) for each in left]
    finally:
        os.sched_setaffinity(0, usable)
    return taken


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
        if number == signal.SIGALRM:
            raise OutOfTime(f"stopped after {seconds} s, the limit of the whole run")
        raise Ended(signal.Signals(number).name)

    for caught in _ENDINGS:
        signal.signal(caught, leave)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Ended as reason:
        click.echo(f"bench: ended by {reason}; nothing was written", err=True)
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
