"""The folders that jobs work in: one for each run, locked while its process lives, and swept when it was killed."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings

from registry.conversion.leavings import remove_tree

Beat = Callable[[], None]
BEAT_INTERVAL = timedelta(seconds=1)


@contextmanager
def workspace(prefix: str) -> Iterator[Path]:
    """A folder for one run, locked as long as its process lives, so that others can tell when it was killed."""
    with ExitStack() as held:
        with _workspaces() as parent:  # a new folder is never seen without its lock
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            held.enter_context(_locked(folder))
        held.callback(remove_tree, folder)
        yield folder


def remove_abandoned() -> None:
    """Remove what workers that were killed on this machine left behind: a source may be gigabytes."""
    with _workspaces() as parent:
        for folder in parent.iterdir():
            with suppress(OSError), _locked(folder, wait=False):  # its owner is alive, or has just removed it
                remove_tree(folder)


def every_second(beat: Beat, clock: Callable[[], datetime]) -> Beat:
    """The same beat, for loops that turn many times a second: it is sent when the last one is a second old."""
    last = clock()

    def sometimes() -> None:
        nonlocal last
        if clock() - last >= BEAT_INTERVAL:
            beat()
            last = clock()

    return sometimes


@contextmanager
def _workspaces() -> Iterator[Path]:
    """The folder that holds them, for one process at a time."""
    folder = Path(settings.AEROGRAM_WORKSPACE_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        yield folder


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the folder's lock, which the kernel drops when this process dies. Raises `BlockingIOError` unless `wait`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
