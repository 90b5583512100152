"""What a worker takes away from itself before it imports anything that could misbehave. Standard library only.

A model is a program: loading one must not reach keys, the store, the database or a network. Limits always apply; of
isolation there is what the kernel grants (namespaces, another user, Landlock), and its absence is reported.
"""

import ctypes
import os
import resource
import struct
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.conversion.worker.kernel import checked, die_with_parent, libc
from registry.conversion.worker.namespaces import become_init, become_job, own_namespaces, private_root
from registry.conversion.worker.privileges import Identity, become, drop_capabilities, identity_of

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
RULESET_VERSION = 1
RULE_PATH_BENEATH = 1
FILE_EXECUTE, FILE_WRITE, FILE_READ, DIRECTORY_READ = 1 << 0, 1 << 1, 1 << 2, 1 << 3
FILE_TRUNCATE = 1 << 14
FIRST_VERSION_RIGHTS = (1 << 13) - 1
RENAME_ACROSS, TRUNCATE, DEVICE_CONTROL = (2, 1 << 13), (3, 1 << 14), (5, 1 << 15)

READ_ONLY = FILE_READ | DIRECTORY_READ
SYSTEM_LIBRARIES = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc", "/sys/devices", "/sys/fs")
# The supervisor names the reason when it finds too many; the kernel's own limit keeps a fork bomb small until then.
SPARE_TASKS = 128
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True)
class Isolation:
    """Empty reasons mean isolated; otherwise why there is none."""

    no_process_isolation: str = ""
    no_network_isolation: str = ""
    no_file_isolation: str = ""
    no_private_root: str = ""
    no_other_user: str = ""

    @property
    def complete(self) -> bool:
        """True when code that a model brings can be run: locked in three ways, of which none makes up for another."""
        return not (self.no_process_isolation or self.no_network_isolation or self.no_file_isolation)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report; none when nothing is missing."""
        missing = {
            "process isolation": self.no_process_isolation,
            "network isolation": self.no_network_isolation,
            "file isolation": self.no_file_isolation,
            "a root folder of its own": self.no_private_root,
            "a user of its own": self.no_other_user,
        }
        return tuple(f"ran without {what}: {reason}" for what, reason in missing.items() if reason)


def apply(settings: dict[str, Any]) -> Isolation:
    """Apply everything, in the one order that works. Only the job's own process returns: see `namespaces`.

    `settings`: parent_pid, cpu_seconds, address_space_bytes, file_bytes, tasks (processes and threads), user (whom root
    turns into), readable and writable (lists of paths), root (an empty folder).
    """
    readable = [*python_paths(), *SYSTEM_LIBRARIES, *settings["readable"]]
    writable = settings["writable"]
    die_with_parent(settings["parent_pid"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    identity, no_such_user = _looked_up(settings["user"])
    no_namespaces = _reason(own_namespaces)
    # New credentials clear the request, so it is made again.
    die_with_parent(settings["parent_pid"])
    writer = become_init()
    no_root = no_namespaces
    if not no_namespaces:
        no_root = _reason(_enter_root, Path(settings["root"]), readable, writable)
    init = become_job(writer)
    no_other_user = _reason(become, identity, readable, writable) if identity else no_such_user
    no_privileges_dropped = _reason(drop_capabilities)
    die_with_parent(init)
    no_files = _reason(restrict_files, readable, writable)
    limit_resources(settings)
    return Isolation(no_namespaces or no_privileges_dropped, no_namespaces, no_files, no_root, no_other_user)


def _enter_root(root: Path, readable: Sequence[str], writable: Sequence[str]) -> None:
    folder = Path.cwd()
    try:
        private_root(root, readable=map(Path, [*readable, *DEVICES]), writable=map(Path, writable))
    finally:
        os.chdir(folder)


def _looked_up(user: str) -> tuple[Identity | None, str]:
    """The user's numbers, while the list of users is still within reach; or why there are none."""
    try:
        return (identity_of(user), "") if os.getuid() == 0 else (None, "")
    except OSError as error:
        return None, str(error)


def _reason(attempt: Any, *arguments: Any) -> str:
    try:
        attempt(*arguments)
    except OSError as error:
        return f"{attempt.__name__.strip('_')}: {error.strerror or error}"
    return ""


def restrict_files(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Leave only these paths within reach, and nothing to be executed. Needs `no_new_privs`, or root's rights.

    Raises OSError on a kernel without Landlock.
    """
    version = checked(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), RULESET_VERSION), "Landlock")
    handled = FIRST_VERSION_RIGHTS
    for since, right in (RENAME_ACROSS, TRUNCATE, DEVICE_CONTROL):
        handled |= right if version >= since else 0
    attributes = struct.pack("=Q", handled)
    ruleset = checked(libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0), "Landlock")
    try:
        _allow(ruleset, readable, READ_ONLY)
        _allow(ruleset, DEVICES, FILE_READ | FILE_WRITE)
        _allow(ruleset, writable, handled & ~FILE_EXECUTE)
        checked(libc.syscall(RESTRICT_SELF, ruleset, 0), "Landlock")
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
            checked(libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0), f"Landlock rule for {path}")
        finally:
            os.close(descriptor)


def limit_resources(settings: dict[str, Any]) -> None:
    # At the hard limit the kernel sends SIGKILL, which tells nobody why; SIGXCPU at the soft one does.
    cpu_seconds = settings["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    for what, value in (
        (resource.RLIMIT_FSIZE, settings["file_bytes"]),
        (resource.RLIMIT_NPROC, settings["tasks"] + SPARE_TASKS),
        # The last one: it tells that everything else is done.
        (resource.RLIMIT_AS, settings["address_space_bytes"]),
    ):
        resource.setrlimit(what, (value, value))
