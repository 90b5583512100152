"""The SDK and the real device plane, in one process: what the one writes, the other reads."""

import asyncio
import json
from datetime import UTC, datetime

import httpx
import pytest
from aerogram_sdk import errors

from distribution.device_plane.app import create_app
from distribution.device_plane.tree import LocalTree
from registry.device_classes import DeviceClass, Selector
from tests.sdk.conftest import score
from tests.sdk.fake_runtime import model_file
from tests.simulators import DeviceSimulator, MemorySink, PublishedTree

CLASSES = (DeviceClass("any", Selector(), ("tflite-float32",), ("xnnpack",)),)


class InProcess(httpx.BaseTransport):
    """HTTP requests as calls of an ASGI application."""

    def __init__(self, application) -> None:
        self.device = DeviceSimulator(application)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url.raw_path.decode()
        answer = self.device.request(request.method, url, dict(request.headers), request.read())
        return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(answer.body))


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def tree(tmp_path):
    tree = PublishedTree(tmp_path / "tree", now=datetime.now(UTC).replace(microsecond=0), device_classes=CLASSES)
    tree.release("digits", 1, {"tflite-float32": {"model.json": model_file(1, padding=100_000)}})
    tree.publish()
    return tree


@pytest.fixture
def plane(tree, sink):
    plane = create_app(LocalTree(tree.root), sink)
    asyncio.run(plane.refresh())
    yield plane
    asyncio.run(plane.close())


@pytest.fixture
def device(new_client, tree, plane, runtime, tmp_path):
    with httpx.Client(transport=InProcess(plane)) as http:
        yield new_client(
            server="http://device.plane",
            root=(tree.folder / "trust/1.root.json").read_bytes(),
            runtimes={"litert": runtime},
            http=http,
        )


def publish(tree, plane):
    tree.publish()
    asyncio.run(plane.refresh())


def outcome(device):
    (outcome,) = device.update(["digits"])
    return outcome.state, outcome.reason, outcome.version, outcome.error


def test_install_update_roll_back_and_switch_off(device, tree, plane):
    assert outcome(device) == ("updated", "current_release", 1, None)
    assert score(device) == 3.0
    assert outcome(device) == ("unchanged", "current_release", 1, None)
    tree.release("digits", 2, {"tflite-float32": {"model.json": model_file(2)}})
    publish(tree, plane)
    assert outcome(device) == ("updated", "current_release", 2, None)
    assert score(device) == 6.0
    tree.release("digits", 1, {"tflite-float32": {"model.json": model_file(1, padding=100_000)}})
    publish(tree, plane)
    assert outcome(device) == ("updated", "current_release", 1, None)
    assert score(device) == 3.0
    tree.kill("digits")
    publish(tree, plane)
    assert outcome(device)[0] == "use_embedded"
    with pytest.raises(errors.ModelNotAvailable):
        device.open("digits")


def test_every_event_is_accepted(device, sink):
    assert outcome(device)[0] == "updated"
    score(device)
    waiting = device.pending_events()
    assert device.flush_events() == len(waiting)
    (entry,) = sink.entries
    batch = json.loads(entry["batch"])
    assert batch["events"] == waiting, "nothing rejected, nothing dropped"
    assert batch["profile"] == {"os": "linux", "app_version": "1.0"}
    assert entry["unit"] == device.unit


def test_events_of_failures_are_accepted_too(device, tree, plane, sink, runtime):
    runtime.broken.add(1)
    assert outcome(device)[0] == "refused"
    waiting = device.pending_events()
    assert waiting[-1]["error"] == "load_failed"
    device.flush_events()
    assert json.loads(sink.entries[0]["batch"])["events"] == waiting


def test_blob_resumes_by_range(device, tree, plane, tmp_path):
    digest = tree.store_blob(model_file(1, padding=100_000))
    downloads = tmp_path / "store" / "demo" / "downloads"
    (downloads / f"{digest}.part").write_bytes(model_file(1, padding=100_000)[:60_000])
    (downloads / f"{digest}.part.etag").write_text(f'"{digest}"')
    assert outcome(device)[0] == "updated"
    sizes = {event["stage"]: event.get("bytes") for event in device.pending_events()}
    assert sizes["download"] == len(model_file(1, padding=100_000)) - 60_000


def test_unknown_channel(device, new_client, tree):
    staging = new_client(channel="staging", server="http://device.plane", http=device._http)
    assert type(staging.update(["digits"])[0].error) is errors.PollFailed
