"""One worker process from start to end: heartbeat, wall clock, resident memory, and how it ended."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import registry
from registry.conversion.report import LOG_TAIL_CHARACTERS, Failure, Report, ReportError
from registry.conversion.worker.job import Job
from registry.conversion.worker.progress import PROGRESS_FILE

GIB = 1024**3
WATCH_SECONDS = 0.1
HEARTBEAT_SECONDS = 1.0
WORKER_MODULE = "registry.conversion.worker"
LOG_BYTES = 64 * 1024
PROGRESS_BYTES = 4096
STEP_CHARACTERS = 80
# Printed on every run of libraries that work: they would push the one line that matters out of the tail.
NOISE = (
    "INFO: ",
    "WARNING:coremltools:Failed to load _ML",
    "WARNING:coremltools:TensorFlow version",
    "WARNING:coremltools:scikit-learn version",
)
OUT_OF_MEMORY_MARKS = ("std::bad_alloc", "MemoryError", "Cannot allocate memory", "ResourceExhausted", "out of memory")


@dataclass(frozen=True)
class Limits:
    """`resident_bytes` counts the whole process group; the address space is far larger than what is ever touched."""

    wall_seconds: float
    cpu_seconds: int
    address_space_bytes: int
    resident_bytes: int
    file_bytes: int = 2 * GIB


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
    stopped_for: str = ""


def supervise(
    make_job: Callable[[Path], Job], *, limits: Limits, on_heartbeat: OnHeartbeat, workspace: Path | None = None
) -> Report:
    """Run one job to its end. Raises only what `on_heartbeat` raises, after the process group is dead.

    Its scratch folder lies in `workspace`, so that whoever sweeps that folder takes it, too.
    """
    with tempfile.TemporaryDirectory(prefix="aerogram-conversion-", dir=workspace) as name:
        scratch = Path(name).resolve()
        (scratch / "tmp").mkdir()
        _write_job(make_job(scratch), scratch, limits)
        with (scratch / "log.txt").open("wb") as log, _started(scratch, log) as process:
            ending = _watch(process, limits, lambda: on_heartbeat(_progress(scratch)))
        return _report(scratch, ending, limits)


def _write_job(job: Job, scratch: Path, limits: Limits) -> None:
    confinement = {
        "parent_pid": os.getpid(),
        "cpu_seconds": limits.cpu_seconds,
        "address_space_bytes": limits.address_space_bytes,
        "file_bytes": limits.file_bytes,
        "readable": [str(path) for path in job.inputs],
        "writable": [str(job.output), str(scratch)],
    }
    (scratch / "job.json").write_text(json.dumps({"job": job.to_json(), "confinement": confinement}), "utf-8")


@contextmanager
def _started(scratch: Path, log: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker in a session of its own; on leaving, whatever the reason, its whole group is dead and reaped."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", WORKER_MODULE, str(scratch / "job.json")],
        cwd=scratch,
        env=_environment(scratch),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            _kill_group(process.pid)
            process.wait()


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


def _watch(process: "subprocess.Popen[bytes]", limits: Limits, on_heartbeat: Callable[[], None]) -> Ending:
    started = time.monotonic()
    next_heartbeat = started
    peak = 0
    stopped_for = ""
    while not _has_ended(process.pid):
        now = time.monotonic()
        if now >= next_heartbeat:
            on_heartbeat()
            next_heartbeat = now + HEARTBEAT_SECONDS
        resident, high_water = group_memory(process.pid)
        peak = max(peak, high_water)
        stopped_for = _reason_to_stop(now - started, resident, limits)
        if stopped_for:
            break
        time.sleep(WATCH_SECONDS)
    # Before the leader is reaped its number cannot be given to another group.
    _kill_group(process.pid)
    exit_code = process.wait()
    return Ending(exit_code, time.monotonic() - started, peak, stopped_for)


def _progress(scratch: Path) -> Progress:
    """What the worker says of itself, in bounds: it may be a model's code that wrote it."""
    said: Any = None
    with suppress(OSError, ValueError, RecursionError), _open_regular(scratch / PROGRESS_FILE) as stream:
        said = json.loads(stream.read(PROGRESS_BYTES))
    step, percent = (said.get("step"), said.get("percent")) if isinstance(said, dict) else (None, None)
    return Progress(
        step=step.replace("\x00", "")[:STEP_CHARACTERS] if isinstance(step, str) else "",
        percent=max(0, min(100, percent)) if isinstance(percent, int) else 0,
        log_tail=_log_tail(scratch / "log.txt"),
    )


