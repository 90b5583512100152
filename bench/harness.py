"""What every measurement shares: pinned load, alternating rounds, and an eye on the neighbours."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench.outcome import Sample, Series
from bench.servers import Place, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.machine import Cores

_LOAD_SCRIPT = Path(__file__).with_name("load.lua")
_WARM_UP_SECONDS = 1
_ANSWER_SECONDS = 15
_MILLISECONDS = 1_000.0
_LOOK_SECONDS = 0.3
DISTURBED = 0.1


class MeasurementError(Exception):
    """A server or the generator did not do what the measurement is about, so its figures would mean nothing."""


@dataclass(frozen=True)
class Request:
    """One phone's poll for the load generator. `unit` "*" is a new unit for every request, "" none; `etag` "" none.

    `header` is one more line, such as `Authorization: token`.
    """

    target: str
    unit: str = "*"
    etag: str = ""
    header: str = ""

    @property
    def line(self) -> str:
        return f"{self.target}\t{self.unit}\t{self.etag}\t{self.header}\n"


@dataclass(frozen=True)
class Run:
    """A load on a server. `pause_ms` is the mean pause of a connection between its requests; 0 is flat out.

    `beside_seconds` tells the CPU time of what works for the server on the generator's core (its database).
    """

    server: Server
    requests: Path
    load: str
    connections: int
    expected: range  # bytes an answer may have, headers included: tells a 304 from a 200 and an error from both
    pause_ms: float = 0.0
    beside_seconds: Callable[[], float] = lambda: 0.0


@dataclass
class Patience:
    """Seconds that may still go into waiting for neighbours and into repeating what they disturbed."""

    seconds: float
    repeated: int = 0


@dataclass(frozen=True)
class Harness:
    folder: Path
    cores: Cores
    rounds: int
    seconds: int
    patience: Patience
    say: Callable[[str], None]

    @property
    def place(self) -> Place:
        return Place(self.folder, self.cores.server)

    def write_requests(self, name: str, requests: Iterable[Request]) -> Path:
        path = self.folder / f"{name}.requests"
        path.write_text("".join(request.line for request in requests))
        return path

    def alternate(self, runs: Sequence[Run]) -> list[Series]:
        """All runs in turn, `rounds` times, every other round backwards, after a warm-up of each."""
        for run in runs:
            self._generate(run, seed=0, seconds=_WARM_UP_SECONDS)
        taken: list[list[Sample]] = [[] for _ in runs]
        for number in range(1, self.rounds + 1):
            order = list(enumerate(runs))
            for index, run in order if number % 2 else reversed(order):
                sample = self._undisturbed(run, seed=number)
                taken[index].append(sample)
                self.say(f"  round {number}/{self.rounds}  {run.load:22} {run.server.name:14} {_brief(sample)}")
        return [Series(run.server.name, run.load, tuple(samples)) for run, samples in zip(runs, taken, strict=True)]

    def paced(self, run: Run, *, load: str, rate: float, connections: int) -> Run:
        """The same requests at about `rate` a second: many connections that pause, the pause corrected by a trial.

        wrk knows no rate. A connection waits for its answer before it pauses, so what an overlong answer keeps back
        is added by wrk's own correction for coordinated omission.
        """
        wanted_ms = connections / rate * _MILLISECONDS
        trial = replace(run, load=load, connections=connections, pause_ms=wanted_ms)
        reached_ms = connections / self.sample(trial, seed=0, seconds=_WARM_UP_SECONDS).requests_per_second * 1_000
        return replace(trial, pause_ms=max(0.1, wanted_ms - (reached_ms - wanted_ms)))

    def _undisturbed(self, run: Run, *, seed: int) -> Sample:
        """Repeated while neighbours take more than a tenth of a core and patience lasts. Its rate is no reason."""
        while True:
            self._await_quiet()
            sample = self.sample(run, seed=seed, seconds=self.seconds)
            if sample.others_share <= DISTURBED or self.patience.seconds < self.seconds:
                return sample
            self.patience.seconds -= self.seconds
            self.patience.repeated += 1

    def _await_quiet(self) -> None:
        while self.patience.seconds > 0:
            before = self._busy_seconds()
            time.sleep(_LOOK_SECONDS)
            spent = (after - earlier for after, earlier in zip(self._busy_seconds(), before, strict=True))
            if max(spent) <= DISTURBED * _LOOK_SECONDS:
                return
            self.patience.seconds -= _LOOK_SECONDS

    def sample(self, run: Run, *, seed: int, seconds: int) -> Sample:
        server_before, beside_before = run.server.cpu_seconds(), run.beside_seconds()
        busy_before, began = self._busy_seconds(), time.monotonic()
        counted, generator_seconds = self._generate(run, seed, seconds)
        elapsed = time.monotonic() - began
        server_seconds = run.server.cpu_seconds() - server_before
        beside = run.beside_seconds() - beside_before
        busy = [after - before for after, before in zip(self._busy_seconds(), busy_before, strict=True)]
        others = max(busy[0] - server_seconds, busy[1] - generator_seconds - beside)
        sample = Sample(
            requests=counted["requests"],
            requests_per_second=counted["requests"] / (counted["microseconds"] / 1e6),
            p50_us=counted["p50_us"],
            p99_us=counted["p99_us"],
            bytes_per_answer=counted["bytes"] / max(1, counted["requests"]),
            server_cpu_us=server_seconds * 1e6 / max(1, counted["requests"]),
            server_share=server_seconds / elapsed,
            generator_share=generator_seconds / elapsed,
            others_share=max(0.0, others / elapsed),
        )
        if counted["errors"] or not counted["requests"] or int(sample.bytes_per_answer) not in run.expected:
            raise MeasurementError(
                f"{run.server.name}, {run.load}: expected answers without errors of {run.expected.start} to "
                f"{run.expected.stop - 1} bytes, got {counted}"
            )
        return sample

    def _generate(self, run: Run, seed: int, seconds: int) -> tuple[dict[str, int], float]:
        """The generator's counts, and its CPU seconds."""
        url = f"http://127.0.0.1:{run.server.port}/"
        load = ["wrk", "--threads", "1", "--connections", str(run.connections), "--duration", f"{seconds}s"]
        load += ["--timeout", f"{_ANSWER_SECONDS}s"]
        script = ["--script", str(_LOAD_SCRIPT), url, "--", str(run.requests), str(seed), f"{run.pause_ms:.3f}"]
        pinned = ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", str(self.cores.generator)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*pinned, *load, *script],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + _ANSWER_SECONDS + 10,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        last = (done.stdout.strip().splitlines() or [""])[-1]
        if done.returncode or not last.startswith("{"):
            raise MeasurementError(f"wrk: expected counts on its last line, got {(done.stderr or last)[-300:]!r}")
        counts: dict[str, int] = json.loads(last)
        return counts, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    def _busy_seconds(self) -> tuple[float, float]:
        """Of the server's core and of the generator's, whoever used them."""
        cores = psutil.cpu_times(percpu=True)
        server, generator = (
            float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
            for times in (cores[self.cores.server], cores[self.cores.generator])
        )
        return server, generator


def _brief(sample: Sample) -> str:
    return (
        f"{sample.requests_per_second:9,.0f}/s  p99 {sample.p99_us / 1_000:7.2f} ms  "
        f"{sample.server_cpu_us:6.1f} µs CPU  others {sample.others_share:4.0%}"
    )
