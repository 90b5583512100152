"""P11: 10 000 simulated devices over one simulated day, with one publish at noon: is the load spread, is all answered?

Devices poll as the device SDK has them: after what the answer's `poll_after_seconds` says and up to a fifth more, drawn
by the SDK's own function; they begin at any time of the first such interval. Each poll is really sent, in the order of
the simulated times, with the tag of the device's last answer; a device that is given another version fetches its files.
Whether it is the right version for the time is checked for every answer. A day is counted by its simulated minutes.

Nothing but its own clock makes a device poll: hints of the live channel reach apps that are open, and have a spread of
their own.
"""

from __future__ import annotations

import heapq
import json
import random
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aerogram_sdk.updater import jittered

from bench.harness import MeasurementError
from bench.outcome import Measurement, Ratio, Table
from deploy.fleet.chances import Even
from deploy.fleet.devices import Device, fleet_of
from deploy.fleet.driver import Link
from deploy.fleet.population import App
from tests.simulators import PublishedTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness import Harness
    from bench.servers import Server

IDENTIFIER = "P11"
TITLE = "10 000 simulated devices over one simulated day, one publish at noon"
DEVICES = 10_000
MINUTES, NOON = 24 * 60, 12 * 60
OLD, NEW = 3, 4
APPLICATION, CHANNEL, MODEL = "demo", "production", "digits"
FILES = {"model.tflite": bytes(20_000)}
_AIM = "≤ 2"
_SEED = 11
_PATIENCE_SECONDS = 10.0
_BASE = f"/v1/apps/{APPLICATION}"


class Day:
    """One simulated day against a server, counted by minute. `wrong`: what was not answered as it must be."""

    def __init__(self, server: Server, tree: PublishedTree, devices: int) -> None:
        self.server, self.tree = server, tree
        self.devices = fleet_of(devices, [App(MODEL, OLD)], Even(), seed=_SEED)
        self.polls: Counter[int] = Counter()
        self.files: Counter[int] = Counter()
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.published_at_poll = 0
        self._tags: dict[str, str] = {}
        self._link = Link(f"http://127.0.0.1:{server.port}")

    def run(self) -> None:
        """Every poll of the day, in the order of time."""
        noon = False
        with closing(self._link):
            for second, device in polls_of_a_day(self.devices, self.tree.poll_after_seconds):
                minute = second // 60
                if minute >= NOON and not noon:
                    noon = True
                    self._publish()
                self.polls[minute] += 1
                self._poll(device, minute, NEW if noon else OLD)

    def have(self, version: int) -> int:
        return sum(device.held[MODEL].version == version for device in self.devices)

    def _poll(self, device: Device, minute: int, version: int) -> None:
        headers = {"Aerogram-Unit": device.unit}
        if device.unit in self._tags:
            headers["If-None-Match"] = self._tags[device.unit]
        path = f"{_BASE}/channels/{CHANNEL}/manifests?{device.query}"
        answer = self._link.ask("GET", path, headers)
        self.statuses[answer.status] += 1
        if answer.status == HTTPStatus.NOT_MODIFIED:
            told = device.held[MODEL].version
        elif answer.status == HTTPStatus.OK:
            self._tags[device.unit] = answer.headers["etag"]
            told = self._follow(device, json.loads(answer.body)["models"], minute)
        else:
            told = None
        if told != version:
            self.wrong.append(f"minute {minute}: expected version {version}, got {answer.status} and {told}")

    def _follow(self, device: Device, models: dict[str, Any], minute: int) -> int | None:
        """Fetch what is new, as the device's events then tell."""
        fetches = any(event["stage"] == "download" for event in device.take(models))
        for file in models[MODEL]["manifest"]["signed"]["files"].values() if fetches else ():
            self.files[minute] += 1
            answer = self._link.ask("GET", f"{_BASE}/blobs/sha256/{file['sha256']}", {})
            self.statuses[answer.status] += 1
            if len(answer.body) != file["length"]:
                self.wrong.append(f"minute {minute}: expected {file['length']} bytes, got {len(answer.body)}")
        return device.held[MODEL].version

    def _publish(self) -> None:
        self.published_at_poll = sum(self.polls.values())
        self.tree.release(MODEL, NEW, {"tflite-float32": FILES}, channel=CHANNEL)
        revision, deadline = self.tree.publish(), time.monotonic() + _PATIENCE_SECONDS
        while (
            int(self._link.ask("GET", f"{_BASE}/channels/{CHANNEL}/catalog", {}).headers["aerogram-revision"])
            < revision
        ):
            if time.monotonic() > deadline:
                raise MeasurementError(f"expected revision {revision} within {_PATIENCE_SECONDS:g} s")


def polls_of_a_day(devices: list[Device], poll_after_seconds: int) -> Iterator[tuple[int, Device]]:
    """(second of the day, device) in the order of time, each device by the SDK's rule."""
    chance = random.Random(_SEED)  # noqa: S311  # spreads a load
    due = [(chance.randrange(poll_after_seconds), number) for number in range(len(devices))]
    heapq.heapify(due)
    while due[0][0] < MINUTES * 60:
        second, number = due[0]
        yield second, devices[number]
        heapq.heapreplace(due, (second + jittered(poll_after_seconds), number))


def measure(harness: Harness, devices: int = DEVICES) -> Measurement:
    random.seed(_SEED)  # the SDK draws from it
    store = harness.folder / "p11"
    tree = PublishedTree(store / "tree", application=APPLICATION, now=datetime.now(UTC))
    tree.release(MODEL, OLD, {"tflite-float32": FILES}, channel=CHANNEL)
    tree.publish()
    with harness.place.device_plane(store) as server:
        began = time.monotonic()
        day = Day(server, tree, devices)
        day.run()
        seconds = time.monotonic() - began
    if day.wrong or set(day.statuses) - {HTTPStatus.OK, HTTPStatus.NOT_MODIFIED}:
        raise MeasurementError(f"{len(day.wrong)} wrong answers, {dict(day.statuses)}: {day.wrong[:3]}")
    if day.have(NEW) != devices:
        raise MeasurementError(f"expected version {NEW} on {devices} devices by midnight, got {day.have(NEW)}")
    return _told(day, devices, seconds)


def _told(day: Day, devices: int, seconds: float) -> Measurement:
    loads = {"polls": day.polls, "polls and files": day.polls + day.files}
    rows = tuple(
        (name, f"{sum(load.values()):,}", *_spread(load), _AIM if name == "polls" else "")
        for name, load in loads.items()
    )
    table = Table("requests a simulated minute", ("load", "in all", "mean", "busiest", "busiest / mean", "aim"), rows)
    busiest = Ratio("requests a minute", "busiest minute", "mean", "polls", _AIM, (_ratio(day.polls),))
    facts = {
        "devices": f"{devices:,}",
        "poll after": f"{day.tree.poll_after_seconds} s, up to a fifth later",
        "answers 200": f"{day.statuses[200]:,}",
        "answers 304": f"{day.statuses[304]:,}",
        "errors": 0,
        "polls before the publish": f"{day.published_at_poll:,}",
        "real seconds": round(seconds),
    }
    notes = ["Files are fetched in the first polls after noon, so that the busiest minutes of both together lie there."]
    return Measurement(IDENTIFIER, TITLE, ratios=[busiest], tables=[table], facts=facts, notes=notes)


def _ratio(load: Counter[int]) -> float:
    return max(load.values()) / (sum(load.values()) / MINUTES)


def _spread(load: Counter[int]) -> tuple[str, str, str]:
    return f"{sum(load.values()) / MINUTES:.1f}", str(max(load.values())), f"{_ratio(load):.2f}"
