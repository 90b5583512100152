"""Whoever decides, decides the same: poll, explain, OFREP and each SDK, for 10 000 random devices in 200 channels."""

import json
import random
from functools import cache
from typing import Any, NamedTuple

import pytest

from distribution import explaining
from distribution.decision import Reason
from distribution.device_plane import ofrep
from distribution.device_plane.poll import Poll
from tests.conformance.runners import RUNNERS, decided
from tests.distribution.random_devices import AskingDevice, random_device
from tests.distribution.test_explaining import drawn, published  # noqa: F401

DEVICES, CHANNELS = 10_000, 200
MEMBERS = ("reason", "version", "variant", "experiment", "phase", "arm", "device_class")


class Asked(NamedTuple):
    """`lines`: what the server's poll answered each device, in the form of a runner's lines."""

    cases: dict[str, Any]
    lines: list[dict[str, Any]]


@pytest.fixture(scope="module")
def kept() -> dict[str, Asked]:
    """Asked once for all runners; the server's part needs a database of its own test."""
    return {}


@pytest.fixture
def asked(kept, published, monkeypatch):  # noqa: F811
    if not kept:
        kept["all"] = Asking(published, monkeypatch).all()
    return kept["all"]


class Asking:
    """The server's own three, each of which is held to the poll."""

    def __init__(self, published: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
        self.channel, self.plain = published.channel, published.state()
        self.told = None
        monkeypatch.setattr(explaining, "published_catalog", lambda channel: (self.plain.revision, self.told))

    def all(self) -> Asked:
        chance, catalogs, cases, lines = random.Random(20261123), [], [], []
        for index in range(CHANNELS):
            app = drawn(self.plain, chance)
            state, poll = app.channels["production"], Poll()
            self.told = state.catalog
            catalogs.append(state.catalog.to_json())
            for _ in range(DEVICES // CHANNELS):
                device = random_device(chance)
                cases.append(device.case(index))
                lines.append(self.polled(app, state, poll, device))
                self.explain_agrees(device, lines[-1])
                self.flags_agree(state, device, lines[-1])
        return Asked({"catalogs": catalogs, "devices": cases}, lines)

    def polled(self, app: Any, state: Any, poll: Poll, device: AskingDevice) -> dict[str, Any]:
        answer = json.loads(poll.answer(app, state, device.query, device.model, device.unit).body)
        entry = answer["models"][device.model]
        return {name: entry["decision"].get(name) for name in MEMBERS} | {"manifest": digest(state, entry["manifest"])}

    def explain_agrees(self, device: AskingDevice, line: dict[str, Any]) -> None:
        told = explaining.explain(self.channel, device.model, device.query, device.unit).to_json()
        manifest = told["manifest"] and told["manifest"]["sha256"]
        assert {name: told["decision"].get(name) for name in MEMBERS} | {"manifest": manifest} == line, device

    def flags_agree(self, state: Any, device: AskingDevice, line: dict[str, Any]) -> None:
        told = ofrep.evaluate(state, f"model.{device.model}", device.flags_body)
        if line["reason"] == Reason.UNKNOWN_MODEL:
            assert told.status == 404
            return
        assert {name: told.document["metadata"].get(name) for name in MEMBERS} | {"manifest": line["manifest"]} == line
        if "value" in told.document:
            assert told.document["value"]["manifest_sha256"] == line["manifest"], device


def digest(state: Any, envelope: Any) -> str | None:
    """Of the file that the poll's manifest stands in, found by its content: only the catalog names digests."""
    if envelope is None:
        return None
    references = {reference.path: reference.sha256 for reference in state.catalog.references()}
    (path,) = [path for path in references if parsed(state.manifests[path]) == envelope]
    return references[path]


@cache
def parsed(manifest: bytes) -> Any:
    return json.loads(manifest)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", RUNNERS)
def test_an_sdk_decides_as_the_server_does(name, asked, tmp_path):
    found = decided(RUNNERS[name](), asked.cases, tmp_path)
    assert len(found) == DEVICES
    for device, expected, line in zip(asked.cases["devices"], asked.lines, found, strict=True):
        assert line == expected, device


@pytest.mark.django_db(transaction=True)
def test_the_cases_hold_every_reason(asked):
    assert {line["reason"] for line in asked.lines} == set(Reason)
    assert len({line["manifest"] for line in asked.lines}) > 2
