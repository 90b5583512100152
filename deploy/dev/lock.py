"""One supervisor per checkout: an advisory lock that the kernel drops when its holder dies, however it dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from deploy.dev.errors import DevError


class LockedError(DevError):
    pass


@contextlib.contextmanager
def hold(path: Path, note: str) -> Iterator[None]:
    """Hold the lock file while the block runs; `note` tells whoever is refused what is running here."""
    with path.open("a+") as file:
        _acquire(file)
        file.truncate(0)
        file.write(f"process {os.getpid()}, {note}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def is_held(path: Path) -> bool:
    try:
        with path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _acquire(file: IO[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read() or "a process that has just started"
        raise LockedError(f"Already running from this checkout: {holder}. Stop it first (Ctrl-C there).") from None
