"""PostgreSQL and two Redis servers for as long as a block runs; `make run` and the tests share this.

with running(folder) as services:
psycopg2.connect(services.database_url)
"""

import contextlib
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.dev import lock, ports, processes
from deploy.dev.children import Child
from deploy.dev.layout import CHECKOUT, Layout
from deploy.dev.postgres import VOLATILE, Postgres
from deploy.dev.redis_server import RedisServer

_SETTLING_SECONDS = 60  # a folder this young may not have taken its lock yet


@dataclass
class Services:
    """Servers whose addresses are known before they run, so that settings may be read first."""

    layout: Layout
    postgres: Postgres
    broker: RedisServer
    events: RedisServer
    reserved: list[socket.socket]
    children: dict[str, Child] = field(default_factory=dict)

    @classmethod
    def plan(cls, folder: Path, *, postgres_settings: Mapping[str, str] | None = None) -> "Services":
        layout = Layout(folder)
        layout.create()
        broker_port, broker_socket = ports.reserve()
        events_port, events_socket = ports.reserve()
        password = secrets.token_urlsafe(24)
        return cls(
            layout=layout,
            postgres=Postgres(folder / "postgres", settings=postgres_settings or {}),
            broker=RedisServer("broker", folder / "redis" / "broker", broker_port, password, "everysec"),
            events=RedisServer("events", folder / "redis" / "events", events_port, password, "always"),
            reserved=[broker_socket, events_socket],
        )

    @property
    def database_url(self) -> str:
        return self.postgres.url()

    @property
    def redis_url(self) -> str:
        return self.broker.url

    @property
    def event_stream_url(self) -> str:
        return self.events.url

    def environment(self) -> dict[str, str]:
        """The variables that lead Aerogram to these servers."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "EVENT_STREAM_URL": self.event_stream_url,
        }

    def start(self, names: frozenset[str] = frozenset({"postgres", "broker", "events"})) -> list[str]:
        """Start the named servers and wait until they answer; lines worth telling whoever waits."""
        notes = self.postgres.prepare() if "postgres" in names else []
        if sys.platform != "linux":  # elsewhere a reserved port is refused to everybody, the server included
            self._release_ports()
        for server in (self.broker, self.events):
            if server.name in names:
                server.prepare()
        for part in (server.part() for server in (self.postgres, self.broker, self.events) if server.name in names):
            self.children[part.name] = Child(part, run=self.layout.run, logs=self.layout.logs)
            self.children[part.name].start()
        for child in self.children.values():
            child.wait_until_ready()
        if "postgres" in names:
            self.postgres.ensure_database()
        return notes

    def stop(self) -> None:
        for child in reversed(list(self.children.values())):
            child.stop()
        self.children.clear()
        self.postgres.tidy()
        self._release_ports()

    def _release_ports(self) -> None:
        for reserved in self.reserved:
            reserved.close()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Services]:
    """Servers for tests: their data is not waited for on its way to the disk, except the event stream's."""
    services = Services.plan(folder, postgres_settings=VOLATILE)
    try:
        services.start()
        yield services
    finally:
        services.stop()


@contextlib.contextmanager
def throwaway_folder(parent: Path = CHECKOUT / "var" / "test") -> Iterator[Path]:
    """A folder for one test session, removed at its end; those of sessions that were killed are removed first."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, now=time.time())
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=""))
    with lock.hold(folder / "lock", "a test session"):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, *, now: float) -> None:
    """Stop the servers and remove the folders of sessions that hold their lock no longer. `now`: epoch seconds."""
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):  # another session may sweep at the same time
            if now - folder.stat().st_mtime > _SETTLING_SECONDS and not lock.is_held(folder / "lock"):
                processes.stop_orphans(Layout(folder).run)
                shutil.rmtree(folder, ignore_errors=True)