@contextmanager
def _open_regular(path: Path) -> Iterator[Any]:
    """A file that a worker left, read as a file: never through a link, never a pipe that nobody fills."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"expected a regular file at {path.name}")
        yield stream


def _reason_to_stop(seconds: float, resident_bytes: int, limits: Limits) -> str:
    if seconds > limits.wall_seconds:
        return "wall_time"
    if resident_bytes > limits.resident_bytes:
        return "resident_memory"
    return ""


def _has_ended(pid: int) -> bool:
    """True when the process is a zombie; it stays one, so that its group can still be killed."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def group_memory(session: int) -> tuple[int, int]:
    """(resident now, sum of high-water marks) in bytes of all processes of a session."""
    resident = high_water = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _session_of(entry.name) == session:
            now, highest = _memory_of(entry.name)
            resident += now
            high_water += highest
    return resident, high_water


def _session_of(pid: str) -> int:
    with suppress(OSError, ValueError, IndexError):
        # The command name may hold spaces and brackets; the fields after its last bracket are fixed.
        return int(Path("/proc", pid, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[3])
    return -1


def _memory_of(pid: str) -> tuple[int, int]:
    """(VmRSS, VmHWM) in bytes; zeros for a process that has just gone."""
    fields = {"VmRSS": 0, "VmHWM": 0}
    with suppress(OSError):
        for line in Path("/proc", pid, "status").read_text("utf-8", "replace").splitlines():
            name, _, value = line.partition(":")
            if name in fields:
                fields[name] = int(value.split()[0]) * 1024
    return fields["VmRSS"], fields["VmHWM"]


def _report(scratch: Path, ending: Ending, limits: Limits) -> Report:
    log = _log_tail(scratch / "log.txt")
    report = _stopped(ending, limits) or _result(scratch, ending) or _died(ending, log)
    return replace(
        report,
        seconds=round(ending.seconds, 3),
        peak_memory_bytes=ending.peak_memory_bytes,
        log_tail=log,
    )


def _stopped(ending: Ending, limits: Limits) -> Report | None:
    if ending.stopped_for == "wall_time":
        detail = f"expected an end within {limits.wall_seconds:g} s; got none after {ending.seconds:.1f} s"
        return Report(state="timed_out", error=Failure("wall_time", detail))
    if ending.stopped_for == "resident_memory":
        detail = f"expected at most {limits.resident_bytes} bytes in memory; got more"
        return Report(state="out_of_memory", error=Failure("resident_memory", detail))
    return None


def _result(scratch: Path, ending: Ending) -> Report | None:
    path = scratch / "result.json"
    if ending.exit_code != 0 or not path.is_file():
        return None
    try:
        return Report.from_json(json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant))
    except (ReportError, ValueError, RecursionError) as error:
        return Report(state="failed", error=Failure("bad_result", str(error)))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"expected finite numbers in the result; got {name}")


def _died(ending: Ending, log: str) -> Report:
    code = ending.exit_code
    if code == -signal.SIGXCPU:
        return Report(state="timed_out", error=Failure("cpu_time", "the processor-time limit was reached"))
    if code == -signal.SIGXFSZ:
        return Report(state="failed", error=Failure("file_size", "a file reached the file-size limit"))
    if any(mark in log for mark in OUT_OF_MEMORY_MARKS):
        return Report(state="out_of_memory", error=Failure("address_space", "the address-space limit was reached"))
    if code < 0:
        name = signal.Signals(-code).name
        return Report(state="crashed", error=Failure(name, f"expected the worker to exit; got killed by {name}"))
    return Report(state="crashed", error=Failure("exit_status", f"expected exit status 0 and a result; got {code}"))


def _log_tail(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - LOG_BYTES))
        text = stream.read().decode("utf-8", "replace").replace("\x00", "").replace(str(path.parent), "$SCRATCH")
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(NOISE)]
    return "".join(lines)[-LOG_TAIL_CHARACTERS:]
