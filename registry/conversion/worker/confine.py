"""Limits a worker puts on itself before it imports anything that could misbehave. Standard library only."""

import ctypes
import os
import resource
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG = 1


def apply(settings: dict[str, Any]) -> tuple[str, ...]:
    """Apply limits; returns notes for the report.

    `settings`: cpu_seconds, address_space_bytes, file_bytes, parent_pid.
    """
    die_with_parent(settings["parent_pid"])
    limit_resources(settings["cpu_seconds"], settings["address_space_bytes"], settings["file_bytes"])
    return ()


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent dies; leave at once when it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit("the process that started this worker is gone")


def limit_resources(cpu_seconds: int, address_space_bytes: int, file_bytes: int) -> None:
    # At the hard limit the kernel sends SIGKILL, which tells nobody why; SIGXCPU at the soft one does.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    for what, value in (
        (resource.RLIMIT_AS, address_space_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))
