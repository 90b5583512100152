"""Programs that die are started again, later and later; a stop ends all of them, the servers last."""

import os
import signal
import sys
from pathlib import Path

import pytest

from deploy.dev.children import Child, Part
from deploy.dev.errors import DevError
from deploy.dev.layout import CHECKOUT, Layout
from deploy.dev.supervisor import StopRequested, Supervisor, Watch, restart_delay
from tests.deploy.waiting import until

# Appends its name to a file when it is asked to end, so that the order can be read.
POLITE = """
import signal, sys, time
def end(*_):
    with open(sys.argv[2], "a") as file:
        file.write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True: time.sleep(60)
"""
DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"


class FakeChild:
    def __init__(self):
        self.part = Part(name="web", command=[], environment={}, working_folder=Path())
        self.log = Path("var/logs/web.log")
        self.code = None
        self.starts = 0
        self.finished = 0

    def start(self):
        self.starts += 1
        self.code = None

    def is_running(self):
        return self.code is None

    def exit_code(self):
        return self.code

    def finish(self):
        self.finished += 1


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path)
    layout.create()
    return layout


@pytest.fixture
def supervisor(layout):
    lines = []
    supervisor = Supervisor(layout, say=lines.append)
    supervisor.lines = lines
    yield supervisor
    supervisor.stop_requests = 99
    supervisor.stop()


def part(name, code, *arguments, **fields):
    command = [sys.executable, "-c", code, *arguments]
    return Part(name=name, command=command, environment=dict(os.environ), working_folder=CHECKOUT, **fields)


def is_up(child):
    return child.log.exists() and "up" in child.log.read_text()


def test_a_program_that_dies_is_started_again_after_its_delay():
    watch = Watch(FakeChild(), started_at=0)
    assert watch.tend(5) is None
    watch.child.code = -9
    line = watch.tend(10)
    assert line == "web ended with signal SIGKILL; starting it again in 1 s (var/logs/web.log)."
    assert watch.tend(10.9) is None
    assert watch.child.starts == 0
    assert watch.tend(11) == "web started again."
    assert (watch.child.starts, watch.child.finished) == (1, 1)


def test_delays_grow_until_it_stayed_up_for_a_minute():
    watch = Watch(FakeChild(), started_at=0)
    now, delays = 0.0, []
    for uptime in (1, 1, 1, 61, 1):
        now += uptime
        watch.child.code = 1
        watch.tend(now)
        delays.append(watch.restart_at - now)
        now = watch.restart_at
        watch.tend(now)
    assert delays == [1, 2, 4, 1, 2]


def test_the_delay_has_a_limit_however_often_it_fails():
    assert [restart_delay(n) for n in (1, 2, 3, 4, 5, 6, 7, 100_000)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_all_end_in_reverse_order_and_servers_after_programs(supervisor, tmp_path):
    order = tmp_path / "order"
    children = [
        supervisor.start(part("server", POLITE, "server", str(order), stage=0)),
        supervisor.start(part("program", POLITE, "program", str(order))),
    ]
    until(lambda: all(is_up(child) for child in children), "both to be up")
    supervisor.stop()
    assert order.read_text().split() == ["program", "server"]
    assert [child.exit_code() for child in children] == [0, 0]
    assert list(supervisor.layout.run.glob("*.json")) == []


def test_a_deaf_program_is_killed_after_its_grace_time(supervisor):
    child = supervisor.start(part("deaf", DEAF, grace_seconds=0.3))
    until(lambda: is_up(child), "it to be up")
    supervisor.stop()
    assert child.exit_code() == -signal.SIGKILL


def test_a_second_request_to_stop_takes_the_grace_time_away(supervisor):
    child = supervisor.start(part("deaf", DEAF, grace_seconds=600))
    until(lambda: is_up(child), "it to be up")
    supervisor.stop_requests = 1
    previous = signal.signal(signal.SIGALRM, supervisor._on_signal)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)  # again and again: the first may come before the stop has begun
    try:
        supervisor.stop()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert child.exit_code() == -signal.SIGKILL


def test_a_killed_program_comes_back_with_another_pid(supervisor, tmp_path):
    child = supervisor.start(part("polite", POLITE, "polite", str(tmp_path / "order")))
    first = child.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: supervisor._pass_time() or (child.is_running() and child.pid != first), "it to come back")
    assert supervisor.lines[-1] == "polite started again."


def test_a_request_to_stop_ends_a_program_that_was_to_run_to_its_end(supervisor, layout, tmp_path):
    child = Child(part("once", POLITE, "once", str(tmp_path / "order")), run=layout.run, logs=layout.logs)
    supervisor.stop_requests = 1
    with pytest.raises(StopRequested):
        supervisor.complete(child)
    assert not child.is_running()


def test_the_exit_code_of_a_program_that_runs_to_its_end(supervisor, layout):
    for code in (0, 7):
        child = Child(part(f"once{code}", f"import sys; sys.exit({code})"), run=layout.run, logs=layout.logs)
        assert supervisor.complete(child) == code


def test_a_program_that_keeps_failing_at_the_start_is_given_up_with_its_last_words(supervisor, monkeypatch):
    monkeypatch.setattr("deploy.dev.supervisor.restart_delay", lambda _failures: 0.0)
    supervisor.start(part("web", "import sys; sys.exit('no module named urls')", is_ready=lambda: False))
    with pytest.raises(DevError, match=r"web does not start\.(?s:.)*no module named urls"):
        supervisor.wait_until_ready(frozenset({"web"}), timeout_seconds=60)


def test_a_program_that_does_not_answer_in_time(supervisor):
    supervisor.start(part("web", DEAF, is_ready=lambda: False, grace_seconds=0.1))
    with pytest.raises(DevError, match="web does not answer"):
        supervisor.wait_until_ready(frozenset({"web"}), timeout_seconds=0.2)
