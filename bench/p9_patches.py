"""P9: bytes of an update by weightdiff-1, against bsdiff and zstd --patch-from on the same pair of files.

Every patch is applied and its result compared. zstd is Debian's binary (`--patch-from -19`, the window as long as
the file); bsdiff is the package bsdiff4 in an environment of the bench's own.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from statistics import median
from typing import TYPE_CHECKING

from bench.outcome import Measurement, Ratio, Table
from bench.patch_pairs import FORMATS

if TYPE_CHECKING:
    from bench.harness import Harness

IDENTIFIER = "P9"
TITLE = "bytes of an update of MobileNetV2, by kind of fine-tuning, and how fast a device applies it"
NEEDS_SERVERS = False

MOST_OF_FULL = 0.7
CACHE = Path(__file__).parent.parent / "var" / "bench"
AIMS = {"all": "≤ 0.70", "gentle": "≤ 1.10"}
LUT_AIM = "≤ 1.10"
MORE = ("last", "added", "moved", "seed")  # beside all and gentle
SHOWN = {name: ("all", "gentle", *(MORE if name in ("int8", "linear-8") else ())) for name in FORMATS}
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


def measure(harness: Harness) -> Measurement:
    missing = _missing()
    if missing:
        return Measurement(IDENTIFIER, TITLE, skipped=missing)
    pairs, bsdiff = _pairs(harness), _bsdiff_python()
    ratios, rows, speeds, grown = [], [], [], []
    for name in reversed(FORMATS):
        for state in SHOWN[name]:
            found = _Pair(harness, pairs / name / "base", pairs / name / state, bsdiff)
            ours, theirs = found.weightdiff(), {"bsdiff": found.bsdiff(), "zstd": found.zstd()}
            better = min(theirs, key=lambda peer: theirs[peer])
            speed, memory = found.decoded()
            speeds.append(speed)
            grown.append(memory)
            aim = LUT_AIM if name == "lut-4" else AIMS.get(state, "–")
            ratios.append(Ratio(f"{name} {state}", "weightdiff-1", better, "bytes", aim, (ours / theirs[better],)))
            offered = "yes" if ours <= MOST_OF_FULL * found.size else "no"
            percents = [f"{100 * each / found.size:.1f}" for each in (ours, *theirs.values())]
            rows.append((name, state, f"{found.size:,}", *percents, offered, f"{speed:.0f}", f"{memory / 1024:.1f}"))
            harness.say("  " + "  ".join(rows[-1]))
    columns = ("format", "state", "bytes", "% weightdiff-1", "% bsdiff", "% zstd", "offered", "MB/s", "MiB more")
    facts = {
        "slowest decode MB/s (aim ≥ 50)": f"{min(speeds):.0f}",
        "most memory grown MiB (aim ≤ base + result + 8)": f"{max(grown) / 1024:.1f}",
        "zstd": _version("zstd"),
        "bsdiff": BSDIFF,
    }
    return Measurement(IDENTIFIER, TITLE, ratios=ratios, tables=[Table("", columns, tuple(rows))], facts=facts)


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


def _bsdiff_python() -> Path:
    """An environment with bsdiff4 and nothing else."""
    python = CACHE / "bsdiff4" / "bin" / "python"
    if not python.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(python.parents[1])], check=True)
        subprocess.run([*uv, "pip", "install", "-q", "-p", str(python), BSDIFF], check=True)
    return python


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
        """(median MB/s of CPU time, checks of both hashes included; KiB that the process grew by)."""
        digest = hashlib.sha256(self._target.read_bytes()).hexdigest()
        paths = (self._folder / "weightdiff", self._base, self._folder / "result")
        arguments = [*map(str, paths), digest, str(self.size), str(self._rounds)]
        command = [sys.executable, "-c", DECODE_RUN, *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        grown, *seconds = done.stdout.split()
        return self.size / 1e6 / median(map(float, seconds)), int(grown)

    def _made(self, name: str, command: list[str]) -> int:
        self._run(command, name)
        return (self._folder / name).stat().st_size

    def _require(self, command: list[str], name: str) -> None:
        """Raises unless the patch makes the target."""
        self._run(command, name)
        if (self._folder / "result").read_bytes() != self._target.read_bytes():
            raise ValueError(f"{name}: expected {self._target.name}, got another file")

    def _run(self, command: list[str], name: str) -> None:
        places = {"{patch}": str(self._folder / name), "{result}": str(self._folder / "result")}
        filled = [places.get(each, each) for each in command]
        subprocess.run(filled, check=True, capture_output=True, cwd=Path(__file__).parents[1])


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], check=True, capture_output=True, text=True)
    return done.stdout.strip().strip("*").strip()
