"""Conversions whose worker is killed at one moment or another: each job comes to a clean end, and nothing stays behind.

A worker that is lost costs the job one of its three attempts; a conversion process that is lost is the model's own
failure and is reported as such, for a model that crashes its converter would do it again.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from tests.chaos.keras_source import write_tiny_keras
from tests.chaos.stack import Stack, kill_all, patient_redis, until
from tests.processes import is_alive

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]
LOOK_SECONDS = 0.005
RECIPE = "tflite-as-is"
UNFINISHED = ("waiting", "queued", "running")
TENSORFLOW_BYTES = 300 << 20  # a process this large is past importing it


class JobRow(NamedTuple):
    state: str
    attempts: int
    report: dict[str, Any]


_numbers = count(1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A ready float .tflite of one layer, unlike every other: what was converted once would be taken from there."""
    from tests.sdk.tiny_tflite import float_model

    path = tmp_path / "tiny.tflite"
    path.write_bytes(float_model(np.arange(12, dtype=np.float32).reshape(3, 4) + next(_numbers)))
    return path


def push(stack: Stack, source: Path, recipe: str = RECIPE) -> Callable[[], dict[str, JobRow]]:
    """Register a version; returns a look at its jobs as PostgreSQL has them."""
    number = stack.server.push(model="victim", source=source, recipes=[recipe])["number"]
    query = (
        "SELECT job.recipe, job.state, job.attempts, job.report FROM registry_conversionjob job "
        "JOIN registry_modelversion version ON version.id = job.version_id "
        "JOIN registry_registeredmodel model ON model.id = version.model_id "
        "WHERE model.slug = 'victim' AND version.number = %s"
    )
    return lambda: {recipe: JobRow(*rest) for recipe, *rest in stack.rows(query, number)}


def step_of(process: psutil.Process) -> str:
    """`adopt`, `trace`, `optimise` or `verify`; nothing for a process that has just gone."""
    try:
        return str(json.loads(Path(process.cmdline()[-1]).read_text())["job"]["step"])
    except (psutil.Error, OSError, IndexError, ValueError):
        return ""


def wait_for_step(stack: Stack, step: str) -> psutil.Process:
    """The worker at that step: the one that Celery's process started, not what it has forked."""

    def found() -> psutil.Process | None:
        running = {process.pid: process for process in stack.conversions()}
        with suppress(psutil.NoSuchProcess):  # one that ended since: the next look does not find it
            workers = (process for process in running.values() if process.ppid() not in running)
            return next((process for process in workers if step_of(process) == step), None)
        return None

    process: psutil.Process = until(found, f"a conversion process at {step}", every_seconds=LOOK_SECONDS)
    return process


def is_confined(process: psutil.Process) -> bool:
    """True once it has limited its addresses: the last thing that it does to itself."""
    with suppress(OSError):
        lines = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        return any(line.startswith("Max address space") and "unlimited" not in line for line in lines)
    return False


def wait_for_job(worker: psutil.Process) -> psutil.Process:
    """The one among its descendants that converts, once it is confined."""

    def found() -> psutil.Process | None:
        with suppress(psutil.NoSuchProcess):
            return next(filter(is_confined, worker.children(recursive=True)), None)
        return None

    process: psutil.Process = until(found, "the conversion process to be confined", every_seconds=LOOK_SECONDS)
    return process


def wait_for_state(jobs: Callable[[], dict[str, JobRow]], recipe: str, state: str) -> None:
    until(lambda: jobs()[recipe].state == state, f"{recipe} to be {state}", every_seconds=LOOK_SECONDS)


def require_clean_end(stack: Stack, jobs: Callable[[], dict[str, JobRow]]) -> dict[str, JobRow]:
    """All jobs closed, each failure with its reason, and no process and no folder left of any."""
    until(lambda: all(job.state not in UNFINISHED for job in jobs().values()), "all jobs to end", every_seconds=0.1)
    ended = jobs()
    for job in ended.values():
        if job.state != "succeeded":
            assert job.report["state"] == job.state
            assert job.report["error"]["code"]
            assert job.report["error"]["detail"]
    until(lambda: stack.conversions() == [], "the last conversion process to go")
    until(lambda: list((stack.folder / "workspaces").glob("job-*")) == [], "the last workspace to be removed")
    return ended


def suspend(worker: psutil.Process) -> psutil.Process:
    """Stop a conversion that is confined by now, so that it cannot end by itself before it is looked at."""
    job = wait_for_job(worker)
    job.suspend()
    return job


