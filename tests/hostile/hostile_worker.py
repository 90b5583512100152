"""What code that came with a model might do once it runs in the worker. The job's `recipe` says which of it."""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from registry.conversion.report import ProducedFile, Report
from registry.conversion.worker import confine
from registry.conversion.worker.job import Job, write_result

SUCCESS = Report(state="succeeded")
EMPTY = sha256(b"").hexdigest()
MIB = 1024**2


def look_for_ways_out(job: Job) -> Report:
    """Everything that must not work, with what came of it, in the notes as JSON. `source` holds the targets."""
    targets = json.loads(Path(job.source or "").read_text())
    key, pid = Path(targets["key"]), targets["supervisor"]
    found = {
        "tcp": tried(lambda: socket.create_connection(("127.0.0.1", targets["port"]), timeout=1)),
        "udp": tried(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", targets["port"]))),
        "abstract socket": tried(lambda: socket.socket(socket.AF_UNIX).connect("\0" + targets["abstract"])),
        "named socket": tried(lambda: socket.socket(socket.AF_UNIX).connect(targets["named"])),
        "key": tried(key.read_bytes),
        "list of keys": tried(lambda: list(key.parent.iterdir())),
        "environment of the supervisor": tried(Path(f"/proc/{pid}/environ").read_bytes),
        "memory of the supervisor": tried(lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR)),
        "folder of the supervisor": tried(lambda: list(Path(f"/proc/{pid}/root/tmp").iterdir())),
        "signal to the supervisor": tried(lambda: os.kill(pid, signal.SIGCONT)),
        "key overwritten": tried(lambda: key.write_bytes(b"forged")),
        "key linked": tried(lambda: os.link(key, job.output / "key")),
        "source overwritten": tried(lambda: Path(job.source or "").write_text("forged")),
        "source removed": tried(Path(job.source or "").unlink),
        "evaluation set overwritten": tried(lambda: Path(job.evaluation_set or "").write_bytes(b"forged")),
        "file in /tmp": tried(lambda: Path("/tmp/aerogram-hostile").write_text("x")),
        "file in /dev/shm": tried(lambda: Path("/dev/shm/aerogram-hostile").write_text("x")),
        "file beside the output": tried(lambda: (job.output.parent / "beside").write_text("x")),
        "package overwritten": tried(lambda: Path(confine.__file__).write_text("x")),
        "program": tried(lambda: os.execv("/usr/bin/true", ["true"])),
        "program of its own": tried(lambda: run_own_program(job)),
        "root": tried(lambda: os.setuid(0)) if os.getuid() else "nobody is root",
        "mount": tried(lambda: mount_tmpfs(job.output)),
        "root folder changed": tried(lambda: os.chroot(job.output)),
    }
    opened = [name for name, result in found.items() if result == "done"]
    seen = sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    told = {"done": opened, "processes": seen, "environment": sorted(os.environ), "user": os.getuid(), "all": found}
    return Report(state="succeeded", notes=(json.dumps(told),))


def tried(act: Callable[[], Any]) -> str:
    try:
        act()
    except OSError as error:
        return str(error)
    return "done"


def run_own_program(job: Job) -> None:
    program = job.output / "program"
    program.write_text("#!/usr/bin/true\n")
    program.chmod(0o755)
    os.execv(program, ["program"])


def mount_tmpfs(folder: Path) -> None:
    confine.checked(confine.libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, None), "mount")


def fork_without_end(job: Job) -> Report:
    while True:
        tried(os.fork)


def daemonise(job: Job) -> Report:
    """The old way out: fork, a session of one's own, fork again. The pipe tells the test whether it worked."""
    os.write(os.open(job.output / "alive", os.O_WRONLY), b"alive")
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pause()
        os._exit(0)
    os.wait()
    return SUCCESS


def fill_memory_in_daemons(job: Job) -> Report:
    for _ in range(4):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                block = bytearray(100 * MIB)
                block[::4096] = b"x" * len(block[::4096])
                signal.pause()
            os._exit(0)
        os.wait()
    signal.pause()
    return SUCCESS


def burn_in_threads(job: Job) -> Report:
    for _ in range(3):
        threading.Thread(target=spin, daemon=True).start()
    spin()
    return SUCCESS


def burn_in_processes(job: Job) -> Report:
    os.fork()
    os.fork()
    spin()
    return SUCCESS


def spin() -> None:
    while True:
        pass


