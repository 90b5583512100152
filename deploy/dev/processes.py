"""Processes on record, so that those of a run that was killed are recognised and stopped by the next one.

A pid alone is no identity, it is given out again: a record holds the pid and the start time, and survivors of a
process that died without its children are known by a variable in their environment.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MARK = "AEROGRAM_SUPERVISED_BY"
_CLOCK_TOLERANCE_SECONDS = 2.0  # the kernel counts from boot, and the time of boot is corrected with the clock
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Record:
    name: str
    pid: int
    started: float  # seconds since the epoch
    stop_signal: int
    grace_seconds: float

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The record in a file; none where a run was killed while it wrote it."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        partial = folder / f".{self.name}.json"
        partial.write_text(json.dumps(asdict(self)))
        partial.replace(self.path(folder))

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.json"

    def is_alive(self) -> bool:
        """Whether the very process that was recorded still runs."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            same: bool = abs(process.create_time() - self.started) <= _CLOCK_TOLERANCE_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        return False


def stop_orphans(folder: Path) -> list[str]:
    """Stop what a killed run left behind, last started first; the names of those found alive."""
    records = [(path, Record.read(path)) for path in sorted(folder.glob("*.json"), key=_modified, reverse=True)]
    found = []
    for path, record in records:
        if record and (record.is_alive() or list(survivors(record.pid, str(folder)))):
            found.append(record.name)
            stop(record, mark=str(folder))
        path.unlink()
    return found


def stop(record: Record, *, mark: str) -> None:
    """Ask the process to end, wait for its grace time, then kill it and whatever is left of its session."""
    if record.is_alive():
        with suppress(ProcessLookupError):
            os.kill(record.pid, record.stop_signal)
        _wait_until_gone(record)
    if record.is_alive():
        with suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGKILL)
    kill_survivors(record.pid, mark)


def kill_survivors(session: int, mark: str) -> None:
    for process in survivors(session, mark):
        with suppress(psutil.Error):
            process.kill()


def survivors(session: int, mark: str) -> Iterator[psutil.Process]:
    """Processes of the session that carry our mark, without its leader."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != session and os.getsid(process.pid) == session and process.environ().get(MARK) == mark:
                yield process


def _wait_until_gone(record: Record) -> None:
    deadline = time.monotonic() + record.grace_seconds
    while record.is_alive() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _modified(path: Path) -> float:
    return path.stat().st_mtime