def require_gone(process: psutil.Process) -> None:
    """Dead with its parent, although it was suspended."""
    until(lambda: not is_alive(process), "the conversion process to die with its parent")


def summary(jobs: dict[str, JobRow]) -> dict[str, tuple[str, int]]:
    return {recipe: (job.state, job.attempts) for recipe, job in jobs.items()}


def test_a_worker_killed_right_after_its_claim(stack, source):
    jobs = push(stack, source)
    wait_for_state(jobs, "trace", "running")
    stack.restart("worker")
    assert summary(require_clean_end(stack, jobs)) == {"trace": ("succeeded", 2), RECIPE: ("succeeded", 1)}


@pytest.mark.parametrize("step", ["optimise", "verify"])
def test_a_worker_killed_during_a_recipe(stack, source, step):
    jobs = push(stack, source)
    job = suspend(wait_for_step(stack, step))
    stack.restart("worker")
    require_gone(job)
    assert summary(require_clean_end(stack, jobs)) == {"trace": ("succeeded", 1), RECIPE: ("succeeded", 2)}


def test_a_worker_whose_main_process_alone_is_killed(stack, source):
    """Its pool is left to itself: it finishes the job that it has, or gives it up, and goes."""
    jobs = push(stack, source)
    wait_for_step(stack, "verify")
    pool = stack.pool("worker")
    stack.kill_main("worker")
    until(lambda: not any(is_alive(process) for process in pool), "the orphans of the pool to go")
    stack.start("worker")
    ended = require_clean_end(stack, jobs)
    assert {job.state for job in ended.values()} == {"succeeded"}


def test_a_pool_process_killed_alone(stack, source):
    jobs = push(stack, source)
    process = wait_for_step(stack, "optimise")
    job = suspend(process)
    kill_all([process.parent()])
    require_gone(job)
    assert summary(require_clean_end(stack, jobs)) == {"trace": ("succeeded", 1), RECIPE: ("succeeded", 2)}
    assert stack.children["worker"].is_running()


def test_a_worker_killed_between_two_jobs_and_their_messages_lost(stack, source):
    jobs = push(stack, source)
    wait_for_state(jobs, "trace", "succeeded")
    stack.kill("worker")
    with patient_redis(stack.services.redis_url) as broker:
        broker.flushall()
    stack.start("worker")
    assert {job.state for job in require_clean_end(stack, jobs).values()} == {"succeeded"}


def test_a_conversion_process_killed_is_a_crash_of_its_recipe(stack, source):
    jobs = push(stack, source)
    kill_all([wait_for_step(stack, "optimise")])
    ended = require_clean_end(stack, jobs)
    assert summary(ended) == {"trace": ("succeeded", 1), RECIPE: ("crashed", 1)}
    assert ended[RECIPE].report["error"]["code"] == "SIGKILL"


def test_a_conversion_process_killed_at_the_start_fails_what_waits_for_it(stack, source):
    jobs = push(stack, source)
    kill_all([wait_for_step(stack, "adopt")])
    ended = require_clean_end(stack, jobs)
    assert summary(ended) == {"trace": ("crashed", 1), RECIPE: ("failed", 0)}
    assert ended[RECIPE].report["error"]["code"] == "trace_failed"


def test_a_job_that_loses_its_worker_every_time_is_given_up(stack, source):
    jobs = push(stack, source)
    for attempt in range(1, 4):
        until(lambda attempt=attempt: jobs()["trace"].attempts == attempt, f"attempt {attempt}")
        kill_all([wait_for_step(stack, "adopt").parent()])
    ended = require_clean_end(stack, jobs)
    assert summary(ended) == {"trace": ("crashed", 3), RECIPE: ("failed", 0)}
    assert ended["trace"].report["error"]["code"] == "worker_lost"
    assert "the worker running this job was lost 3 times" in ended[RECIPE].report["error"]["detail"]


@pytest.mark.convert
def test_the_converter_killed_during_a_trace(stack, tmp_path):
    source = tmp_path / "tiny.keras"
    write_tiny_keras(source)
    jobs = push(stack, source, "tflite-float32")
    worker = wait_for_step(stack, "trace")
    job = wait_for_job(worker)
    until(lambda: job.memory_info().rss > TENSORFLOW_BYTES, "TensorFlow to be loaded", every_seconds=LOOK_SECONDS)
    job.suspend()
    stack.restart("converter")
    require_gone(job)
    assert summary(require_clean_end(stack, jobs)) == {"trace": ("succeeded", 2), "tflite-float32": ("succeeded", 1)}
