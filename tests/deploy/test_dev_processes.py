"""Processes of a run that was killed are recognised by pid and start time, and by their mark."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from deploy.dev import processes
from deploy.dev.children import Child, Part, describe_exit
from deploy.dev.errors import DevError
from deploy.dev.layout import CHECKOUT
from deploy.dev.processes import Record
from tests.deploy.waiting import until
from tests.processes import is_alive

SLEEPER = "import time\nwhile True: time.sleep(60)"
# Tells its own child's pid, then waits, deaf to SIGTERM where asked.
FAMILY = f"""
import signal, subprocess, sys, time
if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", {SLEEPER!r}])
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path):
    children = []

    def _start(code, *arguments, **fields):
        part = Part(
            name=fields.pop("name", f"part{len(children)}"),
            command=[sys.executable, "-c", code, *arguments],
            environment=dict(os.environ),
            working_folder=CHECKOUT,
            **fields,
        )
        child = Child(part, run=tmp_path, logs=tmp_path)
        child.start()
        children.append(child)
        return child

    yield _start
    for child in children:
        if child.is_running():
            child.kill()
        processes.kill_survivors(child.pid, str(tmp_path))


def grandchild(child):
    until(lambda: child.log.read_text().endswith("\n"), "the child to tell its own child's pid")
    return psutil.Process(int(child.log.read_text()))


def test_what_a_killed_run_left_is_stopped_and_named(start, tmp_path):
    first, second = start(SLEEPER, name="first"), start(SLEEPER, name="second")
    assert sorted(processes.stop_orphans(tmp_path)) == ["first", "second"]
    assert not first.is_running()
    assert not second.is_running()
    assert list(tmp_path.glob("*.json")) == []


def test_another_process_of_the_same_pid_is_left_alone(start, tmp_path):
    stranger = start(SLEEPER)
    record = Record.read(tmp_path / "part0.json")
    dataclasses.replace(record, started=record.started - 3600).write(tmp_path)
    assert processes.stop_orphans(tmp_path) == []
    assert stranger.is_running()
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_record_cut_short_is_dropped(tmp_path, text):
    (tmp_path / "web.json").write_text(text)
    assert processes.stop_orphans(tmp_path) == []
    assert not (tmp_path / "web.json").exists()


def test_children_of_a_program_that_died_alone_are_found_by_their_mark(start, tmp_path):
    child = start(FAMILY)
    left = grandchild(child)
    child.kill()
    assert processes.stop_orphans(tmp_path) == ["part0"]
    until(lambda: not is_alive(left), "the grandchild to end")


def test_a_process_of_the_session_without_our_mark_is_left_alone(tmp_path):
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    try:
        assert list(processes.survivors(stranger.pid - 1, str(tmp_path))) == []
        assert list(processes.survivors(os.getsid(0), str(tmp_path))) == []
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_deaf_to_its_signal_is_killed_with_its_children(start):
    child = start(FAMILY, "deaf", grace_seconds=0.2)
    left = grandchild(child)
    child.stop()
    assert child.exit_code() == -signal.SIGKILL
    until(lambda: not is_alive(left), "the grandchild to end")


def test_a_program_that_ends_while_starting_is_reported_with_its_last_words(start):
    child = start("import sys; sys.exit('no such table: digits')", is_ready=lambda: False)
    with pytest.raises(DevError, match=r"part0 ended while starting, with exit code 1\.(?s:.)*no such table: digits"):
        child.wait_until_ready()


def test_a_program_that_never_gets_ready(start):
    child = start(SLEEPER, is_ready=lambda: False)
    with pytest.raises(DevError, match=r"part0 was not ready within 0\.1 s"):
        child.wait_until_ready(0.1)


def test_logs_and_records_tell_nothing_to_other_users(start):
    assert start(SLEEPER).log.stat().st_mode & 0o077 == 0


def test_exit_codes_in_words():
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "signal SIGKILL"


def test_stopping_a_process_that_is_gone_is_no_error(start, tmp_path):
    child = start(SLEEPER, grace_seconds=600)
    record = Record.read(tmp_path / "part0.json")
    child.kill()
    began = time.monotonic()
    processes.stop(record, mark=str(tmp_path))
    assert time.monotonic() - began < record.grace_seconds, "there is nobody to wait for"
