"""P5: what a poll of one model costs as a channel grows, and what a worker of the device plane then takes of memory.

All sizes are served side by side, each by a worker of its own on the same core, and asked in turn. Each is asked the
same number of different polls: a phone's query stays the same from poll to poll, its answer follows from its unit.

A channel without experiments hashes no unit at all, and one with any hashes two: "1 experiment" tells that step, which
every experiment in the same layer shares, from what the number of them adds.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench.grown import Size, publish, targets
from bench.harness import MeasurementError, Request, Run
from bench.outcome import Measurement, Table, ratio
from bench.polls import CONNECTIONS
from bench.servers import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness import Harness
    from bench.servers import Server

IDENTIFIER = "P5"
TITLE = "growth of a poll's cost with models, device classes and experiments; memory of a worker"
FIRST, ONE_EXPERIMENT = Size("first point"), Size("1 experiment", experiments=1)
GROWN = (
    Size("1 000 models", models=1_000),
    Size("200 device classes", classes=200),
    ONE_EXPERIMENT,
    Size("100 experiments", experiments=100),
)
LAST = Size("all three", models=1_000, classes=200, experiments=100)
DIFFERENT_POLLS = 1_000
UNITS = 4
DIFFERENT_COLD_POLLS = 50_000  # several times what a worker keeps in mind
_KNOWN, _NEW = "known queries", "queries not seen before"
_AIM = "≤ 1.15"
MOST_MIB = 150


def measure(harness: Harness, grown: tuple[Size, ...] = GROWN, last: Size = LAST) -> Measurement:
    sizes = (FIRST, *grown, last)
    with ExitStack() as running:
        servers = {size: replace(running.enter_context(_serving(harness, size)), name=size.name) for size in sizes}
        bodies = {size.name: _answered(servers[size], size) for size in sizes}
        known = [_run(harness, servers[size], size, _KNOWN, DIFFERENT_POLLS) for size in sizes]
        taken = harness.alternate(known)
        cold_sizes = [size for size in sizes if size is FIRST or size.classes > 1]
        cold = harness.alternate(
            [_run(harness, servers[size], size, _NEW, DIFFERENT_COLD_POLLS) for size in cold_sizes]
        )
        memory = Table(
            "",
            ("size", "body bytes", "resident MiB", "highest MiB"),
            tuple(
                (size.name, f"{bodies[size.name]:,}", *(f"{mib:.0f}" for mib in _memory(servers[size])))
                for size in sizes
            ),
        )
    single = next((series for series in taken if series.name == ONE_EXPERIMENT.name), None)
    ratios = [ratio("CPU per poll", s, taken[0], "server_cpu_us", _AIM) for s in taken[1:-1] if s is not single]
    if single is not None:
        hundred = taken[taken.index(single) + 1]
        ratios.append(ratio("CPU per poll", single, taken[0], "server_cpu_us", ""))
        ratios.append(ratio("CPU per poll", hundred, single, "server_cpu_us", ""))
    ratios.append(ratio("CPU per poll", taken[-1], taken[0], "server_cpu_us", ""))
    ratios += [ratio("CPU per poll new to the worker", s, cold[0], "server_cpu_us", "") for s in cold[1:]]
    facts = {f"memory aim of {last.name}": f"≤ {MOST_MIB} MiB", "different known polls": DIFFERENT_POLLS}
    return Measurement(IDENTIFIER, TITLE, [*taken, *cold], ratios, [memory], facts)


@contextmanager
def _serving(harness: Harness, size: Size) -> Iterator[Server]:
    """In a folder of its own: programs are known by their folder and name."""
    folder = harness.folder / f"grown-{size.models}-{size.classes}-{size.experiments}"
    folder.mkdir()
    publish(folder / "store" / "tree", size)
    with Place(folder, harness.cores.server).device_plane(folder / "store") as server:
        yield server


def _run(harness: Harness, server: Server, size: Size, load: str, count: int) -> Run:
    named = f"{size.models}-{size.classes}-{size.experiments}-{count}"
    first = DIFFERENT_POLLS if load == _NEW else 0
    requests = harness.write_requests(named, map(Request, targets(size, count, apps=first)))
    return Run(server, requests, load, CONNECTIONS, range(500, 60_000))


def _answered(server: Server, size: Size) -> int:
    """Bytes of a body of middling length. Every answer must be 200: a poll that is refused is cheap.

    So many units are sent that a worker has met nearly every arm before the clock runs: it learns each only once.
    """
    asked = enumerate(target for _ in range(UNITS) for target in targets(size, DIFFERENT_POLLS))
    answers = list(server.get_all([(target, {"Aerogram-Unit": f"unit-{number}"}) for number, target in asked]))
    wrong = [answer for answer in answers if answer.status != HTTPStatus.OK or b'"manifest":null' in answer.body]
    if wrong:
        raise MeasurementError(f"{size.name}: expected a manifest for every phone, got {wrong[0].body[:200]!r}")
    return sorted(len(answer.body) for answer in answers)[len(answers) // 2]


def _memory(server: Server) -> tuple[float, float]:
    """(resident now, highest ever) of the largest process of the server, in MiB."""
    leader = psutil.Process(server.child.pid)
    processes = (leader, *leader.children(recursive=True))
    now = max(process.memory_info().rss for process in processes)
    return now / (1 << 20), max(highest_bytes(process.pid) for process in processes) / (1 << 20)


def highest_bytes(pid: int) -> int:
    """The most that a process was ever resident with."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise MeasurementError(f"process {pid}: expected VmHWM in its status, got none")
