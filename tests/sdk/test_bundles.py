"""Bundles on the device, through the real device plane: several models and files that switch together or not at all."""

import asyncio
import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
from aerogram_sdk import EmbeddedModel, EmbeddedPart, LiteRtRuntime, SignatureSchema, TensorSpec, errors
from aerogram_sdk.sanity import encode_tensor

from distribution.device_plane.app import create_app
from distribution.device_plane.tree import LocalTree
from distribution.manifest import Part, Sanity
from registry.device_classes import DeviceClass, Selector
from tests.sdk.fake_runtime import IMAGE, SCHEMA, model_file, sanity_file
from tests.sdk.power_cuts import power_cut
from tests.sdk.test_device_plane import InProcess
from tests.simulators import MemorySink, PublishedTree

CLASSES = (DeviceClass("any", Selector(), ("tflite-float32",), ("xnnpack",)),)
GRAPH = b'node { calculator: "InferenceCalculator" }'


class Publisher:
    """A tree with one bundle, and the device plane in front of it."""

    def __init__(self, folder) -> None:
        self.tree = PublishedTree(folder, now=datetime.now(UTC).replace(microsecond=0), device_classes=CLASSES)
        self.plane = create_app(LocalTree(folder), MemorySink())

    def release(self, version, *, encoder=None, decoder=None, decoder_sanity=None, extra=None):
        """Fake models that score `version` and ten times `version`, unless other factors are given."""
        encoder, decoder = encoder or version, decoder or 10 * version
        files = {
            "model.json": model_file(encoder),
            "sanity.json": sanity_file(encoder),
            "decoder/model.json": model_file(decoder),
            "decoder/sanity.json": sanity_file(decoder_sanity or decoder),
            "graph.binarypb": GRAPH + b" %d" % version,
            "labels.txt": b"cat\ndog\n",
            **(extra or {}),
        }
        self.publish(
            version,
            files,
            roles={
                "graph.binarypb": "graph",
                "labels.txt": "labels",
                "sanity.json": "sanity",
                "decoder/sanity.json": "sanity",
            },
            signature_schema=SCHEMA | {"labels_file": "labels.txt"},
            sanity=Sanity("sanity.json", "0.02"),
            parts={"decoder": Part("decoder/model.json", SCHEMA, Sanity("decoder/sanity.json", "0.02"))},
        )

    def publish(self, version, files, roles=None, **members):
        self.tree.release("captions", version, {"tflite-float32": files}, roles=roles or {}, **members)
        self.tree.publish()
        asyncio.run(self.plane.refresh())

    def spoil(self, content):
        """The bytes of a file, as a broken disk or a liar would serve them."""
        digest = self.tree.store_blob(content)
        path = self.tree.folder / f"blobs/sha256/{digest[:2]}/{digest}"
        path.write_bytes(bytes(len(content)))


@pytest.fixture
def publisher(tmp_path):
    publisher = Publisher(tmp_path / "tree")
    publisher.release(1)
    yield publisher
    asyncio.run(publisher.plane.close())


@pytest.fixture
def device(new_client, publisher, runtime, tmp_path):
    with httpx.Client(transport=InProcess(publisher.plane)) as http:

        def build(store="store", **changes):
            arguments = {
                "server": "http://device.plane",
                "root": (publisher.tree.folder / "trust/1.root.json").read_bytes(),
                "runtimes": {"litert": runtime},
                "http": http,
                "store": tmp_path / store,
            }
            return new_client(**(arguments | changes))

        yield build


def update(client):
    (outcome,) = client.update(["captions"])
    return outcome.state, outcome.version, type(outcome.error)


def scores(client):
    """Of the encoder and of the decoder."""
    with client.open("captions") as model:
        ours, theirs = model.run({"image": IMAGE}), model.part("decoder").run({"image": IMAGE})
        return float(ours["score"][0, 0]), float(theirs["score"][0, 0])


OLD, NEW = (3.0, 30.0), (6.0, 60.0)


def test_all_of_it_arrives(device):
    client = device()
    assert update(client) == ("updated", 1, type(None))
    assert scores(client) == OLD
    with client.open("captions") as model:
        assert model.parts == ["decoder"]
        assert [path.read_bytes() for path in model.files("graph")] == [GRAPH + b" 1"]
        assert model.part("decoder").files("graph") == ()
        assert [path.name for path in model.part("decoder").files("model")] == ["model.json"]
        assert (model.labels(), model.part("decoder").labels()) == (["cat", "dog"], [])
        for name in ("encoder", ""):
            with pytest.raises(errors.PartUnknown):
                model.part(name)


def test_only_what_changed_is_fetched(device, publisher):
    client = device()
    update(client)
    publisher.release(2, decoder=10)
    client.flush_events()
    assert update(client) == ("updated", 2, type(None))
    fetched = next(event["bytes"] for event in client.pending_events() if event["stage"] == "download")
    assert fetched == len(model_file(2) + sanity_file(2) + GRAPH + b" 2")
    assert scores(client) == (6.0, 30.0)


# -- all or nothing


def cut_update(device, store, at):
    """An update to the new bundle with the power cut; what was changed before."""
    client = device(store)
    with power_cut(client._store.root, at) as cut:
        assert update(client) == ("updated", 2, type(None))
    return cut.changes


