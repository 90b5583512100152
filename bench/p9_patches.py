"""P9: bytes of an update by weightdiff-1, against bsdiff and zstd --patch-from on the same pair of files.

Every patch is applied and its result compared. zstd is Debian's binary (`--patch-from -19`, the window as long as
the file); bsdiff is the package bsdiff4 in an environment of the bench's own.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from statistics import median
from typing import TYPE_CHECKING

from bench.environments import CACHE, NotInstalled, python_environment
from bench.outcome import Measurement, Ratio, Table
from bench.patch_pairs import FORMATS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.harness import Harness

IDENTIFIER = "P9"
TITLE = "bytes of an update of MobileNetV2, by kind of fine-tuning, and how fast a device applies it"
NEEDS_SERVERS = False

MOST_OF_FULL = 0.7
MIB = 1 << 20
AIMS = {"all": "≤ 0.70", "added": "≤ 0.70", "moved": "≤ 0.70", "gentle": "≤ 1.10"}
LUT_AIM = "≤ 1.10"
MORE = ("last", "seed")  # beside those that have an aim: only the last layer tuned, and nothing in common
SHOWN = {name: (*AIMS, *(MORE if name in ("int8", "linear-8") else ())) for name in FORMATS}
LEAST_SPEED, SPARE_BYTES = 50.0, 8 << 20  # MB/s of one core; beside base and result
BSDIFF = "bsdiff4==1.3.2"
BSDIFF_RUN = "import bsdiff4,sys; getattr(bsdiff4, 'file_' + sys.argv[1])(*sys.argv[2:])"
DECODE_RUN = """
import sys, time
from distribution.deltas.decoder import apply_patch
def highest():
    # Not getrusage: its figure begins with that of the process that started this one.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = highest()
seconds = []
for _ in range(int(sys.argv[6])):
    with open(sys.argv[1], "rb") as patch, open(sys.argv[2], "rb") as base, open(sys.argv[3], "wb") as result:
        started = time.process_time()
        apply_patch(patch, base, result, sha256=sys.argv[4], length=int(sys.argv[5]))
        seconds.append(time.process_time() - started)
