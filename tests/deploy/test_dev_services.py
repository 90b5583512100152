"""Real servers: the event stream survives a power failure, and a killed session leaves nothing behind."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from deploy.dev import services as dev
from tests.chaos.stack import patient_redis
from tests.deploy.waiting import until
from tests.processes import is_alive

pytestmark = [pytest.mark.chaos, pytest.mark.database]

ABANDONED = """
import sys, time
from pathlib import Path
from deploy.dev import services
with services.throwaway_folder(Path(sys.argv[1])) as folder, services.running(folder) as running:
    print(folder, *(child.pid for child in running.children.values()), flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def running():
    with dev.throwaway_folder() as folder, dev.running(folder) as started:
        yield started


def test_the_database_takes_a_table(running):
    connection = psycopg2.connect(running.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t AS SELECT 'ß' AS letter")
        cursor.execute("SELECT letter, current_setting('server_encoding') FROM t")
        assert cursor.fetchall() == [("ß", "UTF8")]
    connection.close()


def test_accepted_events_are_there_after_a_power_failure(running):
    with patient_redis(running.event_stream_url) as client:
        ids = [client.xadd("aerogram:events", {"n": n}) for n in range(50)]
    events = running.children["events"]
    events.kill()
    events.start()
    events.wait_until_ready()
    with redis.Redis.from_url(running.event_stream_url) as client:
        assert [entry for entry, _ in client.xrange("aerogram:events")] == ids


def test_redis_refuses_who_does_not_know_the_password(running):
    with redis.Redis(port=running.events.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_the_running_event_stream_syncs_every_write(running):
    with redis.Redis.from_url(running.event_stream_url) as client:
        assert client.config_get("append*")["appendfsync"] == "always"


def test_no_one_else_can_enter_the_folders_of_the_servers(running):
    for folder in (running.postgres.folder, running.postgres.socket_folder, running.layout.run, running.layout.secrets):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((running.events.folder / "redis.conf").stat().st_mode) == 0o600


@pytest.fixture
def parent():
    """A folder of sessions that nobody else begins one in: to be swept an hour ahead of time."""
    with dev.throwaway_folder() as folder:
        yield folder / "s"  # short: addresses of sockets below it have their bounds


def test_a_killed_session_is_swept_by_the_next(parent):
    session = subprocess.Popen(
        [sys.executable, "-c", ABANDONED, str(parent)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    words = session.stdout.readline().split()
    folder, servers = Path(words[0]), [psutil.Process(int(pid)) for pid in words[1:]]
    os.kill(session.pid, signal.SIGKILL)
    session.wait()
    session.stdout.close()
    assert len(servers) == 3
    assert all(server.is_running() for server in servers)
    dev.sweep(parent, now=folder.stat().st_mtime + 3600)
    until(lambda: not any(is_alive(server) for server in servers), "the servers to end")
    assert not folder.exists()


def test_a_young_folder_is_not_swept(tmp_path):
    (tmp_path / "new").mkdir()
    dev.sweep(tmp_path, now=(tmp_path / "new").stat().st_mtime + 1)
    assert (tmp_path / "new").exists()
