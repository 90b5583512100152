"""P6: how long a publication takes to be visible in every one of four workers, and what polls see meanwhile.

Clocked from the moment `timestamp.json` is replaced to the first answer of the last worker that shows the revision.
Connections that never pause are held to each worker; every answer of each is checked: it is of one revision throughout
(the version that this revision published, in the decision and in the manifest; the tag that of the body), and no
connection sees a revision sink.
"""

from __future__ import annotations

import http.client
import json
import time
import uuid
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from statistics import median
from threading import Event, Thread
from typing import TYPE_CHECKING

import psutil

from bench.harness import MeasurementError
from bench.outcome import Measurement, Table
from bench.published import APPLICATION, CHANNEL, FILES, MODEL, POLL_PATH
from bench.servers import NOBODY, free_port
from deploy.dev.children import Child
from deploy.dev.redis_server import RedisServer
from distribution.device_plane.redis_revisions import publish_revision
from tests.simulators import PublishedTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.harness import Harness
    from bench.servers import Server

IDENTIFIER = "P6"
TITLE = "publish to visible in every worker of four, with polls going on"
WORKERS = 4
_FIRST_VERSION = 3
_PER_WORKER = 2
_MOST_CONNECTIONS = 200
_PUBLISHES_PER_ROUND = 4
_PATIENCE_SECONDS = 30.0
_HTTP_OK = 200


class Watch(Thread):
    """One connection to one worker, polling as fast as it is answered."""

    def __init__(self, connection: http.client.HTTPConnection, worker: int) -> None:
        super().__init__(daemon=True)
        self.connection, self.worker = connection, worker
        self.seen: dict[int, float] = {}
        self.answers = 0
        self.wrong: list[str] = []
        self.ended = Event()

    def run(self) -> None:
        unit, latest = str(uuid.uuid4()), 0
        while not self.ended.is_set() and not self.wrong:
            try:
                self.connection.request("GET", f"{POLL_PATH}?os=android", headers={"Aerogram-Unit": unit})
                response = self.connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"no answer: {error!r}")
                return
            now = time.monotonic()
            latest = self._check(response, body, latest)
            self.seen.setdefault(latest, now)
            self.answers += 1

    def _check(self, response: http.client.HTTPResponse, body: bytes, latest: int) -> int:
        revision = int(response.headers.get("Aerogram-Revision", "0"))
        member = json.loads(body)["models"][MODEL] if response.status == _HTTP_OK else {}
        told = member and (member["decision"].get("version"), member["manifest"]["signed"]["model_version"])
        version = revision + _FIRST_VERSION - 1
        tag = f'"{sha256(body).hexdigest()}"'
        if told != (version, version) or response.headers.get("ETag") != tag or revision < latest:
            self.wrong.append(f"after {latest}: {response.status}, revision {revision}, {told}")
        return revision


class Publisher:
    """Writes one revision after the other, each with a version of its own."""

    def __init__(self, root: Path) -> None:
        self.tree = PublishedTree(root, application=APPLICATION, now=datetime.now(UTC))
        self.publish()

    def publish(self) -> int:
        version = self.tree.revision + _FIRST_VERSION
        self.tree.release(MODEL, version, {"tflite-float32": FILES}, channel=CHANNEL)
        return self.tree.publish()


def measure(harness: Harness) -> Measurement:
    publishes = harness.rounds * _PUBLISHES_PER_ROUND
    with _redis(harness) as url:
        announced, polls = _lags(harness, "announced", url, publishes)
    silent, more = _lags(harness, "silent", None, publishes)
    rows = (_row("announced by Redis", announced, "≤ 2"), _row("without Redis", silent, "≤ 30"))
    table = Table("seconds until the last worker shows it", ("publisher", "median", "longest", "aim"), rows)
    facts = {
        "workers": WORKERS,
        "publications each": publishes,
        "answers checked": f"{polls + more:,}",
        "mixed or invalid": 0,
        "tree": "a folder, looked at every 0.3 s; a bucket is every 5 s",
    }
    return Measurement(IDENTIFIER, TITLE, tables=[table], facts=facts)


def _row(name: str, lags: list[float], aim: str) -> tuple[str, ...]:
    return name, f"{median(lags):.3f}", f"{max(lags):.3f}", aim


def _lags(harness: Harness, name: str, url: str | None, publishes: int) -> tuple[list[float], int]:
    """Seconds of each publication, and how many answers were checked meanwhile."""
    store = harness.folder / f"p6-{name}"
    publisher = Publisher(store / "tree")
    plane = harness.place.device_plane(store, workers=WORKERS, EVENT_STREAM_URL=url or NOBODY)
    with plane as server, _watching(server) as watches:
        _await(watches, 1)
        lags = []
        for _ in range(publishes):
            revision, began = publisher.publish(), time.monotonic()
            if url is not None:
                publish_revision(url, APPLICATION, revision)
            _await(watches, revision)
            lags.append(_last_worker(watches, revision) - began)
        harness.say(f"  {name:10} median {median(lags):.3f} s  longest {max(lags):.3f} s")
    return lags, sum(watch.answers for watch in watches)


def _last_worker(watches: list[Watch], revision: int) -> float:
    first: dict[int, float] = {}
    for watch in watches:
        first[watch.worker] = min(watch.seen[revision], first.get(watch.worker, float("inf")))
    return max(first.values())


def _await(watches: list[Watch], revision: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not all(revision in watch.seen for watch in watches):
        wrong = [text for watch in watches for text in watch.wrong]
        if wrong:
            raise MeasurementError(f"expected answers of one revision, got {wrong[0]}")
        if time.monotonic() > deadline:
            raise MeasurementError(f"expected revision {revision} in every worker within {_PATIENCE_SECONDS:g} s")
        time.sleep(0.001)


@contextmanager
def _watching(server: Server) -> Iterator[list[Watch]]:
    """Connections to every worker; which one accepted a connection, the kernel knows."""
    with ExitStack() as stack:
        held: dict[int, list[http.client.HTTPConnection]] = {}
        for _ in range(_MOST_CONNECTIONS):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_PATIENCE_SECONDS)
            stack.callback(connection.close)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            held.setdefault(_worker_of(server, connection), []).append(connection)
            if len(held) == WORKERS and all(len(each) >= _PER_WORKER for each in held.values()):
                break
        else:
            raise MeasurementError(f"expected connections to {WORKERS} workers, got to {len(held)}")
        watches = [Watch(each, pid) for pid, connections in held.items() for each in connections[:_PER_WORKER]]
        for watch in watches:
            watch.start()
        try:
            yield watches
        finally:
            for watch in watches:
                watch.ended.set()
            for watch in watches:
                watch.join(_PATIENCE_SECONDS)


def _worker_of(server: Server, connection: http.client.HTTPConnection) -> int:
    port = connection.sock.getsockname()[1]
    for process in psutil.Process(server.child.pid).children(recursive=True):
        if any(each.raddr and each.raddr.port == port for each in process.net_connections("tcp")):
            return process.pid
    raise MeasurementError("expected a worker that holds the connection, found none")


@contextmanager
def _redis(harness: Harness) -> Iterator[str]:
    redis = RedisServer("events", harness.folder / "redis", free_port(), "bench", "always")
    redis.prepare()
    child = Child(redis.part(), run=harness.folder, logs=harness.folder)
    child.start()
    try:
        child.wait_until_ready()
        yield redis.url
    finally:
        child.stop()
