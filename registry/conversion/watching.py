"""What a job uses at this moment: memory, processes, processor time, disk. Linux (/proc), standard library only."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
BLOCK_BYTES = 512  # what `st_blocks` counts, whatever the file system's own blocks are
DEEPEST = 64


@dataclass(frozen=True)
class Usage:
    """Of all processes of a job together; `high_water_bytes` sums the peaks of those that still live.

    `tasks` counts threads, and a process as one; `cpu_seconds` includes children that have ended.
    """

    resident_bytes: int = 0
    high_water_bytes: int = 0
    tasks: int = 0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class DiskUsage:
    """Bytes allocated, and how many files, folders and links. `too_deep`: nobody has looked at all of it."""

    allocated_bytes: int = 0
    files: int = 0
    too_deep: bool = False


class _Process(NamedTuple):
    parent: int
    threads: int
    cpu_ticks: int


def usage_below(worker: int) -> Usage:
    """Of what `worker` watches: its descendants, but its child, which only waits as it does (see `namespaces`).

    Found by parents: an orphan is given to its job's own init, so that no setsid or double fork leads out.
    """
    processes = _processes()
    keepers = {pid for pid, process in processes.items() if process.parent == worker}
    job = _descendants(processes, keepers)
    memory = [_memory_of(pid) for pid in job]
    ticks = sum(processes[pid].cpu_ticks for pid in job)
    return Usage(
        resident_bytes=sum(now for now, _ in memory),
        high_water_bytes=sum(highest for _, highest in memory),
        tasks=sum(processes[pid].threads for pid in job),
        cpu_seconds=ticks / TICKS_PER_SECOND,
    )


def children_of(pid: int) -> set[int]:
    return {child for child, process in _processes().items() if process.parent == pid}


def _processes() -> dict[int, _Process]:
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            found[int(folder.name)] = _parsed((folder / "stat").read_text("utf-8", "replace"))
    return found


def _parsed(stat: str) -> _Process:
    # The command name may hold spaces and brackets; the fields after its last bracket are fixed.
    fields = stat.rpartition(")")[2].split()
    return _Process(parent=int(fields[1]), threads=int(fields[17]), cpu_ticks=sum(map(int, fields[11:15])))


def _descendants(processes: dict[int, _Process], ancestors: set[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    waiting = list(ancestors)
    while waiting:
        below = set(children.get(waiting.pop(), ())) - found
        found |= below
        waiting += below
    return found


def _memory_of(pid: int) -> tuple[int, int]:
    """(VmRSS, VmHWM) in bytes; zeros for a process that has just gone."""
    fields = {"VmRSS": 0, "VmHWM": 0}
    with suppress(OSError):
        for line in Path("/proc", str(pid), "status").read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name in fields:
                fields[name] = int(value.split()[0]) * 1024
    return fields["VmRSS"], fields["VmHWM"]


def disk_usage(folders: Iterable[Path], most_files: int) -> DiskUsage:
    """What lies below the folders; stops counting beyond `most_files`, so that it takes no longer than that."""
    allocated = files = 0
    waiting = [(str(folder), 0) for folder in folders]
    while waiting and files <= most_files:
        folder, depth = waiting.pop()
        if depth > DEEPEST:
            return DiskUsage(allocated, files, too_deep=True)
        for entry in _entries(folder):
            with suppress(OSError):
                allocated += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                files += 1
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, depth + 1))
            if files > most_files:
                break
    return DiskUsage(allocated, files)


def _entries(folder: str) -> "Iterable[os.DirEntry[str]]":
    with suppress(OSError), os.scandir(folder) as entries:
        yield from entries
