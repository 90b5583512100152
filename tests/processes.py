"""Whether a process still runs, asked while it may be ending."""

from contextlib import suppress

import psutil


def is_alive(process: psutil.Process) -> bool:
    """False for a zombie too: it is dead, and its parent has only not looked yet."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
