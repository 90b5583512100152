"""A worker that does what its job's `recipe` says, instead of a conversion. Started by the real supervision."""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from registry.conversion.report import Report
from registry.conversion.worker import confine
from registry.conversion.worker.job import Job, write_result

SUCCESS = Report(state="succeeded")


def announce(job: Job) -> None:
    """Tell the test, which waits at the other end of a pipe, that this process runs, and later that all are gone."""
    pipe = job.output / "alive"
    if pipe.exists():
        os.write(os.open(pipe, os.O_WRONLY), b"alive")


def sleep(job: Job) -> Report:
    announce(job)
    signal.pause()
    return SUCCESS


def sleep_with_child(job: Job) -> Report:
    announce(job)
    os.fork()
    signal.pause()
    return SUCCESS


def leave_child(job: Job) -> Report:
    announce(job)
    if os.fork() == 0:
        signal.pause()
    return SUCCESS


def read_null(job: Job) -> Report:
    ctypes.string_at(0)
    return SUCCESS


def kill_itself(job: Job) -> Report:
    os.kill(os.getpid(), signal.SIGKILL)
    return SUCCESS


def abort_for_memory(job: Job) -> Report:
    sys.stdout.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    sys.stdout.flush()
    os.abort()


def exit_badly(job: Job) -> Report:
    sys.exit(3)


def spin(job: Job) -> Report:
    while True:
        pass


def fill_memory(job: Job) -> Report:
    block = bytearray(512 * 1024**2)
    block[::4096] = b"x" * len(block[::4096])
    signal.pause()
    return SUCCESS


def reserve_addresses(job: Job) -> Report:
    bytearray(64 * 1024**3)
    return SUCCESS


def write_nonsense(job: Job) -> Report:
    (job.scratch / "result.json").write_text('{"state": "splendid"}')
    os._exit(0)


def write_infinity(job: Job) -> Report:
    (job.scratch / "result.json").write_text('{"state": "succeeded", "seconds": Infinity}')
    os._exit(0)


def print_much(job: Job) -> Report:
    for number in range(20_000):
        sys.stdout.write(f"line {number}\n")
    sys.stdout.write("INFO: nothing to see\n")
    return SUCCESS


def write_large_file(job: Job) -> Report:
    with (job.output / "large").open("wb") as stream:
        stream.truncate(10 * 1024**2)
    return SUCCESS


def look_around(job: Job) -> Report:
    """What is within reach, as JSON in the notes."""
    found = {
        "environment": sorted(os.environ),
        "secret": tried((job.output.parent / "secret.txt").read_text),
        "secret_written": tried(lambda: (job.output.parent / "secret.txt").write_text("changed")),
        "own_source": tried(Path(job.source or "").read_text),
        "own_output": tried(lambda: (job.output / "file").write_text("fine")),
        "network": tried(lambda: socket.create_connection(("127.0.0.1", int(job.source_format)), timeout=1)),
        "program": tried(lambda: subprocess.run(["/usr/bin/true"], check=True)),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "session": os.getsid(0) == os.getpid(),
    }
    return Report(state="succeeded", notes=(json.dumps(found),))


def tried(act: object) -> str:
    try:
        act()  # type: ignore[operator]
    except OSError as error:
        return type(error).__name__
    return "done"


if __name__ == "__main__":
    data = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    isolation = confine.apply(data["confinement"])
    job = Job.from_json(data["job"])
    report = globals()[job.recipe](job)
    write_result(job.scratch, replace(report, notes=report.notes + isolation.notes))
