"""The servers that the poll is compared with, each as its own documentation starts it in production, on PostgreSQL.

| peer    | server                                   | what stands for a poll                                        |
|---------|------------------------------------------|---------------------------------------------------------------|
| Kinto   | uWSGI, 3 processes, nginx in front       | GET changeset of a collection (plug-in kinto-changes)         |
| MLflow  | `mlflow server` (uvicorn), 1 worker      | GET version by alias, then GET its download URI: two requests |
| Unleash | `node server.js`, NODE_ENV=production    | GET /api/client/features with a backend token                 |

Each holds one model (record, flag) only. Their database runs on the load generator's core, as if on another machine.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psycopg2

from bench.environments import node_environment, python_environment
from bench.harness import MeasurementError, Request
from bench.published import CHANNEL, MODEL
from bench.servers import Server, cpu_seconds, free_port
from bench.sites import Sites
from deploy.dev.children import Child
from deploy.dev.postgres import USER, VOLATILE, Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KINTO = ("kinto[postgresql]==26.5.0", "kinto-changes==4.1.2", "cornice==6.1.0", "setuptools==80.10.2", "uwsgi==2.0.31")
MLFLOW = ("mlflow==3.17.2", "psycopg2-binary==2.9.13")
UNLEASH = ("unleash-server@7.5.1",)
RECORD = {
    "version": 4,
    "hash": "0" * 64,
    "size": 3_568_976,
    "location": f"{MODEL}/4/model.tflite",
    "filter_expression": 'env.appinfo.OS == "Android"',
}
STRATEGY = {
    "name": "flexibleRollout",
    "parameters": {"rollout": "100", "stickiness": "default", "groupId": MODEL},
    "variants": [
        {"name": name, "weight": 500, "weightType": "variable", "stickiness": "default"}
        for name in ("control", "treatment")
    ],
}
_ADMIN, _BACKEND = "*:*.bench-admin", "default:development.bench-backend"  # of a server that lives for minutes
_START_SECONDS = 180.0  # migrations of an empty database, and the imports of MLflow
# Programs under measurement do not call their makers.
_QUIET = {"CHECK_VERSION": "false", "SEND_TELEMETRY": "false", "DO_NOT_TRACK": "true"}

_KINTO_INI = """\
[app:main]
use = egg:kinto
kinto.includes = kinto_changes
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {database}
kinto.cache_backend = kinto.core.cache.postgresql
kinto.cache_url = {database}
kinto.permission_backend = kinto.core.permission.postgresql
kinto.permission_url = {database}
kinto.userid_hmac_secret = bench
kinto.bucket_create_principals = system.Authenticated
multiauth.policies = basicauth

