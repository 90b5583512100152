"""P7: the default recipes of MobileNetV2, against the same calls bare, and against a converter run once per mode.

Aerogram's side is what a worker does, without the verification that bare calls do not have: the trace, then each
recipe in a confined process of its own. The trace also runs the source on the evaluation set, for later comparisons,
which the bare script does not. All sides run on one core, in turn.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.conversion_modes import MODES
from bench.outcome import Measurement, Ratio, Table
from registry.conversion.extras import missing_extras
from registry.conversion.plan import FOR_READY_FILES
from registry.conversion.recipes import RECIPES
from registry.conversion.runner import build_variant, run_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.harness import Harness
    from registry.conversion.report import Report

IDENTIFIER = "P7"
TITLE = "all default recipes of MobileNetV2 at 224 × 224, conversion only"
NEEDS_SERVERS = False

DEFAULT = [slug for slug, recipe in RECIPES.items() if not recipe.on_request and slug not in FOR_READY_FILES]
TFLITE = [slug for slug in DEFAULT if RECIPES[slug].family == "tflite"]
PER_MODE = "TFLiteConverter per mode"
MIB = 1 << 20
MAKE_MODEL = """
import sys, keras, numpy as np
keras.utils.set_random_seed(7)
keras.applications.MobileNetV2(weights=None).save(sys.argv[1])
images = np.random.default_rng(7).uniform(-1, 1, (20, 224, 224, 3)).astype("float32")
np.savez(sys.argv[2], inputs=images)
"""


@dataclass(frozen=True)
class Cost:
    """Wall and processor seconds, and the largest resident memory of one process, or of one job's together."""

    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int

    def __add__(self, other: Cost) -> Cost:
        peak = max(self.peak_memory_bytes, other.peak_memory_bytes)
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds, peak)


def measure(harness: Harness) -> Measurement:
    lacking = missing_extras()
    if {"tflite", "coreml"} & lacking.keys():
        return Measurement(IDENTIFIER, TITLE, skipped="; ".join(lacking.values()))
    source, images = harness.folder / "mobilenet_v2.keras", harness.folder / "images.npz"
    _script(["-c", MAKE_MODEL, str(source), str(images)])
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {harness.cores.server})
    try:
        rounds = [_round(harness, source, images, number) for number in range(min(harness.rounds, 3))]
    finally:
        os.sched_setaffinity(0, usable)
    return Measurement(IDENTIFIER, TITLE, ratios=_ratios(rounds), tables=[_table(rounds)], facts={"core": 1})


def _round(harness: Harness, source: Path, images: Path, number: int) -> dict[str, Cost]:
    sides: Sequence[tuple[str, Callable[[Path], Cost]]] = [
        ("aerogram", lambda folder: _aerogram(source, images, folder, DEFAULT)),
        ("bare script", lambda folder: _script(["-m", "bench.conversion_bare", str(source), str(images), str(folder)])),
        ("aerogram, tflite", lambda folder: _aerogram(source, images, folder, TFLITE)),
        (PER_MODE, lambda folder: _per_mode(source, images, folder)),
    ]
    costs = {}
    for index, (name, run) in enumerate(sides if number % 2 == 0 else reversed(sides)):
        folder = harness.folder / f"{number}-{index}"
        folder.mkdir()
        costs[name] = run(folder)
        harness.say(f"  round {number + 1}  {name:26} {_shown(costs[name])}")
    return costs


def _aerogram(source: Path, images: Path, folder: Path, recipes: Sequence[str]) -> Cost:
    trace = folder / "trace"
    started, cpu_before = time.monotonic(), _cpu_seconds()
    reports = [
        run_trace(
            source=source, source_format="keras", evaluation_set=images, output=trace, on_heartbeat=lambda _: None
        )
    ]
    for slug in recipes:
        output = folder / slug
        reports.append(
            build_variant(recipe=slug, trace=trace, evaluation_set=images, output=output, on_heartbeat=lambda _: None)
        )
    seconds, cpu_seconds = time.monotonic() - started, _cpu_seconds() - cpu_before
    _require_succeeded(reports)
    return Cost(seconds, cpu_seconds, max(report.peak_memory_bytes for report in reports))


def _cpu_seconds() -> float:
    """Of this process, which supervises, and of all that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _require_succeeded(reports: Sequence[Report]) -> None:
    for report in reports:
        if report.state != "succeeded":
            raise ValueError(f"expected every conversion to succeed; got {report.state}: {report.error}")


def _per_mode(source: Path, images: Path, folder: Path) -> Cost:
    total = Cost(0.0, 0.0, 0)
    for mode in MODES:
        total += _script(["-m", "bench.conversion_modes", str(source), str(images), str(folder), mode])
    return total


def _script(arguments: Sequence[str]) -> Cost:
    """A Python process of its own, timed from start to end."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    started = time.monotonic()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            cwd=Path(__file__).parents[1],
            stdout=subprocess.DEVNULL,
            stderr=told,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - started
        told.seek(0)
        if process.returncode:
            got = told.read()[-500:].decode(errors="replace")
            raise ValueError(f"{arguments[1]}: expected exit status 0; got {process.returncode}: {got}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _ratios(rounds: Sequence[dict[str, Cost]]) -> list[Ratio]:
    """Processor time says what wall time would on a machine that does nothing else, for all runs on one core."""
    pairs = (("", "aerogram", "bare script", "≤ 1.15"), (", tflite only", "aerogram, tflite", PER_MODE, "≤ 0.40"))
    return [
        Ratio(f"{what}{of}", ours, theirs, figure, aim, tuple(cost(r[ours]) / cost(r[theirs]) for r in rounds))
        for what, figure, cost in (("wall time", "seconds", _wall), ("processor time", "processor seconds", _cpu))
        for of, ours, theirs, aim in pairs
    ]


def _wall(cost: Cost) -> float:
    return cost.seconds


def _cpu(cost: Cost) -> float:
    return cost.cpu_seconds


def _table(rounds: Sequence[dict[str, Cost]]) -> Table:
    rows = tuple(
        (
            name,
            f"{median(r[name].seconds for r in rounds):.1f}",
            f"{median(r[name].cpu_seconds for r in rounds):.1f}",
            f"{max(r[name].peak_memory_bytes for r in rounds) // MIB}",
        )
        for name in rounds[0]
    )
    return Table("", ("side", "seconds", "processor seconds", "peak MiB"), rows)


def _shown(cost: Cost) -> str:
    return f"{cost.seconds:6.1f} s  processor {cost.cpu_seconds:6.1f} s  peak {cost.peak_memory_bytes // MIB} MiB"
