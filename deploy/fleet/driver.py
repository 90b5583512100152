"""Simulated devices against a running server: they poll and report over the real endpoints.

As the protocol asks of clients: an answer's tag is sent with the next poll, events are kept until the server has them,
and after a 503 nothing is sent before its `Retry-After` is over. Times are those of the machine: a day of devices that
passes in seconds is a day only in what they do.
"""

from __future__ import annotations

import gzip
import http.client
import json
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from threading import Lock
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from deploy.fleet.devices import Device, Event
from experiments.funnel import CRASH_CODE

TIMEOUT_SECONDS = 30.0
THREADS = 6
MOST_RETRY_SECONDS = 3600


class Assigned(NamedTuple):
    """Where a unit says it is, by the decision that it was told."""

    model: str
    phase: int | None
    arm: str | None
    version: int | None


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Link:
    """One connection that is kept, and made anew where the server has closed it."""

    def __init__(self, base_url: str) -> None:
        self._address = urlsplit(base_url).netloc
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Raises OSError or http.client.HTTPException when the server is not there, at a second attempt too."""
        if self._connection is not None:
            with suppress(OSError, http.client.HTTPException):
                return self._ask(self._connection, method, path, headers, body)
            self._connection.close()
        self._connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_SECONDS)
        return self._ask(self._connection, method, path, headers, body)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @staticmethod
    def _ask(
        connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        connection.request(method, path, body=body, headers=dict(headers))
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@dataclass
class Tally:
    """What was seen and what the server took. `errors` by what happened; a 503 is none: devices wait and come again.

    `stages` by (model, stage, outcome), where `crash` stands for the load of a process that died before.
    """

    polls: int = 0
    unchanged: int = 0
    batches: int = 0
    events: int = 0
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    stages: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    assigned: dict[Assigned, set[str]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class _Visitor:
    """What a device is to its driver: its last answer, the events that it still has, and when it may send again."""

    device: Device
    etag: str = ""
    queue: list[Event] = field(default_factory=list)
    not_before: float = 0.0
    answer: dict[str, Any] = field(default_factory=dict)


_Step = Callable[[_Visitor, Link], None]


class Driver:
    """Keeps its connections until the end of its context. `clock`: seconds, only to wait out `Retry-After` by."""

    def __init__(
        self,
        device_url: str,
        application: str,
        channel: str,
        devices: Iterable[Device],
        *,
        threads: int = THREADS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        base = f"/v1/apps/{application}"
        self._device_url, self._channel, self._clock = device_url.rstrip("/"), channel, clock
        self._poll_path, self._events_path = f"{base}/channels/{channel}/manifests?", f"{base}/events"
        self._visitors = {device.unit: _Visitor(device) for device in devices}
        self._threads, self._lock = threads, Lock()
        self._links: list[Link] = []  # those that nobody uses just now
        self.tally = Tally()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._links:
            self._links.pop().close()

    @property
    def devices(self) -> list[Device]:
        return [visitor.device for visitor in self._visitors.values()]

    @property
    def waiting_events(self) -> int:
        """That devices still have, because the server did not take them."""
        return sum(len(visitor.queue) for visitor in self._visitors.values())

    def visit(self, devices: Sequence[Device] | None = None) -> None:
        """Each device polls, does what it is told and sends what happened; several at once."""
        visitors = [self._visitors[device.unit] for device in (self.devices if devices is None else devices)]
        self._each(visitors, (self._poll, self._flush))

    def flush(self) -> int:
        """Devices that still have events, and may send again, do so without a poll. How many events wait after that."""
        self._each([visitor for visitor in self._visitors.values() if visitor.queue], (self._flush,))
        return self.waiting_events

    def report(self, device: Device, events: Sequence[Event]) -> None:
        """Send events that follow from no answer."""
        visitor = self._visitors[device.unit]
        visitor.queue += _stamped(events)
        with self._link() as link:
            self._flush(visitor, link)

    def answers(self, model: str) -> Iterable[tuple[Device, Mapping[str, Any]]]:
        """The last decision that each device was told of a model."""
        for visitor in self._visitors.values():
            if model in visitor.answer:
                yield visitor.device, visitor.answer[model]["decision"]

    def reasons(self, model: str) -> Counter[tuple[str, str, int | None]]:
        """Devices by (kind, reason, version) of their last answer."""
        found = ((device.kind.name, told["reason"], told.get("version")) for device, told in self.answers(model))
        return Counter(found)

    def _each(self, visitors: Sequence[_Visitor], steps: Sequence[_Step]) -> None:
        with ThreadPoolExecutor(self._threads, thread_name_prefix="fleet") as pool:
            for finished in [pool.submit(self._perform, steps, visitor) for visitor in visitors]:
                finished.result()

    def _perform(self, steps: Sequence[_Step], visitor: _Visitor) -> None:
        try:
            with self._link() as link:
                for step in steps:
                    step(visitor, link)
        except (OSError, http.client.HTTPException) as error:
            self._count(errors=type(error).__name__)

    def _poll(self, visitor: _Visitor, link: Link) -> None:
        headers = {"Aerogram-Unit": visitor.device.unit}
        if visitor.etag:
            headers["If-None-Match"] = visitor.etag
        answer = link.ask("GET", self._poll_path + visitor.device.query, headers)
        self._count(polls=1)
        if answer.status == HTTPStatus.NOT_MODIFIED:
            self._count(unchanged=1)
        elif answer.status == HTTPStatus.OK:
            visitor.etag, visitor.answer = answer.headers.get("etag", ""), json.loads(answer.body)["models"]
            visitor.queue += _stamped(visitor.device.take(visitor.answer))
        else:
            self._count(errors=f"poll {answer.status}")

    def _flush(self, visitor: _Visitor, link: Link) -> None:
        if not visitor.queue or self._clock() < visitor.not_before:
            return
        sent = list(visitor.queue)
        profile = visitor.device.profile
        document = {"sent_at": _now(), "profile": profile, "channel": self._channel, "events": sent}
        headers = {
            "Aerogram-Unit": visitor.device.unit,
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }
        body = gzip.compress(json.dumps(document).encode(), compresslevel=1, mtime=0)
        answer = link.ask("POST", self._events_path, headers, body)
        if answer.status == HTTPStatus.ACCEPTED:
            rejected = {each["index"] for each in json.loads(answer.body)["rejected"]}
            visitor.queue = []
            self._took(visitor, [event for index, event in enumerate(sent) if index not in rejected], len(rejected))
        elif answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            visitor.not_before = self._clock() + _retry_after(answer)
            self._count(refused=1)
        else:
            self._count(errors=f"events {answer.status}")

    def _took(self, visitor: _Visitor, events: Sequence[Event], rejected: int) -> None:
        decisions = {model: entry["decision"] for model, entry in visitor.answer.items()}
        with self._lock:
            tally = self.tally
            tally.batches, tally.events = tally.batches + 1, tally.events + len(events)
            if rejected:
                tally.errors["event rejected"] += rejected
            for event in events:
                stage = "crash" if event.get("error") == CRASH_CODE else event["stage"]
                tally.stages[event["model"], stage, event["outcome"]] += 1
                if event["stage"] == "assigned":
                    told = decisions.get(event["model"], {})
                    place = Assigned(event["model"], told.get("phase"), told.get("arm"), event.get("version"))
                    tally.assigned[place].add(visitor.device.unit)

    def _count(self, *, errors: str = "", **numbers: int) -> None:
        with self._lock:
            for name, number in numbers.items():
                setattr(self.tally, name, getattr(self.tally, name) + number)
            if errors:
                self.tally.errors[errors] += 1

    @contextmanager
    def _link(self) -> Iterator[Link]:
        with self._lock:
            link = self._links.pop() if self._links else Link(self._device_url)
        try:
            yield link
        finally:
            with self._lock:
                self._links.append(link)


def _stamped(events: Iterable[Event]) -> list[Event]:
    at = _now()
    return [{"id": str(uuid.uuid4()), "at": at, **event} for event in events]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return min(int(text), MOST_RETRY_SECONDS) if text.isdigit() else 1.0
