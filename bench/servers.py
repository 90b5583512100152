"""Servers on the loopback, each pinned to the server's core and gone when the measurement is."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from deploy.dev import ports
from deploy.dev.children import Child, Part
from deploy.dev.layout import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

NOBODY = "redis://127.0.0.1:9/0"  # polls never speak to the event stream
_GRACE_SECONDS = 5.0
_START_SECONDS = 120.0
_RESERVED: list[socket.socket] = []
_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    gzip off;
    keepalive_requests 1000000000;
    open_file_cache max=64;
    types {{ }}
    default_type application/json;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/static;
        location = /healthz {{ return 200; }}
    }}
}}
"""


@dataclass(frozen=True)
class Answer:
    status: int
    etag: str
    body: bytes


@dataclass(frozen=True)
class Server:
    """A running server, as the load generator and the clock see it; `behind` it may work others on the same core."""

    name: str
    port: int
    child: Child
    behind: tuple[Child, ...] = ()

    def cpu_seconds(self) -> float:
        """Of the server and its workers, user and system, since they started."""
        return sum(cpu_seconds(child) for child in (self.child, *self.behind))

    def get(self, target: str, headers: Mapping[str, str]) -> Answer:
        """One request, to learn or to check an answer."""
        return next(self.get_all([(target, headers)]))

    def get_all(self, requests: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[Answer]:
        """One after the other over one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            for target, headers in requests:
                connection.request("GET", target, headers=dict(headers))
                response = connection.getresponse()
                yield Answer(response.status, response.headers.get("ETag", ""), response.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class Place:
    """Where servers run: a folder of this run for their files, and the core they may use."""

    folder: Path
    core: int

    @contextmanager
    def running(
        self,
        name: str,
        port: int,
        command: list[str],
        variables: Mapping[str, str],
        *,
        is_ready: Callable[[], bool] | None = None,
        within_seconds: float = _START_SECONDS,
        working_folder: Path = CHECKOUT,
    ) -> Iterator[Server]:
        """Any server, on the server's core, once it `is_ready` (answers HTTP)."""
        # The parent's death is the one exit that no `finally` sees.
        pinned = ["setpriv", "--pdeathsig", "TERM", "taskset", "--cpu-list", str(self.core), *command]
        inherited = {key: os.environ[key] for key in ("HOME", "PYTHONPATH", "VIRTUAL_ENV") if key in os.environ}
        path = {"PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}
        part = Part(
            name=name,
            command=pinned,
            environment={**inherited, **path, **variables},
            working_folder=working_folder,
            is_ready=is_ready or (lambda: _answers(port)),
            grace_seconds=_GRACE_SECONDS,
        )
        child = Child(part, run=self.folder, logs=self.folder)
        child.start()
        try:
            child.wait_until_ready(within_seconds)
            yield Server(name, port, child)
        finally:
            child.stop()

    def device_plane(self, tree: Path, *, workers: int = 1, **variables: str) -> AbstractContextManager[Server]:
        """The application as it is deployed, under the settings of `make run`; `tree` is the folder of the store."""
        variables = {"BLOB_STORE_URL": tree.as_uri(), "EVENT_STREAM_URL": NOBODY, **variables}
        port = free_port()
        return self.running("device plane", port, device_server(port, workers), variables)

    def hello(self, status: int, body: bytes) -> AbstractContextManager[Server]:
        file = self.folder / f"hello-{status}"
        file.write_bytes(body)
        variables = {"BENCH_HELLO_BODY": str(file), "BENCH_HELLO_STATUS": str(status)}
        port = free_port()
        return self.running("hello", port, [sys.executable, "-m", "bench.hello", str(port)], variables)

    def nginx(self, path: str, body: bytes) -> AbstractContextManager[Server]:
        """A well set up nginx with one static file at `path`."""
        file = self.folder / "static" / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        port = free_port()
        settings = self.folder / "nginx.conf"
        # Root's worker would become another user, who cannot look into a private folder.
        user = "user root;" if os.geteuid() == 0 else ""
        settings.write_text(_NGINX.format(folder=self.folder, port=port, user=user))
        errors = str(self.folder / "nginx-error.log")
        return self.running("nginx", port, ["nginx", "-e", errors, "-c", str(settings)], {})


def device_server(port: int, workers: int) -> list[str]:
    """The device plane as `deploy.dev.programs` starts it."""
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    return [sys.executable, "-m", "deploy.device_server", *options]


def cpu_seconds(child: Child) -> float:
    """Of a program and of those it started, as long as they run."""
    leader = psutil.Process(child.pid)
    times = [process.cpu_times() for process in (leader, *leader.children(recursive=True))]
    return float(sum(spent.user + spent.system for spent in times))


def _answers(port: int) -> bool:
    """Whether HTTP is spoken there; of any status, since a hello may be a 304."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def free_port() -> int:
    """Of nobody else's until this process ends."""
    port, held = ports.reserve()
    _RESERVED.append(held)
    return port