def write_many_files(job: Job) -> Report:
    number = 0
    while True:
        number += 1
        (job.output / f"file-{number}").touch()


def write_many_bytes(job: Job) -> Report:
    number = 0
    while True:
        number += 1
        (job.scratch / f"file-{number}").write_bytes(bytes(MIB))


def write_deep_folders(job: Job) -> Report:
    os.chdir(job.output)
    for _ in range(2000):
        os.mkdir("folder")  # noqa: PTH102
        os.chdir("folder")
    os.chmod("..", 0)  # noqa: PTH101
    return SUCCESS


def ignore_signals(job: Job) -> Report:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.pause()


def kill_all_it_can(job: Job) -> Report:
    for pid in (1, -1, os.getppid()):
        tried(lambda pid=pid: os.kill(pid, signal.SIGKILL))
    return SUCCESS


def close_stdout(job: Job) -> Report:
    os.close(1)
    os.close(2)
    return SUCCESS


def print_a_gigabyte(job: Job) -> Report:
    block = b"x" * (MIB - 1) + b"\n"
    for _ in range(1024):
        os.write(1, block)
    sys.stdout.write("the end\n")
    return SUCCESS


def forge(path: str, size_bytes: int = 0, digest: str = EMPTY) -> Report:
    return Report(state="succeeded", files=(ProducedFile(path, "model", size_bytes, digest),))


def forge_absolute_path(job: Job) -> Report:
    return forge("/etc/hostname")


def forge_path_upwards(job: Job) -> Report:
    return forge("../secret")


def forge_link(job: Job) -> Report:
    (job.output / "model").symlink_to("/etc/hostname")
    return forge("model")


def forge_linked_folder(job: Job) -> Report:
    (job.output / "folder").symlink_to("/etc")
    return forge("folder/hostname")


def forge_pipe(job: Job) -> Report:
    os.mkfifo(job.output / "model")
    return forge("model")


def forge_second_name(job: Job) -> Report:
    (job.output / "model").touch()
    os.link(job.output / "model", job.output / "another name")
    return forge("model")


def forge_digest(job: Job) -> Report:
    (job.output / "model").write_text("another")
    return forge("model", len("another"))


def forge_size(job: Job) -> Report:
    (job.output / "model").touch()
    return forge("model", 1)


def forge_folder(job: Job) -> Report:
    (job.output / "model").mkdir()
    return forge("model")


def forge_entry(job: Job) -> Report:
    return Report(state="succeeded", entry="../../secret")


def forge_nul(job: Job) -> Report:
    return leave_note(job, "\0")


def forge_surrogate(job: Job) -> Report:
    return leave_note(job, "\ud800")


def leave_note(job: Job, note: str) -> Report:
    """Past `write_result`, which would take it out."""
    document = Report(state="succeeded", notes=(note,)).to_json()
    (job.scratch / "result.json").write_text(json.dumps(document))
    os._exit(0)


def leave_linked_result(job: Job) -> Report:
    (job.scratch / "result.json").symlink_to("/etc/hostname")
    os._exit(0)


def leave_pipe_as_result(job: Job) -> Report:
    os.mkfifo(job.scratch / "result.json")
    os._exit(0)


def leave_huge_result(job: Job) -> Report:
    with (job.scratch / "result.json").open("wb") as stream:
        stream.truncate(1024 * MIB)
    os._exit(0)


def leave_deep_result(job: Job) -> Report:
    (job.scratch / "result.json").write_text("[" * 100_000)
    os._exit(0)


def tell_nonsense(job: Job) -> Report:
    """Progress of every wrong kind; the test looks at what the heartbeats got."""
    said = ['{"step": "\\u0000<b>", "percent": 1e400}', "[" * 4000, '{"step": [], "percent": "9"}', '{"percent": -5}']
    os.write(os.open(job.output / "alive", os.O_WRONLY), b"alive")
    for text in said:
        (job.scratch / "progress.json").write_text(text)
    (job.scratch / "progress.json").unlink()
    os.mkfifo(job.scratch / "progress.json")
    signal.pause()
    return SUCCESS


def behave(job: Job) -> Report:
    """Twenty children, one after the other: what another job's fork bomb would make impossible."""
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    return SUCCESS


if __name__ == "__main__":
    data = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    isolation = confine.apply(data["confinement"])
    job = Job.from_json(data["job"])
    report = globals()[job.recipe](job)
    write_result(job.scratch, replace(report, notes=report.notes + isolation.notes))
