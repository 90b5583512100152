"""Waiting for another process, without guessing how long it takes."""

import time
from collections.abc import Callable

_PATIENCE_SECONDS = 20.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {_PATIENCE_SECONDS:g} s for {what}"
        time.sleep(0.01)
