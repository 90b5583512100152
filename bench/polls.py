"""The three servers every measurement of polls runs side by side, and the requests sent to each of them."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from bench.harness import MeasurementError, Request, Run
from bench.published import CHANNEL, DEVICE_CLASSES, EXPERIMENT, MODEL, POLL_PATH, Phone, phones, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness import Harness
    from bench.servers import Answer, Server

FULL, HALF = "flat out", "half of its own rate"
CONNECTIONS = 32
PACED_CONNECTIONS = 100
_UNITS_PER_PHONE = 8


@dataclass(frozen=True)
class Polled:
    """A phone, its unit, and what the device plane answered."""

    phone: Phone
    unit: str
    answer: Answer


@dataclass(frozen=True)
class Servers:
    plane: Server
    nginx: Server
    hello: Server
    polled: tuple[Polled, ...]
    body: bytes  # of middling length: what nginx and hello serve

    def facts(self) -> dict[str, Any]:
        """What was really decided, so that nobody need believe it."""
        decisions = [json.loads(polled.answer.body)["models"][MODEL]["decision"] for polled in self.polled]
        return {
            "channel": CHANNEL,
            "device_classes": len(DEVICE_CLASSES),
            "device_classes_met": len({decision["device_class"] for decision in decisions}),
            "experiment": EXPERIMENT.slug,
            "reasons": dict(Counter(decision["reason"] for decision in decisions)),
            "arms": dict(Counter(decision.get("arm", "none") for decision in decisions)),
            "different_queries": len({polled.phone.query for polled in self.polled}),
            "different_answers": len({polled.answer.etag for polled in self.polled}),
            "body_bytes": len(self.body),
        }


@contextmanager
def poll_servers(harness: Harness, *, status: HTTPStatus) -> Iterator[Servers]:
    """Device plane, nginx with one of its answers as a file, and a hello of that size (or the same empty 304)."""
    store = harness.folder / "store"
    if not store.exists():
        publish(store / "tree")
    with harness.place.device_plane(store) as plane:
        polled = _poll_all(plane)
        bodies = sorted((each.answer.body for each in polled), key=len)
        body = bodies[len(bodies) // 2]
        hello_body = body if status is HTTPStatus.OK else b""
        with harness.place.nginx(POLL_PATH, body) as nginx, harness.place.hello(status, hello_body) as hello:
            if nginx.get(polled[0].phone.target, {}).body != body:
                raise MeasurementError("nginx: expected the very bytes of the device plane's answer, got others")
            yield Servers(plane, nginx, hello, polled, body)


def full_runs(harness: Harness, servers: Servers) -> list[Run]:
    """200 flat out: every request from another unit."""
    requests = harness.write_requests("poll", (Request(phone.target) for phone in phones()))
    expected = range(len(servers.body) // 2, len(servers.body) * 2)
    return [
        Run(server, requests, FULL, CONNECTIONS, expected) for server in (servers.plane, servers.nginx, servers.hello)
    ]


def not_modified_runs(harness: Harness, servers: Servers) -> list[Run]:
    """304 flat out: every phone sends the tag of its own last answer, nginx gets its file's."""
    own = [Request(each.phone.target, each.unit, each.answer.etag) for each in servers.polled]
    tag = servers.nginx.get(POLL_PATH, {}).etag
    of_nginx = [Request(each.phone.target, each.unit, tag) for each in servers.polled]
    tags, nginx_tags = harness.write_requests("tags", own), harness.write_requests("nginx-tags", of_nginx)
    pairs = ((servers.plane, tags), (servers.nginx, nginx_tags), (servers.hello, tags))
    return [Run(server, requests, FULL, CONNECTIONS, range(80, 600)) for server, requests in pairs]


def _poll_all(plane: Server) -> tuple[Polled, ...]:
    asked = [(phone, str(uuid.uuid4())) for phone in phones() for _ in range(_UNITS_PER_PHONE)]
    answers = plane.get_all([(phone.target, {"Aerogram-Unit": unit}) for phone, unit in asked])
    polled = tuple(Polled(phone, unit, answer) for (phone, unit), answer in zip(asked, answers, strict=True))
    wrong = [each.answer for each in polled if each.answer.status != HTTPStatus.OK]
    if wrong:
        raise MeasurementError(f"device plane: expected 200 to every phone, got {wrong[0].status} {wrong[0].body!r}")
    return polled
