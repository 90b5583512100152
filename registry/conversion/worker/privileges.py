"""Giving up rights for good: root's identity, every capability, and what an exec could bring back.

A worker that root started becomes an ordinary user's process. Standard library only.
"""

import os
import pwd
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from registry.conversion.worker.kernel import checked, libc
from registry.conversion.worker.namespaces import NEW_USER, keep_identity

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 4, 24, 38, 47
AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522
MOST_CAPABILITIES = 64


class Identity(NamedTuple):
    user: int
    group: int


def identity_of(name: str) -> Identity:
    """The user of that name or number, with its group. Raises OSError for one that does not exist, and for root."""
    try:
        found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        identity = Identity(found.pw_uid, found.pw_gid)
    except KeyError:
        if not name.isdigit():
            raise OSError(f"expected a user of this system; got {name!r}") from None
        identity = Identity(int(name), int(name))
    if identity.user == 0:
        raise OSError("expected a user without root's rights; got root")
    return identity


def become(identity: Identity, readable: Iterable[str], writable: Sequence[str]) -> None:
    """Turn root into another user, who is given the `writable` folders. Does nothing where root is not had.

    Raises OSError, still as root, when that user could not read what it needs.
    """
    if os.getuid() != 0:
        return
    _require_within_reach(identity, [path for path in map(Path, readable) if path.exists()])
    _hand_over(writable, identity)
    try:
        _require_within_reach(identity, map(Path, writable))
    except OSError:
        _hand_over(writable, Identity(0, 0))  # root without its rights writes only where it is at home
        raise
    os.setgroups([])
    os.setresgid(identity.group, identity.group, identity.group)
    os.setresuid(identity.user, identity.user, identity.user)
    checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")  # or its own /proc is root's
    # Of its own, so that the processes of other jobs do not count towards this one's limit.
    if libc.unshare(NEW_USER) == 0:
        keep_identity(*identity)


def _require_within_reach(identity: Identity, paths: Iterable[Path]) -> None:
    os.setegid(identity.group)
    os.seteuid(identity.user)
    try:
        for path in paths:
            wanted = os.R_OK | os.X_OK if path.is_dir() else os.R_OK
            if not os.access(path, wanted, effective_ids=True):
                raise OSError(f"expected {path} to be within reach of user {identity.user}")
    finally:
        os.seteuid(0)
        os.setegid(0)


def _hand_over(folders: Iterable[str], identity: Identity) -> None:
    """Give the folders away, with what lies in them."""
    for folder in folders:
        for parent, below, files in os.walk(folder):
            os.chown(parent, *identity)
            for name in (*below, *files):
                os.chown(Path(parent, name), *identity, follow_symlinks=False)


def drop_capabilities() -> None:
    """Keep none, and no way to get any back by starting a program. Raises OSError."""
    for capability in range(MOST_CAPABILITIES):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # beyond the last one this kernel knows, or not permitted to an ordinary user, who has none anyway
    libc.prctl(PR_CAP_AMBIENT, AMBIENT_CLEAR_ALL, 0, 0, 0)
    checked(libc.capset(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), bytes(24)), "capset")
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")
