"""`make run` as a person meets it: started, refused, killed, started again, stopped. Real programs, some 40 s."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from deploy.dev import ports, programs
from deploy.dev import services as dev
from deploy.dev.layout import CHECKOUT, Layout
from deploy.dev.processes import MARK
from tests.deploy.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.database]
_COMMAND = [sys.executable, "-m", "deploy.dev.run"]
NAMES = {"postgres", "broker", "events", "web", "device", "signer", "ingester", "worker", "converter", "beat"}


class Run:
    """One `python -m deploy.dev.run` and what it printed."""

    def __init__(self, layout, ports):
        self.layout = layout
        self.ports = ports
        self.output = layout.root.parent / "output"
        replaced = {"DATABASE_URL", "REDIS_URL", "EVENT_STREAM_URL", "BLOB_STORE_URL", "AEROGRAM_ONLINE_KEYS_DIR"}
        self.environment = {name: value for name, value in os.environ.items() if name not in replaced}
        self.environment |= {
            "AEROGRAM_VAR_DIR": str(layout.root),
            "AEROGRAM_WEB_PORT": str(ports[0]),
            "AEROGRAM_DEVICE_PORT": str(ports[1]),
        }
        self.process = None

    def start(self):
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                _COMMAND,
                cwd=CHECKOUT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self):
        return self.output.read_text()

    def wait_until_up(self):
        until(lambda: "Ctrl-C stops everything." in self.said() or self.process.poll() is not None, "it to be up", 300)
        assert self.process.poll() is None, self.said()
        until(lambda: all(programs.answers("127.0.0.1", port)() for port in self.ports), "both planes to answer")

    def second(self):
        return subprocess.run(_COMMAND, cwd=CHECKOUT, env=self.environment, capture_output=True, text=True, check=False)

    def survivors(self):
        return [process for process in psutil.process_iter() if mark_of(process) == str(self.layout.run)]


def mark_of(process):
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


@pytest.fixture
def run():
    with dev.throwaway_folder() as folder:
        layout = Layout(folder / "var")
        layout.create()
        layout.demo_marker.touch()  # the demonstration has its own test
        reserved = [ports.reserve() for _ in range(2)]  # held until the end, or somebody else might be given one
        started = Run(layout, [port for port, _ in reserved])
        yield started
        if started.process is not None and started.process.poll() is None:
            started.process.terminate()
            started.process.wait(300)
        for _, held in reserved:
            held.close()


def test_the_life_of_a_run(run):
    run.start()
    run.wait_until_up()
    assert "Administrator: admin" in run.said()
    assert {path.stem for path in run.layout.run.glob("*.json")} == NAMES
    assert run.survivors()

    refused = run.second()
    assert refused.returncode == 1
    assert f"Already running from this checkout: process {run.process.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr

    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    run.start()
    run.wait_until_up()
    for name in NAMES:
        assert f"Stopped {name}, left behind by a run that was killed." in run.said()
    assert "Administrator: admin" not in run.said()

    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(300) == 0
    assert run.said().endswith("Stopping…\nStopped.\n")
    assert run.survivors() == []
    assert [path.name for path in run.layout.run.glob("*.json")] == []
    assert not (run.layout.secrets / "environment.json").exists()


def test_a_busy_port_is_told_before_anything_starts(run):
    with socket.create_server(("127.0.0.1", run.ports[1])):
        refused = run.second()
    assert refused.returncode == 1
    assert f"Port {run.ports[1]} on 127.0.0.1 cannot be used" in refused.stderr
    assert "Set AEROGRAM_DEVICE_PORT to another port" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "Starting" not in refused.stdout


def test_a_bad_variable_is_told_in_words(run):
    run.environment["AEROGRAM_WEB_PORT"] = "eighty"
    refused = run.second()
    assert refused.returncode == 1
    assert refused.stderr == "make run: AEROGRAM_WEB_PORT: expected a whole number from 1 to 65535, got 'eighty'\n"
