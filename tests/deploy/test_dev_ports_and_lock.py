import os
import socket
import subprocess
import sys

import pytest

from deploy.dev import lock, ports
from deploy.dev.errors import DevError
from tests.deploy.waiting import until

HOLDER = """
import sys, time
from pathlib import Path
from deploy.dev import lock
with lock.hold(Path(sys.argv[1]), "web on port 8123"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_busy_port_names_the_variable_and_its_holder(listener):
    port = listener.getsockname()[1]
    with pytest.raises(DevError) as refused:
        ports.require_free(port, variable="AEROGRAM_WEB_PORT")
    message = str(refused.value)
    assert f"Port {port} on 127.0.0.1 cannot be used" in message
    assert "Set AEROGRAM_WEB_PORT to another port" in message
    assert f"process {os.getpid()}" in message


def test_a_free_port_is_accepted_and_left_free(listener):
    port = listener.getsockname()[1]
    listener.close()
    ports.require_free(port, variable="X")
    ports.require_free(port, variable="X")


def test_a_reserved_port_is_given_to_no_one_else_but_can_be_listened_on():
    port, held = ports.reserve()
    with held, socket.socket() as server:
        assert port not in {socket_port() for _ in range(50)}
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()


def socket_port():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        return other.getsockname()[1]


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_told_who_runs(holder, tmp_path):
    with (
        pytest.raises(lock.LockedError, match=f"process {holder.pid}, web on port 8123"),
        lock.hold(tmp_path / "lock", ""),
    ):
        pytest.fail("the lock was given twice")


def test_a_lock_is_free_again_once_its_holder_was_killed(holder, tmp_path):
    assert lock.is_held(tmp_path / "lock")
    holder.kill()
    until(lambda: not lock.is_held(tmp_path / "lock"), "the kernel to drop the lock")
    with lock.hold(tmp_path / "lock", "mine"):
        assert "mine" in (tmp_path / "lock").read_text()
    assert (tmp_path / "lock").read_text() == ""