[uwsgi]
socket = {folder}/uwsgi.sock
home = {home}
paste = config:{folder}/kinto.ini
master = true
processes = 3
enable-threads = true
lazy-apps = true
single-interpreter = true
buffer-size = 65535
disable-logging = true
die-on-term = true
need-app = true
"""
_KINTO_FRONT = """\
access_log off;
server {{
    listen 127.0.0.1:{port};
    location / {{
        uwsgi_pass unix:{folder}/uwsgi.sock;
        uwsgi_param QUERY_STRING $query_string;
        uwsgi_param REQUEST_METHOD $request_method;
        uwsgi_param CONTENT_TYPE $content_type;
        uwsgi_param CONTENT_LENGTH $content_length;
        uwsgi_param REQUEST_URI $request_uri;
        uwsgi_param PATH_INFO $document_uri;
        uwsgi_param SERVER_PROTOCOL $server_protocol;
        uwsgi_param REQUEST_SCHEME $scheme;
        uwsgi_param REMOTE_ADDR $remote_addr;
        uwsgi_param SERVER_PORT $server_port;
        uwsgi_param SERVER_NAME $server_name;
        uwsgi_param HTTP_HOST $host;
    }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """A peer that runs and holds one model. Its `requests`, in a row, stand for one poll."""

    server: Server
    requests: tuple[Request, ...]
    expected: range  # bytes of an answer with its headers

    @classmethod
    def checked(cls, server: Server, requests: tuple[Request, ...], must_name: str) -> Peer:
        """Raises MeasurementError unless every request is answered with 200 and the last names the model."""
        lengths, body = [], b""
        for request in requests:
            name, _, value = request.header.partition(": ")
            answer = server.get(request.target, {name: value} if name else {})
            if answer.status != HTTPStatus.OK:
                raise MeasurementError(f"{server.name}: expected 200, got {answer.status} {answer.body[:200]!r}")
            body = answer.body
            lengths.append(len(body))
        if must_name.encode() not in body:
            raise MeasurementError(f"{server.name}: expected {must_name} in the answer, got {body[:200]!r}")
        return cls(server, requests, range(min(lengths), max(lengths) + 2_000))


@dataclass(frozen=True)
class Database:
    """A PostgreSQL of the peers' own."""

    postgres: Postgres
    child: Child

    def make(self, name: str) -> None:
        connection = psycopg2.connect(self.postgres.url("postgres"))
        connection.autocommit = True  # CREATE DATABASE refuses to run inside a transaction
        connection.cursor().execute(f'CREATE DATABASE "{name}"')
        connection.close()

    def url(self, name: str, scheme: str = "postgresql") -> str:
        return f"{scheme}://{USER}@/{name}?host={self.postgres.socket_folder}"

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.child)


@contextmanager
def database(folder: Path) -> Iterator[Database]:
    """On the core of whoever calls: that of the load generator."""
    postgres = Postgres(folder / "postgres", settings=VOLATILE)
    postgres.prepare()
    child = Child(postgres.part(), run=folder, logs=folder)
    child.start()
    try:
        child.wait_until_ready()
        yield Database(postgres, child)
    finally:
        child.stop()
        postgres.tidy()


class Peers(Sites):
    """Raises NotInstalled where a peer's packages cannot be had."""

    @contextmanager
    def kinto(self, database: Database) -> Iterator[Peer]:
        home = python_environment("kinto", KINTO).parents[1]
        folder = self.folder / "kinto"
        folder.mkdir(exist_ok=True)
        database.make("kinto")
        settings, socket = folder / "kinto.ini", folder / "uwsgi.sock"
        settings.write_text(_KINTO_INI.format(database=database.url("kinto"), folder=folder, home=home))
        _run([str(home / "bin" / "kinto"), "migrate", "--ini", str(settings)])
        command = [str(home / "bin" / "uwsgi"), "--ini", str(settings)]
        port = free_port()
        with (
            self.running("uwsgi", 0, command, {}, is_ready=socket.exists) as uwsgi,
            self.site("kinto", folder, port, _KINTO_FRONT.format(port=port, folder=folder)) as front,
        ):
            http = httpx.Client(base_url=f"http://127.0.0.1:{port}/v1", auth=("bench", "bench"), timeout=_START_SECONDS)
            with http:
                bucket = "/buckets/main"
                _put(http, "PUT", bucket, {"permissions": {"read": ["system.Everyone"]}})
                _put(http, "PUT", f"{bucket}/collections/{MODEL}", {})
                _put(http, "PUT", f"{bucket}/collections/{MODEL}/records/{MODEL}-4", {"data": RECORD})
            changeset = Request(f"/v1{bucket}/collections/{MODEL}/changeset?_expected=0", unit="")
            yield Peer.checked(replace(front, behind=(uwsgi.child,)), (changeset,), MODEL)

    @contextmanager
    def mlflow(self, database: Database) -> Iterator[Peer]:
        programs = python_environment("mlflow", MLFLOW).parent
        database.make("mlflow")
        port = free_port()
        options = ["--backend-store-uri", database.url("mlflow", "postgresql+psycopg2"), "--workers", "1"]
        options += ["--default-artifact-root", str(self.folder / "mlflow"), "--host", "127.0.0.1", "--port", str(port)]
        command = [str(programs / "mlflow"), "server", *options]
        variables = {"PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self.running("mlflow", port, command, _QUIET | variables, within_seconds=_START_SECONDS) as server:
            api = "/api/2.0/mlflow"
            with httpx.Client(base_url=f"http://127.0.0.1:{port}{api}", timeout=_START_SECONDS) as http:
                _put(http, "POST", "/registered-models/create", {"name": MODEL})
                _put(http, "POST", "/model-versions/create", {"name": MODEL, "source": f"s3://models/{MODEL}/4"})
                _put(http, "POST", "/registered-models/alias", {"name": MODEL, "alias": CHANNEL, "version": "1"})
            by_alias = f"{api}/registered-models/alias?name={MODEL}&alias={CHANNEL}"
            address = f"{api}/model-versions/get-download-uri?name={MODEL}&version=1"
            yield Peer.checked(server, (Request(by_alias, unit=""), Request(address, unit="")), MODEL)

    @contextmanager
    def unleash(self, database: Database) -> Iterator[Peer]:
        program = node_environment("unleash", UNLEASH) / "unleash-server" / "dist" / "server.js"
        database.make("unleash")
        port = free_port()
        variables = {
            "NODE_ENV": "production",
            "DATABASE_HOST": str(database.postgres.socket_folder),
            "DATABASE_NAME": "unleash",
            "DATABASE_USERNAME": USER,
            "DATABASE_PASSWORD": "unused",
            "DATABASE_SSL": "false",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(port),
            "INIT_ADMIN_API_TOKENS": _ADMIN,
            "INIT_BACKEND_API_TOKENS": _BACKEND,
        }
        command = ["node", str(program)]
        with self.running("unleash", port, command, _QUIET | variables, within_seconds=_START_SECONDS) as server:
            feature = f"/projects/default/features/{MODEL}"
            authorized = {"Authorization": _ADMIN}
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}/api/admin", headers=authorized, timeout=_START_SECONDS
            ) as http:
                _put(http, "POST", "/projects/default/features", {"name": MODEL, "type": "experiment"})
                _put(http, "POST", f"{feature}/environments/development/strategies", STRATEGY)
                _put(http, "POST", f"{feature}/environments/development/on", {})
            features = Request("/api/client/features", unit="", header=f"Authorization: {_BACKEND}")
            until(lambda: MODEL.encode() in server.get(features.target, {"Authorization": _BACKEND}).body)
            yield Peer.checked(server, (features,), MODEL)


def until(condition: Callable[[], bool]) -> None:
    """Unleash looks for changes once a second."""
    deadline = time.monotonic() + 15.0
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_START_SECONDS)
    if done.returncode:
        raise MeasurementError(f"{Path(command[0]).name}: expected success, got {done.stderr[-300:]!r}")


def _put(http: httpx.Client, method: str, path: str, body: Mapping[str, object]) -> None:
    answer = http.request(method, path, json=body)
    if not answer.is_success:
        raise MeasurementError(f"{http.base_url}{path}: expected success, got {answer.status_code} {answer.text[:300]}")
