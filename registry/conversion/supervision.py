"""One worker process from start to end: heartbeat, wall clock, resident memory, and how it ended."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import registry
from registry.conversion.leavings import opened, read_report, remove_tree
from registry.conversion.report import LOG_TAIL_CHARACTERS, Failure, Report, State
from registry.conversion.watching import DiskUsage, Usage, children_of, disk_usage, usage_below
from registry.conversion.worker.job import Job
from registry.conversion.worker.progress import PROGRESS_FILE

GIB = 1024**3
WATCH_SECONDS = 0.1
FIRST_LOOK_SECONDS = 0.02  # until the job itself has started: it may be over before the next look
END_LOOK_SECONDS = 0.01  # a look at the end alone costs next to nothing, and a recipe may take less than half a second
HEARTBEAT_SECONDS = 1.0
DISK_SECONDS = 0.5
END_SECONDS = 5.0
CPU_GRACE_SECONDS = 2  # the kernel's own limit says it first, where a single process computes
CPU_TIME_DETAIL = "the processor-time limit was reached"
ROOT = "root"
WORKER_MODULE = "registry.conversion.worker"
LOG_BYTES = 64 * 1024
PROGRESS_BYTES = 4096
STEP_CHARACTERS = 80
# Printed on every run of libraries that work: they would push the one line that matters out of the tail.
NOISE = (
    "INFO: ",
    "Failed to load _ML",
    "WARNING:coremltools:Failed to load _ML",
    "WARNING:coremltools:TensorFlow version",
)
OUT_OF_MEMORY_MARKS = ("std::bad_alloc", "MemoryError", "Cannot allocate memory", "ResourceExhausted", "out of memory")


@dataclass(frozen=True)
class Limits:
    """For all processes of a job together; the address space is for each of them.

    The address space is far larger than what is ever touched. `tasks` are processes and threads; `disk_*` is what lies
    in the output and scratch folders. `user` is whom a worker that root starts turns into.
    """

    wall_seconds: float
    cpu_seconds: int
    address_space_bytes: int
    resident_bytes: int
    file_bytes: int = 2 * GIB
    tasks: int = 512
    disk_bytes: int = 8 * GIB
    disk_files: int = 20_000
    user: str = "nobody"


# TensorFlow alone maps 1.5 GiB; a traced ResNet50 needs 4 GiB of addresses and 2.8 GB of memory.
TRACE_LIMITS = Limits(wall_seconds=600, cpu_seconds=900, address_space_bytes=6 * GIB, resident_bytes=4 * GIB)
RECIPE_LIMITS = Limits(wall_seconds=300, cpu_seconds=600, address_space_bytes=6 * GIB, resident_bytes=2 * GIB)


@dataclass(frozen=True)
class Progress:
    """How far a job is: `step` in a word or two, `percent` 0..100, and the end of what it has printed."""

    step: str = ""
    percent: int = 0
    log_tail: str = ""


OnHeartbeat = Callable[[Progress], None]


@dataclass(frozen=True)
class Ending:
    """How a worker process ended: `exit_code` is negative for a signal; `stopped_for` is ours, when we killed it."""

    exit_code: int
    seconds: float
    peak_memory_bytes: int
    stopped_for: Failure | None = None


def supervise(
    make_job: Callable[[Path], Job], *, limits: Limits, on_heartbeat: OnHeartbeat, workspace: Path | None = None
) -> Report:
    """Run one job to its end. Raises only what `on_heartbeat` raises, after the process group is dead.

    Its scratch folder lies in `workspace`, so that whoever sweeps that folder takes it, too.
    """
    with _scratch_folder(workspace) as scratch:
        job = make_job(scratch)
        _write_job(job, scratch, limits)
        with _started(scratch) as worker:
            ending = _watch(worker, job, limits, on_heartbeat)
        return _report(job, ending, worker.log_tail())


@contextmanager
def _scratch_folder(workspace: Path | None) -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="aerogram-conversion-", dir=workspace)).resolve()
    try:
        for name in ("tmp", ROOT):
            (scratch / name).mkdir()
        yield scratch
    finally:
        remove_tree(scratch)


def _write_job(job: Job, scratch: Path, limits: Limits) -> None:
    confinement = {
        "parent_pid": os.getpid(),
        "cpu_seconds": limits.cpu_seconds,
        "address_space_bytes": limits.address_space_bytes,
        "file_bytes": limits.file_bytes,
        "tasks": limits.tasks,
        "user": limits.user,
        "root": str(scratch / ROOT),
        "readable": [str(path) for path in job.inputs],
        "writable": [str(job.output), str(scratch)],
    }
    (scratch / "job.json").write_text(json.dumps({"job": job.to_json(), "confinement": confinement}), "utf-8")


class Worker:
    """A worker process and the end of what it prints. What it prints is kept nowhere else: it may be gigabytes."""

    def __init__(self, process: "subprocess.Popen[bytes]", scratch: Path) -> None:
        self.process = process
        self.scratch = scratch
        self._printed = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := os.read(self.process.stdout.fileno(), LOG_BYTES):
            self._printed = (self._printed + chunk)[-LOG_BYTES:]

    def log_tail(self) -> str:
        text = self._printed.decode("utf-8", "replace").replace("\x00", "").replace(str(self.scratch), "$SCRATCH")
        lines = [line for line in text.splitlines(keepends=True) if not line.startswith(NOISE)]
        return "".join(lines)[-LOG_TAIL_CHARACTERS:]

    def kill(self) -> None:
        """End every process of the job, and wait until the last is gone."""
        if self.process.returncode is None:
            for child in children_of(self.process.pid):
                _kill(child)  # the worker itself waits for all that is below it, and goes
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                _kill_group(self.process.pid)
                self.process.wait()
        self._reader.join(END_SECONDS)
        if self.process.stdout and not self._reader.is_alive():
            self.process.stdout.close()


@contextmanager
def _started(scratch: Path) -> Iterator[Worker]:
    """A worker in a session of its own; on leaving, whatever the reason, all that it started is dead and reaped."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", WORKER_MODULE, str(scratch / "job.json")],
        cwd=scratch,
        env=_environment(scratch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    worker = Worker(process, scratch)
    try:
        yield worker
    finally:
        worker.kill()


def _environment(scratch: Path) -> dict[str, str]:
    """Nothing of ours: no database address, no keys, no proxy. One thread and a fixed hash seed for equal bytes."""
    package_root = str(Path(registry.__path__[0]).parent)
    temporary = str(scratch / "tmp")
    return {
        "PATH": os.defpath,
        "HOME": temporary,
        "TMPDIR": temporary,
        "LANG": "C.UTF-8",
        "PYTHONPATH": package_root,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _watch(worker: Worker, job: Job, limits: Limits, on_heartbeat: OnHeartbeat) -> Ending:
    started = time.monotonic()
    next_heartbeat = next_look = started
    peak = 0
    stopped_for: Failure | None = None
    while not stopped_for and not _has_ended(worker.process.pid):
        now = time.monotonic()
        if now >= next_heartbeat:
            on_heartbeat(_progress(worker, job))
            next_heartbeat = now + HEARTBEAT_SECONDS
        usage = usage_below(worker.process.pid)
        peak = max(peak, usage.high_water_bytes)
        stopped_for = _beyond(now - started, usage, limits)
        if now >= next_look:
            disk = disk_usage((job.output, job.scratch), limits.disk_files)
            stopped_for = stopped_for or _beyond_on_disk(disk, limits)
            next_look = time.monotonic() + DISK_SECONDS
        if not stopped_for:
            _wait_for_end(worker.process.pid, WATCH_SECONDS if peak else FIRST_LOOK_SECONDS)
    worker.kill()
    disk = disk_usage((job.output, job.scratch), limits.disk_files)
    seconds = time.monotonic() - started
    return Ending(worker.process.returncode, seconds, peak, stopped_for or _beyond_on_disk(disk, limits))


def _beyond(seconds: float, usage: Usage, limits: Limits) -> Failure | None:
    if seconds > limits.wall_seconds:
        return Failure("wall_time", f"expected an end within {limits.wall_seconds:g} s; got none after {seconds:.1f} s")
    if usage.tasks > limits.tasks:
        return Failure("processes", f"expected at most {limits.tasks} processes and threads; got {usage.tasks}")
    if usage.resident_bytes > limits.resident_bytes:
        return Failure("resident_memory", f"expected at most {limits.resident_bytes} bytes in memory; got more")
    if usage.cpu_seconds > limits.cpu_seconds + CPU_GRACE_SECONDS:
        return Failure("cpu_time", CPU_TIME_DETAIL)
    return None


def _beyond_on_disk(disk: DiskUsage, limits: Limits) -> Failure | None:
    if disk.allocated_bytes > limits.disk_bytes:
        return Failure("disk_space", f"expected at most {limits.disk_bytes} bytes on disk; got {disk.allocated_bytes}")
    if disk.files > limits.disk_files:
        return Failure("disk_space", f"expected at most {limits.disk_files} files; got more")
    if disk.too_deep:
        return Failure("disk_space", "expected folders of a sensible depth; got deeper ones")
    return None


def _has_ended(pid: int) -> bool:
    """True when the process is a zombie; it stays one, so that its number is not given away."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait_for_end(pid: int, seconds: float) -> None:
    """Return when the process has ended, or after that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not _has_ended(pid):
        time.sleep(END_LOOK_SECONDS)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _progress(worker: Worker, job: Job) -> Progress:
    """What the worker says of itself, in bounds: it may be a model's code that wrote it."""
    said: Any = None
    with suppress(OSError, ValueError, RecursionError), opened(worker.scratch / PROGRESS_FILE) as stream:
        said = json.loads(stream.read(PROGRESS_BYTES))
    step, percent = (said.get("step"), said.get("percent")) if isinstance(said, dict) else (None, None)
    return Progress(
        step=_printable(step)[:STEP_CHARACTERS] if isinstance(step, str) else job.step,
        percent=max(0, min(100, percent)) if isinstance(percent, int) else 0,
        log_tail=worker.log_tail(),
    )


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())


def _report(job: Job, ending: Ending, log: str) -> Report:
    report = _stopped(ending) or _result(job, ending) or _died(ending, log)
    return replace(
        report,
        seconds=round(ending.seconds, 3),
        peak_memory_bytes=ending.peak_memory_bytes,
        log_tail=log,
    )


def _stopped(ending: Ending) -> Report | None:
    if ending.stopped_for is None:
        return None
    states: dict[str, State] = {
        "wall_time": "timed_out",
        "cpu_time": "timed_out",
        "resident_memory": "out_of_memory",
    }
    return Report(state=states.get(ending.stopped_for.code, "failed"), error=ending.stopped_for)


def _result(job: Job, ending: Ending) -> Report | None:
    path = job.scratch / "result.json"
    if ending.exit_code != 0 or not os.path.lexists(path):
        return None
    try:
        return read_report(path, job.output)
    except (OSError, ValueError, RecursionError) as error:
        return Report(state="failed", error=Failure("bad_result", _printable(str(error))[:2000]))


def _died(ending: Ending, log: str) -> Report:
    code = ending.exit_code
    if code == -signal.SIGXCPU:
        return Report(state="timed_out", error=Failure("cpu_time", CPU_TIME_DETAIL))
    if code == -signal.SIGXFSZ:
        return Report(state="failed", error=Failure("file_size", "a file reached the file-size limit"))
    if any(mark in log for mark in OUT_OF_MEMORY_MARKS):
        return Report(state="out_of_memory", error=Failure("address_space", "the address-space limit was reached"))
    if code < 0:
        name = signal.Signals(-code).name
        return Report(state="crashed", error=Failure(name, f"expected the worker to exit; got killed by {name}"))
    return Report(state="crashed", error=Failure("exit_status", f"expected exit status 0 and a result; got {code}"))
