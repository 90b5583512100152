from datetime import timedelta

import pytest

from distribution.device_plane.app import create_app
from distribution.device_plane.firebase import Facade
from tests.distribution.firebase.client import FirebaseClient
from tests.factories import Clock
from tests.simulators import NOW, DeviceSimulator, MemorySink, PublishedTree

KEY = b"a key of 32 bytes, for tests only"
BASE = "https://models.example"
WEIGHTS = b"weights as they were trained"


@pytest.fixture
def published(tmp_path):
    tree = PublishedTree(tmp_path / "tree")
    files = {
        "tflite-as-is": {"model.tflite": WEIGHTS, "sanity.json": b"{}"},
        "coreml-fp16": {"model.mlpackage/Data/weight.bin": b"core ml"},
    }
    tree.release("digits", 1, files)
    tree.publish()
    return tree


@pytest.fixture
def clock():
    return Clock(NOW)


@pytest.fixture
def facade():
    return Facade(BASE, KEY, lifetime=timedelta(hours=1))


@pytest.fixture
def plane(published, clock, facade):
    plane = create_app(published_reader(published), MemorySink(), clock=clock, reader_threads=2, facade=facade)
    plane.applications.refresh()
    yield plane
    plane.executor.shutdown()
    plane.loader.shutdown()


def published_reader(published):
    from distribution.device_plane.tree import LocalTree

    return LocalTree(published.root)


@pytest.fixture
def device(plane):
    return DeviceSimulator(plane)


@pytest.fixture
def ask(device):
    """(url, headers) -> answer, whatever the host."""
    return lambda url, headers: device.request("GET", url.removeprefix(BASE), headers)


@pytest.fixture(params=["android", "ios"])
def phone(request, ask, clock):
    return FirebaseClient(ask, BASE, "demo", request.param, clock)
