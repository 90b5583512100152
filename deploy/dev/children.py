"""A program as it should run (`Part`), and that program running (`Child`)."""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from deploy.dev.errors import DevError
from deploy.dev.processes import MARK, Record, kill_survivors

_LOG_BYTES_KEPT = 10_000_000
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Part:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    working_folder: Path
    is_ready: Callable[[], bool] = lambda: True
    system_user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    stage: int = 1  # the highest stage stops first: programs before the servers they use


class Child:
    def __init__(self, part: Part, *, run: Path, logs: Path, in_terminal: bool = False) -> None:
        """`in_terminal`: its output is for whoever watches, not for a log."""
        self.part = part
        self._in_terminal = in_terminal
        self.log = logs / f"{part.name}.log"
        self._run = run
        self._process: subprocess.Popen[bytes] | None = None
        self._record: Record | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.part.name} was not started"
        return self._process.pid

    def start(self) -> None:
        """Start the program in a session of its own: a Ctrl-C in the terminal is for the supervisor alone."""
        rotate(self.log)
        with open(self.log, "ab", opener=_private) as log:
            self._process = subprocess.Popen(
                list(self.part.command),
                env={**self.part.environment, MARK: str(self._run)},
                cwd=self.part.working_folder,
                stdin=subprocess.DEVNULL,
                stdout=None if self._in_terminal else log,
                stderr=log if self._in_terminal else subprocess.STDOUT,
                start_new_session=True,
                **as_user(self.part.system_user),
            )
        self._record = self._describe(self._process.pid)
        self._record.write(self._run)

    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return None if self._process is None else self._process.poll()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def request_stop(self) -> None:
        if self._process is not None and self.is_running():
            self._process.send_signal(self.part.stop_signal)

    def finish(self, grace_seconds: float | None = None) -> None:
        """Wait for the end that was asked for, then force it; leaves nothing of the program's session behind."""
        if self._process is None or self._record is None:
            return
        try:
            self._process.wait(self.part.grace_seconds if grace_seconds is None else grace_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        kill_survivors(self._process.pid, str(self._run))
        self._record.path(self._run).unlink(missing_ok=True)

    def stop(self) -> None:
        self.request_stop()
        self.finish()

    def kill(self) -> None:
        """End it as a power failure would, for tests of what survives."""
        assert self._process is not None, f"{self.part.name} was not started"
        self._process.kill()
        self._process.wait()

    def wait_until_ready(self, timeout_seconds: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self.part.is_ready():
            if not self.is_running():
                raise DevError(
                    f"{self.part.name} ended while starting, with {describe_exit(self.exit_code())}.{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise DevError(f"{self.part.name} was not ready within {timeout_seconds:g} s.{self.tail()}")
            time.sleep(_POLL_SECONDS)

    def tail(self, lines: int = 15) -> str:
        """The end of the log, as a paragraph for a message."""
        return log_tail(self.log, lines)

    def _describe(self, pid: int) -> Record:
        started = time.time()
        with suppress(psutil.Error):
            started = psutil.Process(pid).create_time()
        return Record(self.part.name, pid, started, self.part.stop_signal, self.part.grace_seconds)


def describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def log_tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return "".join(f"\n    {line}" for line in [f"End of {log}:", *text])


def rotate(log: Path) -> None:
    """Keep one former log: a checkout that runs for weeks must not fill the disk."""
    if log.exists() and log.stat().st_size > _LOG_BYTES_KEPT:
        log.replace(log.with_suffix(".log.1"))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def as_user(name: str | None) -> dict[str, Any]:
    """Arguments of `subprocess` that drop root's rights for the user; none where we are not root."""
    if name is None or os.geteuid() != 0:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}
