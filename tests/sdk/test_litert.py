"""Real .tflite files on the real LiteRT."""

import json
import sys

import numpy as np
import pytest
from aerogram_sdk import LiteRtRuntime, errors
from aerogram_sdk.manifest import SignatureSchema
from aerogram_sdk.sanity import encode_tensor

from tests.sdk.conftest import SDK
from tests.sdk.repository_simulator import Release

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra `light`)")

from tests.sdk import tiny_tflite

pytestmark = pytest.mark.light

WEIGHTS = np.array([[1.0, -2.0], [0.5, 0.25], [3.0, 1.0]], dtype=np.float32)
IMAGE = np.array([[0.5, -0.25]], dtype=np.float32)
SCORE = IMAGE @ WEIGHTS.T
INPUT_SCALE, OUTPUT_SCALE = 1 / 128, 4 / 128


def schema(dtype="float32"):
    tensor = {"dtype": dtype}
    return {
        "inputs": [{"name": "image", "shape": [1, 2]} | tensor],
        "outputs": [{"name": "score", "shape": [1, 3]} | tensor],
        "labels_file": None,
    }


@pytest.fixture(params=["float32", "int8"])
def variant(request):
    """(file, type of its tensors, largest error that the type explains)."""
    if request.param == "float32":
        return tiny_tflite.float_model(WEIGHTS), "float32", 1e-6
    return tiny_tflite.int8_model(WEIGHTS, INPUT_SCALE, OUTPUT_SCALE), "int8", OUTPUT_SCALE


@pytest.fixture
def load(tmp_path):
    def load(data, wanted=None, delegates=()):
        path = tmp_path / "model.tflite"
        path.write_bytes(data)
        return LiteRtRuntime(threads=1).load(path, wanted and SignatureSchema.from_json(wanted), delegates)

    return load


def release(simulator, data, dtype, **members):
    sample = {"inputs": {"image": encode_tensor(IMAGE)}, "outputs": {"score": encode_tensor(SCORE)}}
    vectors = json.dumps({"tolerance": "0.05", "samples": [sample]}).encode()
    files = {"model.tflite": data, "sanity.json": vectors}
    made = Release("digits", 4, f"tflite-{dtype}", files, runtime="litert", entry="model.tflite", sanity="sanity.json")
    made.schema, made.tolerance = schema(dtype), "0.05"
    for name, value in members.items():
        setattr(made, name, value)
    simulator.offer(simulator.release(made))
    simulator.publish()


def test_floats_in_and_out_through_the_whole_way(simulator, new_client, variant):
    data, dtype, error = variant
    release(simulator, data, dtype)
    client = new_client(runtimes={"litert": LiteRtRuntime()}, accepts={"digits": SignatureSchema.from_json(schema())})
    (outcome,) = client.update(["digits"])
    assert (outcome.state, outcome.error) == ("updated", None)
    with client.open("digits") as model:
        score = model.run({"image": IMAGE})["score"]
    assert score.dtype == np.float32
    np.testing.assert_allclose(score, SCORE, atol=error)


def test_a_file_that_is_no_model(simulator, new_client):
    release(simulator, b"TFL3" * 100, "float32")
    (outcome,) = new_client(runtimes={"litert": LiteRtRuntime()}).update(["digits"])
    assert type(outcome.error) is errors.LoadFailed


def test_other_weights_than_the_vectors_are_for(simulator, new_client):
    release(simulator, tiny_tflite.float_model(WEIGHTS + 0.5), "float32")
    (outcome,) = new_client(runtimes={"litert": LiteRtRuntime()}).update(["digits"])
    assert type(outcome.error) is errors.SanityMismatch


def test_integers_in_the_files_own_type_pass_unchanged(load):
    model = load(tiny_tflite.int8_model(WEIGHTS, INPUT_SCALE, OUTPUT_SCALE), schema("int8"))
    stored = np.round(IMAGE / INPUT_SCALE).astype(np.int8)
    np.testing.assert_array_equal(model.run({"image": stored})["score"], model.run({"image": IMAGE})["score"])


def test_tensors_take_the_names_of_the_schema(load):
    renamed = json.loads(json.dumps(schema()).replace("image", "picture").replace("score", "logits"))
    model = load(tiny_tflite.float_model(WEIGHTS), renamed)
    assert model.run({"picture": IMAGE}).keys() == {"logits"}


@pytest.mark.parametrize("delegates", [(), ("npu", "xnnpack"), ("cpu",)])
def test_delegates_change_no_result(load, delegates):
    model = load(tiny_tflite.float_model(WEIGHTS), None, delegates)
    np.testing.assert_allclose(model.run({"image": IMAGE})["score"], SCORE, atol=1e-6)


@pytest.mark.parametrize(
    "inputs",
    [{}, {"image": IMAGE, "mask": IMAGE}, {"image": IMAGE[0]}, {"image": IMAGE.T}, {"image": IMAGE.astype(np.int32)}],
    ids=["none", "too many", "one dimension", "other shape", "other type"],
)
def test_inputs_it_does_not_take(load, inputs):
    with pytest.raises(errors.InputInvalid):
        load(tiny_tflite.float_model(WEIGHTS), schema()).run(inputs)


def test_twenty_lines_of_the_readme(simulator, server, tmp_path, monkeypatch, capsys):
    """As printed, in an app called `myapp` whose home is elsewhere."""
    app = tmp_path / "myapp"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "root.json").write_bytes(simulator.root_bytes())
    (app / "digits.tflite").write_bytes(tiny_tflite.float_model(WEIGHTS))
    release(simulator, tiny_tflite.float_model(WEIGHTS), "float32")
    program = (SDK / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    program = program.replace("https://models.example.com", server.url).replace("(1, 32, 32, 1)", "(1, 2)")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    scope = {}
    exec(program + "client.close()\n", scope)
    assert capsys.readouterr().out == "digits updated 4 None\n"
    assert scope["scores"]["score"].tolist() == [[0.0, 0.0, 0.0]]
    assert server.batches
    sys.modules.pop("myapp")
