"""What a variant weighs: compressed for the wire, and in memory while it runs."""

from collections.abc import Iterable
from pathlib import Path

import zstandard

ZSTD_LEVEL = 19
STATUS = Path("/proc/self/status")
KIB = 1024


class Counter:
    """A sink that keeps the length of what it is given."""

    size_bytes = 0

    def write(self, data: bytes) -> int:
        self.size_bytes += len(data)
        return len(data)


def compressed_bytes(files: Iterable[Path]) -> int:
    """Sum of the files' sizes after zstd at level 19, each for itself, as distribution stores them."""
    counter = Counter()
    for file in files:
        with file.open("rb") as stream:
            # Told the size, it chooses its tables for it; small files come out smaller.
            zstandard.ZstdCompressor(level=ZSTD_LEVEL).copy_stream(stream, counter, size=file.stat().st_size)  # type: ignore[arg-type]
    return counter.size_bytes


class Growth:
    """Bytes by which this process's resident memory grew at its most since the object was made; None off Linux."""

    def __init__(self) -> None:
        self._before = resident()

    def grown_bytes(self) -> int | None:
        now = resident()
        if self._before is None or now is None:
            return None
        # An older, higher peak says nothing of the time since.
        most = now[1] if now[1] > self._before[1] else now[0]
        return max(0, most - self._before[0])


def resident() -> tuple[int, int] | None:
    """Resident memory now and at its most, in bytes."""
    try:
        lines = STATUS.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    try:
        now, most = (int(fields[name].split()[0]) * KIB for name in ("VmRSS", "VmHWM"))
    except (KeyError, ValueError):
        return None
    return now, most