print(highest() - before, *seconds)
"""


@dataclass(frozen=True)
class Row:
    """One update. `speed` in MB/s, `grown` and `allowed` in bytes of memory."""

    name: str
    size: int
    ours: int
    theirs: Mapping[str, int]
    speed: float
    grown: int
    allowed: int

    def ratio(self, aim: str) -> Ratio:
        better = min(self.theirs, key=lambda peer: self.theirs[peer])
        return Ratio(self.name, "weightdiff-1", better, "bytes", aim, (self.ours / self.theirs[better],))

    def cells(self) -> tuple[str, ...]:
        offered = "yes" if self.ours <= MOST_OF_FULL * self.size else "no"
        percents = [f"{100 * each / self.size:.1f}" for each in (self.ours, *self.theirs.values())]
        memory = f"{self.grown / MIB:.1f}", f"{self.allowed / MIB:.1f}"
        return (self.name, f"{self.size:,}", *percents, offered, f"{self.speed:.0f}", *memory)


def measure(harness: Harness, shown: Mapping[str, Sequence[str]] = SHOWN) -> Measurement:
    missing = _missing()
    if missing:
        return Measurement(IDENTIFIER, TITLE, skipped=missing)
    try:
        bsdiff = python_environment("bsdiff4", [BSDIFF])
    except NotInstalled as error:
        return Measurement(IDENTIFIER, TITLE, skipped=f"bsdiff: {error}")
    pairs = _pairs(harness)
    rows, ratios = [], []
    for name, states in reversed(shown.items()):
        for state in states:
            row = _row(harness, f"{name} {state}", pairs / name / "base", pairs / name / state, bsdiff)
            rows.append(row)
            ratios.append(row.ratio(LUT_AIM if name == "lut-4" and state in AIMS else AIMS.get(state, "–")))
            harness.say("  " + "  ".join(row.cells()))
    ratios += _decoding(rows)
    columns = ("update", "bytes", "% weightdiff-1", "% bsdiff", "% zstd", "offered", "MB/s", "MiB more", "MiB allowed")
    facts = {"zstd": _version("zstd"), "bsdiff": BSDIFF}
    table = Table("", columns, tuple(row.cells() for row in rows))
    return Measurement(IDENTIFIER, TITLE, ratios=ratios, tables=[table], facts=facts)


def _row(harness: Harness, name: str, base: Path, target: Path, bsdiff: Path) -> Row:
    """The encoders run side by side, since only the decoder is timed."""
    pair = _Pair(harness, base, target, bsdiff)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as encoders:
        begun = [encoders.submit(each) for each in (pair.weightdiff, pair.bsdiff, pair.zstd)]
        ours, *others = (each.result() for each in begun)
    theirs = dict(zip(("bsdiff", "zstd"), others, strict=True))
    speed, grown = pair.decoded()
    return Row(name, pair.size, ours, theirs, speed, grown, base.stat().st_size + pair.size + SPARE_BYTES)


def _decoding(rows: Sequence[Row]) -> list[Ratio]:
    """The slowest update against the least speed, and the one that took most of the memory it may take."""
    speed = min(row.speed for row in rows) / LEAST_SPEED
    memory = max(row.grown / row.allowed for row in rows)
    return [
        Ratio("slowest decode", "weightdiff-1", f"{LEAST_SPEED:.0f} MB/s", "MB/s", "≥ 1.00", (speed,)),
        Ratio("decoder's memory", "weightdiff-1", "base + result + 8 MiB", "bytes", "≤ 1.00", (memory,)),
    ]


def _missing() -> str | None:
    if which("zstd") is None:
        return "zstd is missing (apt-get install zstd)"
    return None if find_spec("tensorflow") else "TensorFlow is missing (extra `convert`)"


def _pairs(harness: Harness) -> Path:
    """Made once for each version of the script that makes them."""
    script = Path(__file__).with_name("patch_pairs.py")
    folder = CACHE / f"patches-{hashlib.sha256(script.read_bytes()).hexdigest()[:12]}"
    harness.say(f"  pairs in {folder.name} (made in some minutes if they are not there)")
    with (harness.folder / "pairs.log").open("wb") as log:
        command = [sys.executable, "-m", "bench.patch_pairs", str(folder)]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, cwd=script.parent.parent)
    return folder


class _Pair:
    """Two files and the patches between them."""

    def __init__(self, harness: Harness, base: Path, target: Path, bsdiff: Path) -> None:
        self._base, self._target, self._bsdiff = base, target, bsdiff
        self._folder, self._rounds = harness.folder, harness.rounds
        self.size = target.stat().st_size

    def weightdiff(self) -> int:
        """By the very process that the server starts, which also applies it."""
        command = [sys.executable, "-m", "distribution.deltas.make", str(self._base), str(self._target)]
        return self._made("weightdiff", [*command, "{patch}", "4096"])

    def bsdiff(self) -> int:
        run = [str(self._bsdiff), "-c", BSDIFF_RUN]
        size = self._made("bsdiff", [*run, "diff", str(self._base), str(self._target), "{patch}"])
        self._require([*run, "patch", str(self._base), "{result}", "{patch}"], "bsdiff")
        return size

    def zstd(self) -> int:
        run = ["zstd", "-q", "-f", f"--patch-from={self._base}", "--long=27"]
        size = self._made("zstd", [*run, "-19", "--single-thread", str(self._target), "-o", "{patch}"])
        self._require([*run, "-d", "{patch}", "-o", "{result}"], "zstd")
        return size

    def decoded(self) -> tuple[float, int]:
        """(median MB/s of CPU time, checks of both hashes included; bytes that the process grew by)."""
        digest = hashlib.sha256(self._target.read_bytes()).hexdigest()
        paths = (self._folder / "weightdiff", self._base, self._folder / "result")
        arguments = [*map(str, paths), digest, str(self.size), str(self._rounds)]
        command = [sys.executable, "-c", DECODE_RUN, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        grown, *seconds = done.stdout.split()
        return self.size / 1e6 / median(map(float, seconds)), int(grown) * 1024

    def _made(self, name: str, command: list[str]) -> int:
        self._run(command, name)
        return (self._folder / name).stat().st_size

    def _require(self, command: list[str], name: str) -> None:
        """Raises unless the patch makes the target."""
        self._run(command, name)
        if (self._folder / f"{name}.result").read_bytes() != self._target.read_bytes():
            raise ValueError(f"{name}: expected {self._target.name}, got another file")

    def _run(self, command: list[str], name: str) -> None:
        places = {"{patch}": str(self._folder / name), "{result}": str(self._folder / f"{name}.result")}
        filled = [places.get(each, each) for each in command]
        subprocess.run(filled, check=True, capture_output=True, cwd=Path(__file__).parents[1])


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    return done.stdout.strip().strip("*").strip()
