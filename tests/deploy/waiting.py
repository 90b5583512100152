"""Waiting for another process, without guessing how long it takes."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str, patience_seconds: float = 120.0) -> None:
    deadline = time.monotonic() + patience_seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_seconds:g} s for {what}"
        time.sleep(0.01)
