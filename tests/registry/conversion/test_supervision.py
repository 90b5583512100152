"""How a job may end, each end brought about by a real process."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from registry.conversion import supervision
from registry.conversion.report import Report
from registry.conversion.supervision import GIB, Limits, Progress, supervise
from registry.conversion.worker.job import Job
from tests.lifeline import Lifeline

pytestmark = pytest.mark.chaos

MODULE = "tests.registry.conversion.misbehaving_worker"
LIMITS = Limits(wall_seconds=120, cpu_seconds=60, address_space_bytes=2 * GIB, resident_bytes=GIB)


@pytest.fixture(autouse=True)
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "WORKER_MODULE", MODULE)


def run(behaviour: str, output: Path, limits: Limits = LIMITS, on_heartbeat=lambda _: None, **members) -> Report:
    output.mkdir(exist_ok=True)

    def job(scratch: Path) -> Job:
        return Job(step="verify", output=output, scratch=scratch, recipe=behaviour, **members)

    return supervise(job, limits=limits, on_heartbeat=on_heartbeat)


@pytest.mark.parametrize(
    ("behaviour", "state", "code"),
    [
        ("read_null", "crashed", "SIGSEGV"),
        ("kill_itself", "crashed", "SIGKILL"),
        ("abort_for_memory", "out_of_memory", "address_space"),
        ("exit_badly", "crashed", "exit_status"),
        ("reserve_addresses", "out_of_memory", "address_space"),
        ("write_nonsense", "failed", "bad_result"),
        ("write_infinity", "failed", "bad_result"),
    ],
)
def test_every_end_of_a_worker_is_a_state(tmp_path: Path, behaviour: str, state: str, code: str) -> None:
    report = run(behaviour, tmp_path / "output")
    assert (report.state, report.error and report.error.code) == (state, code)
    assert 0 < report.seconds < LIMITS.wall_seconds


def test_a_job_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    report = run("sleep", tmp_path / "output", replace(LIMITS, wall_seconds=0.5))
    assert (report.state, report.error.code) == ("timed_out", "wall_time")


def test_a_job_that_computes_too_long_is_stopped(tmp_path: Path) -> None:
    report = run("spin", tmp_path / "output", replace(LIMITS, cpu_seconds=1))
    assert (report.state, report.error.code) == ("timed_out", "cpu_time")


def test_a_job_that_fills_memory_is_stopped_and_its_peak_reported(tmp_path: Path) -> None:
    report = run("fill_memory", tmp_path / "output", replace(LIMITS, resident_bytes=200 * 1024**2))
    assert (report.state, report.error.code) == ("out_of_memory", "resident_memory")
    assert report.peak_memory_bytes > 200 * 1024**2


def test_a_file_beyond_the_limit_cannot_be_written(tmp_path: Path) -> None:
    report = run("write_large_file", tmp_path / "output", replace(LIMITS, file_bytes=1024**2))
    assert report.state in {"crashed", "failed"}
    assert "File too large" in report.log_tail or report.error.code == "file_size"


def test_the_log_tail_is_bounded_and_without_noise(tmp_path: Path) -> None:
    tail = run("print_much", tmp_path / "output").log_tail
    assert len(tail) <= 8_000
    assert tail.endswith("line 19999\n")


class CancelledError(Exception):
    pass


@pytest.fixture
def lifeline(tmp_path: Path) -> Iterator[Lifeline]:
    with Lifeline(tmp_path / "output") as line:
        yield line


def test_a_heartbeat_that_raises_ends_all_processes_of_the_job(tmp_path: Path, lifeline: Lifeline) -> None:
    def cancel(_: Progress) -> None:
        if lifeline.read(0):
            raise CancelledError

    with pytest.raises(CancelledError):
        run("sleep_with_child", tmp_path / "output", on_heartbeat=cancel)
    assert lifeline.read(0) == b""


def test_the_heartbeat_beats_while_the_worker_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "HEARTBEAT_SECONDS", 0.2)
    beats: list[Progress] = []

    def beat(progress: Progress) -> None:
        beats.append(progress)
        if len(beats) == 4:
            raise CancelledError

    with pytest.raises(CancelledError):
        run("sleep", tmp_path / "output", on_heartbeat=beat)


def test_the_heartbeat_is_due_at_least_every_two_seconds() -> None:
    assert supervision.HEARTBEAT_SECONDS + supervision.WATCH_SECONDS <= 2


def test_a_child_left_behind_does_not_survive_its_worker(tmp_path: Path, lifeline: Lifeline) -> None:
    assert run("leave_child", tmp_path / "output").state == "succeeded"
    assert (lifeline.read(0), lifeline.read(0)) == (b"alive", b"")


def test_killing_the_runner_leaves_no_worker(tmp_path: Path, lifeline: Lifeline) -> None:
    output = tmp_path / "output"
    program = f"""
        from pathlib import Path
        from registry.conversion import supervision
        from registry.conversion.worker.job import Job
        supervision.WORKER_MODULE = {MODULE!r}
        supervision.supervise(
            lambda scratch: Job(step="verify", output=Path({str(output)!r}), scratch=scratch, recipe="sleep"),
            limits=supervision.RECIPE_LIMITS, on_heartbeat=lambda _: None)
    """
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    root = Path(supervision.registry.__path__[0]).parent
    runner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], cwd=root, env=environment)
    assert lifeline.read(10) == b"alive"
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert lifeline.read(10) == b""


def test_a_worker_sees_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    (tmp_path / "secret.txt").write_text("key")
    source = tmp_path / "source"
    source.write_text("model")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        report = run("look_around", tmp_path / "output", source=source, source_format=port)
    assert report.state == "succeeded", report.log_tail
    found = json.loads(report.notes[0])
    assert "DATABASE_URL" not in found["environment"]
    assert found["own_source"] == found["own_output"] == "done"
    assert found["core"] == 0
    assert not found["session"]
    if len(report.notes) > 1:
        pytest.skip(f"this kernel isolates less: {report.notes[1:]}")
    assert found["secret"] in {"FileNotFoundError", "PermissionError"}  # not there at all, or not within reach
    assert found["secret_written"] in {"FileNotFoundError", "PermissionError", "OSError"}
    assert found["program"] == "PermissionError"
    assert found["network"] == "OSError"
    assert (tmp_path / "secret.txt").read_text() == "key"
