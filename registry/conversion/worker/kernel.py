"""Calls of the C library that Python does not offer, with their errors as exceptions. Linux, standard library only."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """The result of a call. Raises OSError, naming `what`, when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent dies; leave at once when it is dead already."""
    checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        sys.exit("the process that started this worker is gone")
