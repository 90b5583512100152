import pytest

from distribution.device_plane.app import create_app
from tests.simulators import NOW, CountingTree, DeviceSimulator, MemorySink, PublishedTree

FILES = {
    "tflite-float32": {"model.tflite": b"float32 weights", "labels.txt": b"zero\none\n"},
    "coreml-fp16": {"model.mlpackage/Data/weight.bin": b"core ml weights"},
}


@pytest.fixture
def published(tmp_path):
    tree = PublishedTree(tmp_path / "tree")
    tree.release("digits", 3, FILES)
    tree.release("faces", 1, {"tflite-float32": {"model.tflite": b"faces"}})
    tree.publish()
    return tree


@pytest.fixture
def tree(published):
    return CountingTree(published.root)


@pytest.fixture
def sink():
    return MemorySink()


@pytest.fixture
def plane(tree, sink):
    plane = create_app(tree, sink, clock=lambda: NOW, reader_threads=2)
    plane.applications.refresh()
    yield plane
    plane.executor.shutdown()
    plane.loader.shutdown()


@pytest.fixture
def device(plane):
    return DeviceSimulator(plane, unit="c0ffee00-0000-4000-8000-000000000001")


@pytest.fixture
def anonymous(plane):
    return DeviceSimulator(plane)
