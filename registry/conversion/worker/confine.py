"""What a worker takes away from itself before it imports anything that could misbehave. Standard library only.

A model is a program: loading one must not reach keys, the store, the database or a network. Limits always apply; of
isolation there is what the kernel grants to an ordinary process (namespaces, Landlock), and its absence is reported.
"""

import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
FILE_EXECUTE, FILE_WRITE, FILE_READ, DIRECTORY_READ = 1 << 0, 1 << 1, 1 << 2, 1 << 3
FILE_TRUNCATE = 1 << 14
FIRST_VERSION_RIGHTS = (1 << 13) - 1
RENAME_ACROSS, TRUNCATE, DEVICE_CONTROL = (2, 1 << 13), (3, 1 << 14), (5, 1 << 15)

READ_ONLY = FILE_READ | DIRECTORY_READ
SYSTEM_LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc", "/sys/devices", "/sys/fs")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Isolation:
    """Empty reasons mean isolated; otherwise why there is none."""

    no_network_isolation: str = ""
    no_file_isolation: str = ""

    @property
    def complete(self) -> bool:
        return not self.no_network_isolation and not self.no_file_isolation

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report; none when nothing is missing."""
        return tuple(
            f"ran without {what} isolation: {reason}"
            for what, reason in (("network", self.no_network_isolation), ("file", self.no_file_isolation))
            if reason
        )


def apply(settings: dict[str, Any]) -> Isolation:
    """Apply everything, in the one order that works.

    `settings`: parent_pid, cpu_seconds, address_space_bytes, file_bytes, readable and writable (lists of paths).
    """
    die_with_parent(settings["parent_pid"])
    no_network = _reason(leave_the_network)
    # New credentials clear the request, so it is made again.
    die_with_parent(settings["parent_pid"])
    no_files = _reason(restrict_files, settings["readable"], settings["writable"])
    limit_resources(settings["cpu_seconds"], settings["address_space_bytes"], settings["file_bytes"])
    return Isolation(no_network, no_files)


def _reason(attempt: Any, *arguments: Any) -> str:
    try:
        attempt(*arguments)
    except OSError as error:
        return f"{attempt.__name__}: {error.strerror or error}"
    return ""


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent dies; leave at once when it is dead already."""
    _checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        sys.exit("the process that started this worker is gone")


def leave_the_network() -> None:
    """Enter a network namespace of one's own, in which not even the loopback is up. Raises OSError."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        # Where user namespaces are switched off, root may still do without.
        _checked(libc.unshare(CLONE_NEWNET), "unshare")
        return
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with suppress(OSError):
            Path("/proc/self", name).write_text(line, "ascii")


def restrict_files(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Leave only Python, the system's libraries and the job's own paths within reach; nothing may be executed.

    Raises OSError on a kernel without Landlock.
    """
    version = _checked(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), RULESET_VERSION), "Landlock")
    handled = FIRST_VERSION_RIGHTS
    for since, right in (RENAME_ACROSS, TRUNCATE, DEVICE_CONTROL):
        handled |= right if version >= since else 0
    attributes = struct.pack("=Q", handled)
    ruleset = _checked(libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0), "Landlock")
    try:
        _allow(ruleset, [*python_paths(), *SYSTEM_LIBRARIES, *readable], READ_ONLY)
        _allow(ruleset, DEVICES, FILE_READ | FILE_WRITE)
        _allow(ruleset, writable, handled & ~FILE_EXECUTE)
        _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
        _checked(libc.syscall(RESTRICT_SELF, ruleset, 0), "Landlock")
    finally:
        os.close(ruleset)


def python_paths() -> list[str]:
    """Where Python and this package import from; never a repository's root, which may hold keys."""
    package = Path(__file__).resolve().parents[2]
    roots = {sys.prefix, sys.base_prefix, sysconfig.get_paths()["stdlib"], *sysconfig.get_paths().values()}
    return sorted({str(package)} | {os.path.realpath(root) for root in roots})


def _allow(ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            of_files = FILE_READ | FILE_WRITE | FILE_TRUNCATE | FILE_EXECUTE
            granted = rights if Path(path).is_dir() else rights & of_files
            rule = struct.pack("=Qi", granted, descriptor)
            _checked(libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0), f"Landlock rule for {path}")
        finally:
            os.close(descriptor)


def limit_resources(cpu_seconds: int, address_space_bytes: int, file_bytes: int) -> None:
    # At the hard limit the kernel sends SIGKILL, which tells nobody why; SIGXCPU at the soft one does.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    for what, value in (
        (resource.RLIMIT_AS, address_space_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))
