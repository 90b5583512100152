"""Namespaces of a job's own: no network, no process but its own, and a root that holds only what it was given.

    worker (in the supervisor's namespaces) ─fork─► init (process 1 of the job's) ─fork─► job

When init dies the kernel kills every process of its namespace, however often it forked or called setsid. Init is not
the job itself, for process 1 cannot die of a signal it sends itself, nor of SIGXCPU. Standard library only.
"""

import ctypes
import os
import select
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from registry.conversion.worker.kernel import checked, die_with_parent, libc

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NETWORK = 0x20000, 0x4000000, 1 << 27, 1 << 28, 1 << 29, 1 << 30
OWN = NEW_MOUNTS | NEW_UTS | NEW_IPC | NEW_PIDS | NEW_NETWORK
PR_SET_CHILD_SUBREAPER = 36
READ_ONLY, NO_SUID, NO_DEVICES, NO_PROGRAMS = 1, 2, 4, 8
REMOUNT, BIND, RECURSIVE, PRIVATE = 1 << 5, 1 << 12, 1 << 14, 1 << 18
DETACH = 2


def own_namespaces() -> None:
    """Leave everything that is shared; the next fork is process 1. Raises OSError.

    Root needs no user namespace, and without one its files stay its own; it is asked for where root may not do without.
    """
    user, group = os.getuid(), os.getgid()
    if user == 0 and libc.unshare(OWN) == 0:
        return
    checked(libc.unshare(NEW_USER | OWN), "unshare")
    keep_identity(user, group)


def keep_identity(user: int, group: int) -> None:
    """Be inside a new user namespace who one was outside."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with suppress(OSError):
            Path("/proc/self", name).write_text(line, "ascii")


def become_init() -> int:
    """Fork; the child goes on, with a descriptor to tell the job's end through. The parent ends as it is told."""
    checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _die_with_worker(parent, writer)
        return writer
    os.close(writer)
    told = os.read(reader, 16)  # empty when init died without a word
    _, status = os.waitpid(child, 0)
    _kill_orphans()
    return _end_as(int(told) if told else os.waitstatus_to_exitcode(status))


def become_job(writer: int) -> int:
    """Fork; the child goes on as the job, and gets its parent's number.

    The parent tells how the job ends, and takes what it left behind with it.
    """
    checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 is immune to what it does not handle
    init = os.getpid()
    job = os.fork()
    if job == 0:
        os.close(writer)
        die_with_parent(init)
        return init
    ended, status = os.wait()
    while ended != job:
        ended, status = os.wait()
    os.write(writer, str(os.waitstatus_to_exitcode(status)).encode())
    _kill_orphans()
    os._exit(0)


def _die_with_worker(parent: int, writer: int) -> None:
    """As `die_with_parent`; a parent in another namespace has no number here, but it holds the pipe's other end."""
    is_first = os.getpid() == 1
    die_with_parent(0 if is_first else parent)
    poll = select.poll()
    poll.register(writer, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        os._exit(1)


def _kill_orphans() -> None:
    """Kill what is below this process, until nothing is. Orphans come to it, which may be new ones: hence the loop."""
    while True:
        for child in _children():
            with suppress(OSError):
                os.kill(child, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _children() -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            found += [int(folder.name)] if parent == os.getpid() else []
    return found


def _end_as(exit_code: int) -> NoReturn:
    """Exit, or die of the same signal, so that whoever waits sees the job's own end."""
    if exit_code < 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-exit_code})
        with suppress(OSError, ValueError):  # SIGKILL cannot be reset
            signal.signal(-exit_code, signal.SIG_DFL)
        os.kill(os.getpid(), -exit_code)
    os._exit(exit_code if exit_code >= 0 else 128 - exit_code)


def private_root(root: Path, *, readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Make `root`, an empty folder, this process's `/`, with these paths in it under their own names. Raises OSError.

    Paths that are not there are left out. /proc shows the processes of this namespace only, where that is permitted.
    """
    _mount("", "/", "", RECURSIVE | PRIVATE)
    _mount("tmpfs", str(root), "tmpfs", NO_SUID | NO_DEVICES, "size=1m,mode=755")
    for path in sorted({*readable}):
        if path.is_symlink():
            _repeat_link(root, path)
        elif path.exists() and path != Path("/proc"):
            _bind(root, path, RECURSIVE)
            _make_read_only(_inside(root, path))
    for path in sorted({*writable}):
        _bind(root, path, 0)
    _mount_proc(root)
    _move_to(root)


def _inside(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _repeat_link(root: Path, path: Path) -> None:
    link = _inside(root, path)
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.readlink())


def _bind(root: Path, path: Path, flags: int) -> None:
    target = _inside(root, path)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir() if path.is_dir() else target.touch()
    _mount(str(path), str(target), "", BIND | flags)


def _make_read_only(target: Path) -> None:
    # What was forbidden on the mount it comes from has to be said again.
    kept = os.statvfs(target).f_flag & (NO_SUID | NO_DEVICES | NO_PROGRAMS)
    with suppress(OSError):  # a mount that cannot be bound anew stays as it is; Landlock forbids writing there, too
        _mount("", str(target), "", REMOUNT | BIND | READ_ONLY | kept)


def _mount_proc(root: Path) -> None:
    target = root / "proc"
    target.mkdir()
    try:
        _mount("proc", str(target), "proc", NO_SUID | NO_DEVICES | NO_PROGRAMS)
    except OSError:  # in a container whose own /proc is masked
        _mount("/proc", str(target), "", BIND | RECURSIVE)


def _move_to(root: Path) -> None:
    os.chdir(root)
    _make_read_only(root)
    checked(libc.pivot_root(b".", b"."), "pivot_root")
    checked(libc.umount2(b".", DETACH), "umount")
    os.chdir("/")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    texts = [text.encode() or None for text in (source, target, kind)]
    result = libc.mount(*texts, ctypes.c_ulong(flags), options.encode() or None)
    checked(result, f"mount on {target}")