@pytest.fixture
def folder(tmp_path):
    """In memory where there is such a file system: these hundred updates would wait for the disk most of the time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as name:
        yield Path(name)


def test_a_switch_interrupted_before_each_of_its_writes(device, publisher, folder):
    update(device(folder / "first"))
    assert scores(device(folder / "first")) == OLD
    publisher.release(2)
    shutil.copytree(folder / "first", folder / "whole")
    changes = cut_update(device, folder / "whole", None)
    assert sum("bundles" in change or "staging" in change for change in changes) > 10, changes
    seen = []
    for at in range(len(changes)):
        store = folder / f"cut-{at}"
        shutil.copytree(folder / "first", store)
        assert len(cut_update(device, store, at)) == at
        seen.append(scores(device(store)))
        assert seen[-1] in (OLD, NEW), changes[at]
        (outcome,) = device(store).update(["captions"])
        assert (outcome.version, outcome.error) == (2, None), changes[at]
        assert scores(device(store)) == NEW
        shutil.rmtree(store)
    assert seen[0] == OLD
    assert seen == sorted(seen), "once switched, it stays switched"
    assert NEW in seen, "some writes come after the switch"


@pytest.mark.parametrize("part", ["decoder/model.json", "graph.binarypb"])
def test_a_second_file_that_fails_leaves_the_active_bundle(device, publisher, part):
    client = device()
    update(client)
    publisher.release(2)
    publisher.spoil({"decoder/model.json": model_file(20), "graph.binarypb": GRAPH + b" 2"}[part])
    assert update(client) == ("refused", 1, errors.HashMismatch)
    assert scores(client) == OLD


def test_a_part_that_does_not_load_or_fails_its_vectors(device, publisher, runtime):
    client = device()
    update(client)
    publisher.release(2)
    runtime.broken.add(20)
    assert update(client) == ("refused", 1, errors.LoadFailed)
    publisher.release(3, decoder_sanity=31)
    assert update(client) == ("refused", 1, errors.SanityMismatch)
    assert scores(client) == OLD


def test_a_part_that_no_longer_loads_takes_the_bundle_before(device, publisher, runtime):
    client = device()
    update(client)
    assert scores(client) == OLD
    publisher.release(2)
    update(client)
    runtime.broken.add(20)
    assert scores(client) == OLD, "never the new encoder with the old decoder"


def test_the_bundle_before_stays_until_each_model_has_run(device, publisher, runtime):
    client = device()
    update(client)
    scores(client)
    publisher.release(2)
    update(client)
    with client.open("captions") as model:
        model.run({"image": IMAGE})
    assert not client._store.state().model("captions").active.has_run
    runtime.mute.add(20)
    with client.open("captions") as model, pytest.raises(errors.FirstInferenceFailed):
        model.part("decoder").run({"image": IMAGE})
    runtime.mute.clear()
    assert scores(client) == NEW
    assert client._store.state().model("captions").active.has_run


# -- what the app expects


def test_an_app_that_expects_another_decoder(device, publisher):
    client = device(accepts={"captions/decoder": SignatureSchema((TensorSpec("tokens", (1, 8), "int32"),), ())})
    assert update(client) == ("refused", None, errors.SchemaNotAccepted)
    client = device(accepts={"captions/decoder": SignatureSchema.from_json(SCHEMA), "other/decoder": None})
    assert update(client) == ("updated", 1, type(None))


def test_an_app_that_expects_a_decoder_where_there_is_none(device, publisher):
    publisher.publish(2, {"model.json": model_file(2)}, signature_schema=SCHEMA)
    client = device(accepts={"captions/decoder": SignatureSchema.from_json(SCHEMA)})
    assert update(client) == ("refused", None, errors.SchemaNotAccepted)
    assert update(device("elsewhere")) == ("updated", 2, type(None))


def test_a_bundle_inside_the_app(device, tmp_path):
    for name, factor in (("encoder", 7), ("decoder", 8)):
        (tmp_path / f"{name}.json").write_bytes(model_file(factor))
    part = EmbeddedPart(tmp_path / "decoder.json", files={"graph": (tmp_path / "decoder.json",)})
    embedded = EmbeddedModel(tmp_path / "encoder.json", "litert", parts={"decoder": part})
    client = device(embedded={"captions": embedded})
    assert scores(client) == (21.0, 24.0)
    with client.open("captions") as model:
        assert model.part("decoder").files("graph") == (tmp_path / "decoder.json",)


# -- a real pair


def vectors(inputs, outputs):
    sample = {"inputs": {"image": encode_tensor(inputs)}, "outputs": {"score": encode_tensor(outputs)}}
    return json.dumps({"tolerance": "0.02", "samples": [sample]}).encode()


def described(inputs, outputs):
    tensors = {"inputs": ("image", inputs), "outputs": ("score", outputs)}
    return {
        side: [{"name": name, "shape": [1, size], "dtype": "float32"}] for side, (name, size) in tensors.items()
    } | {"labels_file": None}


@pytest.mark.light
def test_a_real_encoder_with_its_decoder(device, publisher):
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra `light`)")
    from tests.sdk import tiny_tflite

    encode = np.array([[1.0, -2.0], [0.5, 0.25], [3.0, 1.0]], np.float32)
    decode = np.linalg.pinv(encode).astype(np.float32)
    image = np.array([[0.5, -0.25]], np.float32)
    code = image @ encode.T
    files = {
        "model.tflite": tiny_tflite.float_model(encode),
        "sanity.json": vectors(image, code),
        "decoder/model.tflite": tiny_tflite.float_model(decode),
        "decoder/sanity.json": vectors(code, image),
    }
    publisher.publish(
        2,
        files,
        signature_schema=described(2, 3),
        sanity=Sanity("sanity.json", "0.02"),
        parts={"decoder": Part("decoder/model.tflite", described(3, 2), Sanity("decoder/sanity.json", "0.02"))},
    )
    client = device(runtimes={"litert": LiteRtRuntime()})
    assert update(client) == ("updated", 2, type(None))
    with client.open("captions") as model:
        found = model.part("decoder").run({"image": model.run({"image": image})["score"]})["score"]
    np.testing.assert_allclose(found, image, atol=1e-5)
