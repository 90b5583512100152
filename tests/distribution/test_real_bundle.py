"""A real encoder with its real decoder: inspected, verified, published, fetched, proven and run by LiteRT."""

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra `light`)")

from distribution import services
from registry import services as registry_services
from registry.models import JobState
from registry.services.bundles import ExtraFile
from tests.factories import NOW
from tests.registry.fake_conversions import Queue, states, upload
from tests.sdk import tiny_tflite

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.light]
ENCODE = np.array([[1.0, -2.0], [0.5, 0.25], [3.0, 1.0]], np.float32)
DECODE = np.linalg.pinv(ENCODE).astype(np.float32)
IMAGE = np.array([[0.5, -0.25]], np.float32)
RECIPE = "tflite-as-is"


def converted(world, queue, model, weights, **said):
    source = upload(world.application, tiny_tflite.float_model(weights), f"{model}.tflite")
    version = registry_services.register_version(
        application=world.application, model_slug=model, source=source, recipes=[RECIPE], actor="ada", now=NOW, **said
    )
    queue.drain(world.clock)
    assert states(version) == {"trace": JobState.SUCCEEDED, RECIPE: JobState.SUCCEEDED}
    return version


def test_from_two_files_to_one_phone(world, phones, monkeypatch):
    from aerogram_sdk import LiteRtRuntime

    queue = Queue(monkeypatch)
    decoder = converted(world, queue, "captions-decoder", DECODE)
    graph = ExtraFile("graph", "captions.pbtxt", upload(world.application, b"node {}", "captions.pbtxt"))
    bundle = converted(world, queue, "captions", ENCODE, parts={"decoder": decoder}, files=[graph])
    assert bundle.variants.get().parts.get().part == decoder.variants.get()
    world.application.device_classes.update(variants=[RECIPE])
    services.publish(channel=world.application.channels.get(), version=bundle, actor="ada", now=world.clock())
    world.run()
    phones.refresh()
    phone = phones.phone("ann", world.root.to_bytes(), runtimes={"litert": LiteRtRuntime()})
    (outcome,) = phone.update(["captions"])
    assert (outcome.state, outcome.variant, outcome.error) == ("updated", RECIPE, None)
    stages = [(event["stage"], event["outcome"]) for event in phone.pending_events()]
    assert ("sanity", "ok") in stages
    with phone.open("captions") as model:
        code = model.run({"image": IMAGE})["score"]
        found = model.part("decoder").run({"image": code})["score"]
        assert [path.name for path in model.files("graph")] == ["captions.pbtxt"]
    np.testing.assert_allclose(code, IMAGE @ ENCODE.T, atol=1e-5)
    np.testing.assert_allclose(found, IMAGE, atol=1e-5)
