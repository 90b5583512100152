"""Keeps a set of programs running until it is told to stop."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from deploy.dev.children import Child, Part, describe_exit
from deploy.dev.errors import DevError
from deploy.dev.layout import Layout

_POLL_SECONDS = 0.1
_STABLE_SECONDS = 60.0
_LONGEST_DELAY_SECONDS = 30.0
_FAILURES_WHILE_STARTING = 3


class StopRequested(Exception):
    """Somebody pressed Ctrl-C or sent SIGTERM."""


def restart_delay(failures: int) -> float:
    """Seconds to wait before the next start: 1, 2, 4, … after the first, second, third failure, at most 30."""
    return min(2.0 ** min(failures - 1, 10), _LONGEST_DELAY_SECONDS)


@dataclass
class Watch:
    """One program and its recent failures. Times are those of a monotonic clock, in seconds."""

    child: Child
    started_at: float
    failures: int = 0
    restart_at: float | None = None

    def tend(self, now: float) -> str | None:
        """Notice an end, or start again when the delay is over; a line to say, if anything happened."""
        if self.restart_at is not None:
            if now < self.restart_at:
                return None
            self.child.start()
            self.started_at, self.restart_at = now, None
            return f"{self.child.part.name} started again."
        if self.child.is_running():
            return None
        ending = describe_exit(self.child.exit_code())
        self.child.finish()
        self.failures = 1 if now - self.started_at > _STABLE_SECONDS else self.failures + 1
        delay = restart_delay(self.failures)
        self.restart_at = now + delay
        return f"{self.child.part.name} ended with {ending}; starting it again in {delay:g} s ({self.child.log})."


@dataclass
class Supervisor:
    layout: Layout
    say: Callable[[str], None]
    watches: list[Watch] = field(default_factory=list)
    stop_requests: int = 0

    def listen_for_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def adopt(self, child: Child) -> None:
        self.watches.append(Watch(child, started_at=time.monotonic()))

    def start(self, part: Part) -> Child:
        child = Child(part, run=self.layout.run, logs=self.layout.logs)
        child.start()
        self.adopt(child)
        return child

    def complete(self, child: Child) -> int:
        """Run a program to its end while the others are looked after; its exit code."""
        child.start()
        try:
            while child.is_running():
                self._pass_time()
        finally:
            child.stop()
        return child.exit_code() or 0

    def wait_until_ready(self, names: frozenset[str], timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        for watch in (watch for watch in self.watches if watch.child.part.name in names):
            while not watch.child.part.is_ready():
                if watch.failures >= _FAILURES_WHILE_STARTING:
                    raise DevError(f"{watch.child.part.name} does not start.{watch.child.tail()}")
                if time.monotonic() > deadline:
                    raise DevError(f"{watch.child.part.name} does not answer.{watch.child.tail()}")
                self._pass_time()

    def stay(self) -> NoReturn:
        while True:
            self._pass_time()

    def stop(self) -> None:
        """Stop all, stage by stage, the last started first; a second request to stop takes the grace time away."""
        patience = max(self.stop_requests, 1)
        for stage in sorted({watch.child.part.stage for watch in self.watches}, reverse=True):
            children = [watch.child for watch in reversed(self.watches) if watch.child.part.stage == stage]
            for child in children:
                child.request_stop()
            started = time.monotonic()
            for child in children:
                deadline = started + child.part.grace_seconds
                while child.is_running() and time.monotonic() < deadline and self.stop_requests <= patience:
                    time.sleep(_POLL_SECONDS)
                child.finish(grace_seconds=0)
        self.watches.clear()

    def _pass_time(self) -> None:
        if self.stop_requests:
            raise StopRequested
        for watch in self.watches:
            line = watch.tend(time.monotonic())
            if line:
                self.say(line)
        time.sleep(_POLL_SECONDS)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requests += 1
