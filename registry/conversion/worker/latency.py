"""How long one inference takes on this host. Figures compare variants with each other and say nothing of a phone."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from registry.conversion.report import HostLatency

Array = npt.NDArray[np.generic]
Invoke = Callable[[], None]

WARM_UP_RUNS = 5
FEWEST_RUNS = 5
MOST_RUNS = 50
BUDGET_SECONDS = 2.0
MOST_THREADS = 4


def threads() -> tuple[int, ...]:
    """1, and as many as a phone has fast cores, where the host has them."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    available = min(MOST_THREADS, cpus)
    return (1, available) if available > 1 else (1,)


class Timed(Protocol):
    """A variant this host runs at speed: `invoke_at` gives a fresh runtime, fed with one sample and ready."""

    xnnpack_choices: tuple[bool, ...]

    def invoke_at(self, inputs: Mapping[str, Array], *, threads: int, xnnpack: bool) -> Invoke: ...


def measured_latencies(
    variant: Timed, float32: Timed | None, inputs: Mapping[str, Array]
) -> tuple[tuple[HostLatency, ...], float | None]:
    """Latency at every setting, one thread with the first choice of delegate first; and its median over `float32`'s.

    The two are timed in turns at that first setting.
    """
    settings = [(count, xnnpack) for xnnpack in variant.xnnpack_choices for count in threads()]
    both = [variant] if float32 is None else [variant, float32]
    times = timed([file.invoke_at(inputs, threads=1, xnnpack=file.xnnpack_choices[0]) for file in both])
    ratio = round(float(np.median(times[0]) / np.median(times[1])), 3) if float32 else None
    found = [summary(times[0], threads=1, xnnpack=settings[0][1])]
    for count, xnnpack in settings[1:]:
        (alone,) = timed([variant.invoke_at(inputs, threads=count, xnnpack=xnnpack)])
        found.append(summary(alone, threads=count, xnnpack=xnnpack))
    return tuple(found), ratio


def timed(
    invokes: Sequence[Invoke], budget_seconds: float = BUDGET_SECONDS, clock: Callable[[], int] = time.perf_counter_ns
) -> list[list[float]]:
    """Microseconds of each run of each of `invokes`, run in turns, so that what else the host does hits all alike.

    As many runs as the budget holds, of FEWEST_RUNS to MOST_RUNS, after a warm-up of up to WARM_UP_RUNS that ends
    early once it has taken a tenth of the budget.
    """
    started, warm = clock(), 0
    while warm < WARM_UP_RUNS and (warm == 0 or (clock() - started) / 1e9 < budget_seconds / 10):
        _round(invokes, clock)
        warm += 1
    first = _round(invokes, clock)
    runs = int(budget_seconds * 1e6 / max(sum(first), 1e-3))
    rounds = [first, *(_round(invokes, clock) for _ in range(min(MOST_RUNS, max(FEWEST_RUNS, runs)) - 1))]
    return [list(times) for times in zip(*rounds, strict=True)]


def _round(invokes: Sequence[Invoke], clock: Callable[[], int]) -> list[float]:
    times = []
    for invoke in invokes:
        start = clock()
        invoke()
        times.append((clock() - start) / 1000)
    return times


def summary(times: Sequence[float], *, threads: int, xnnpack: bool) -> HostLatency:
    p50, p90, p99 = (round(float(np.percentile(times, share))) for share in (50, 90, 99))
    return HostLatency(p50, p90, len(times), threads, host_label(), xnnpack, p99)


def host_label() -> str:
    return "x86, relative" if platform.machine() == "x86_64" else f"{platform.machine()}, relative"
