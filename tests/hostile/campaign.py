"""Thousands of damaged files through the readers, a hundred of each format through the worker, and what came of them.

python -m tests.hostile.campaign --readers 2000 --worker 100 [--seeds FOLDER] [--formats tflite,onnx]

Readers run in this process: anything but a named error, more than 2 s or 200 MB is a finding. Workers are the ones of
a conversion; accepted files come first there, for they are the ones that reach a runtime. FOLDER holds real files to
damage, by the formats' suffixes.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from registry.conversion.runner import run_trace
from registry.conversion.supervision import Limits
from registry.inspection import InspectionError, inspect_source
from tests.hostile.mutants import SUFFIXES, Mutant, mutants, sound

SEED = 20261122
MAX_SECONDS, MAX_BYTES = 2.0, 200 * 1024**2
WORKER_SHARE_ACCEPTED = 0.8
NOT_A_REASON = frozenset({"", "unexpected", "bad_result"})  # the file's fault has another name
LIMITS = Limits(wall_seconds=120, cpu_seconds=120, address_space_bytes=6 * 1024**3, resident_bytes=4 * 1024**3)


@dataclass
class Figures:
    """`outcomes` counts accepted files, and refused ones by their code; `findings` is what must not be.

    `examples` holds the first file of each outcome and what was said of it.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    slowest: str = ""
    peak_bytes: int = 0


def read_all(found: Iterable[Mutant], suffix: str, folder: Path, keep: int) -> tuple[Figures, list[Mutant]]:
    """The figures, and `keep` files for the worker: accepted ones first."""
    figures = Figures()
    accepted: list[Mutant] = []
    refused: list[Mutant] = []
    for mutant in found:
        path = folder / f"mutant{suffix}"
        path.write_bytes(mutant.content)
        # Processor time: the machine may be busy with other things.
        before, started = _resident_bytes(), time.process_time()
        outcome = _read(path, figures, mutant.name)
        seconds, grown = time.process_time() - started, _peak_bytes() - before
        figures.outcomes[outcome] += 1
        kept = accepted if outcome == "accepted" else refused
        if len(kept) < keep:
            kept.append(mutant)
        figures.peak_bytes = max(figures.peak_bytes, grown)
        if seconds > figures.slowest_seconds:
            figures.slowest_seconds, figures.slowest = seconds, mutant.name
        if seconds > MAX_SECONDS or grown > MAX_BYTES:
            figures.findings.append(f"{mutant.name}: {seconds:.1f} s, {grown >> 20} MiB")
    first = accepted[: max(round(WORKER_SHARE_ACCEPTED * keep), keep - len(refused))]
    return figures, first + refused[: keep - len(first)]


def _read(path: Path, figures: Figures, name: str) -> str:
    try:
        inspect_source(path, path.name).to_json()
    except InspectionError as error:
        return error.code
    except Exception as error:  # noqa: BLE001 - the finding itself
        figures.findings.append(f"{name}: {type(error).__name__} {error}")
        return f"{type(error).__name__} (finding)"
    return "accepted"


def _resident_bytes() -> int:
    """What this process holds now; the peak is counted anew from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak_bytes() -> int:
    return _status("VmHWM")


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def work_all(found: Sequence[Mutant], file_format: str, folder: Path) -> Figures:
    figures = Figures()
    source_format = "coreml" if file_format in {"mlpackage", "mlmodel"} else file_format
    for number, mutant in enumerate(found):
        path = folder / f"{number}{SUFFIXES[file_format]}"
        path.write_bytes(mutant.content)
        started = time.perf_counter()
        report = run_trace(
            source=path,
            source_format=source_format,
            evaluation_set=None,
            output=folder / f"out{number}",
            limits=LIMITS,
            on_heartbeat=lambda *_: None,
        )
        seconds = time.perf_counter() - started
        code = report.error.code if report.error else ""
        outcome = f"{report.state} {code}".strip()
        figures.outcomes[outcome] += 1
        if report.error:
            figures.examples.setdefault(outcome, f"{mutant.name}: {report.error.detail[:160]}")
        if report.state == "succeeded" and code:
            figures.findings.append(f"{mutant.name}: succeeded with {code}")
        if report.state == "failed" and code in NOT_A_REASON:
            detail = report.error.detail if report.error else "no error"
            figures.findings.append(f"{mutant.name}: {code} {detail[:300]}")
        figures.peak_bytes = max(figures.peak_bytes, report.peak_memory_bytes)
        if seconds > figures.slowest_seconds:
            figures.slowest_seconds, figures.slowest = seconds, mutant.name
    return figures


def seeds_of(folder: Path | None, file_format: str) -> list[bytes]:
    suffix = SUFFIXES[file_format]
    paths = sorted(folder.iterdir()) if folder else []
    return [path.read_bytes() for path in paths if _suffix(path.name) == suffix] or [sound(file_format)]


def _suffix(name: str) -> str:
    return ".mlpackage.zip" if name.endswith(".mlpackage.zip") else Path(name).suffix


def _lines(title: str, figures: Figures) -> Iterator[str]:
    total = sum(figures.outcomes.values())
    peak = f"memory at most {figures.peak_bytes >> 20} MiB"
    yield f"{title}: {total} files, slowest {figures.slowest_seconds:.2f} s ({figures.slowest}), {peak}"
    for outcome, count in figures.outcomes.most_common():
        example = figures.examples.get(outcome)
        yield f"    {count:5} {outcome}" + (f"  e.g. {example}" if example else "")
    for finding in figures.findings:
        yield f"    FINDING {finding}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--readers", type=int, default=2000)
    parser.add_argument("--worker", type=int, default=100)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--seeds", type=Path)
    parser.add_argument("--formats", default=",".join(SUFFIXES))
    given = parser.parse_args(arguments)
    findings = 0
    for file_format in given.formats.split(","):
        found = islice(mutants(file_format, seeds_of(given.seeds, file_format), given.seed), given.readers)
        with tempfile.TemporaryDirectory() as folder:
            figures, chosen = read_all(found, SUFFIXES[file_format], Path(folder), given.worker)
        _print(f"{file_format} readers", figures)
        findings += len(figures.findings)
        if given.worker:
            with tempfile.TemporaryDirectory() as folder:
                figures = work_all(chosen, file_format, Path(folder))
            _print(f"{file_format} worker", figures)
            findings += len(figures.findings)
    return 1 if findings else 0


def _print(title: str, figures: Figures) -> None:
    sys.stdout.write("\n".join(_lines(title, figures)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main(sys.argv[1:]))
