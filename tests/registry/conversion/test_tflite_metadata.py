"""Metadata in `.tflite` files: what is written is read back by us, by LiteRT and by TensorFlow's own tool."""

import json
import os
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from registry.conversion.metadata import Metadata, MetadataError
from registry.conversion.report import Signature, TensorSpec
from registry.conversion.worker.job import WorkerError
from registry.conversion.worker.tflite_metadata import embed
from registry.inspection import inspect_source
from registry.inspection.tflite_file import inspect_tflite
from tests.registry.inspection.builders import ModelPlan, TensorPlan

# A Python of an environment that holds tflite-support 0.4.4, which fits into none of ours (docs/conversion.md).
STOCK_READER = os.environ.get("AEROGRAM_TFLITE_SUPPORT_PYTHON", "")
SIGNATURE = Signature((TensorSpec("picture", (1, 2), "float32"),), (TensorSpec("scores", (1, 2), "float32"),))
METADATA = Metadata.from_json(
    {
        "name": "Cats",
        "description": "Cat or dog",
        "version": "3",
        "author": "A. Nyström",
        "license": "Apache-2.0",
        "inputs": {
            "picture": {
                "description": "a picture",
                "content": "image",
                "color_space": "grayscale",
                "mean": [127.5],
                "std": [64.0],
            }
        },
        "outputs": {"scores": {"description": "one per class"}},
        "labels": ["cat", "dög"],
    },
    SIGNATURE,
)


@pytest.fixture
def model() -> bytes:
    return ModelPlan(signature=("serving_default", {"picture": 0}, {"scores": 2}, 0), metadata_buffer=0).build()


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path


def test_what_is_written_is_read_back(model: bytes, tmp_path: Path) -> None:
    found = inspect_tflite(written(tmp_path, embed(model, METADATA, SIGNATURE)))
    expected = METADATA.to_json()
    assert found.metadata.pop("min_parser_version") == "1.3.0"
    assert found.metadata == {
        **expected,
        "inputs": [{"name": "picture", **expected["inputs"]["picture"]}],
        "outputs": [{"name": "scores", **expected["outputs"]["scores"]}],
    }
    assert (
        found.details["min_runtime_version"] == inspect_tflite(written(tmp_path, model)).details["min_runtime_version"]
    )


def test_the_same_again_gives_the_same_bytes_and_other_metadata_takes_its_place(model: bytes) -> None:
    once = embed(model, METADATA, SIGNATURE)
    assert embed(once, METADATA, SIGNATURE) == once
    assert embed(once, Metadata(name="other"), SIGNATURE) == embed(model, Metadata(name="other"), SIGNATURE)


def test_the_model_keeps_its_bytes_and_their_alignment(model: bytes) -> None:
    data = embed(model, METADATA, SIGNATURE)
    at = data.index(model[8:])
    assert (at - 8) % 64 == 0
    assert model[8:] == data[at : at + len(model) - 8]


def test_labels_are_an_ordinary_archive_without_a_date(model: bytes) -> None:
    with zipfile.ZipFile(BytesIO(embed(model, METADATA, SIGNATURE))) as archive:
        assert archive.read("labels.txt").decode() == "cat\ndög\n"
        assert archive.getinfo("labels.txt").date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("content", "more"),
    [("audio", {"sample_rate": 16000}), ("feature", {}), ("image", {"color_space": "rgb"}), ("image", {})],
)
def test_every_kind_of_content(model: bytes, tmp_path: Path, content: str, more: dict) -> None:
    metadata = Metadata.from_json({"inputs": {"picture": {"content": content, **more}}})
    (found,) = inspect_tflite(written(tmp_path, embed(model, metadata, SIGNATURE))).metadata["inputs"]
    assert found == {"name": "picture", "content": content, **more}


def test_class_numbers_may_have_any_number_of_labels(tmp_path: Path) -> None:
    numbers = Signature(SIGNATURE.inputs, (TensorSpec("scores", (1,), "int64"),))
    model = ModelPlan(tensors=[*ModelPlan().tensors[:2], TensorPlan("y", (1,), dtype=4)]).build()
    metadata = Metadata.from_json({"labels": ["a", "b", "c"]}, numbers)
    assert inspect_tflite(written(tmp_path, embed(model, metadata, numbers))).metadata["labels"] == ["a", "b", "c"]


def test_what_does_not_fit_is_refused(model: bytes) -> None:
    with pytest.raises(MetadataError, match="as many labels"):
        embed(model, Metadata(labels=("a", "b", "c")), SIGNATURE)
    with pytest.raises(WorkerError, match=r"expected a \.tflite file"):
        embed(b"PK\x03\x04" + model, METADATA, SIGNATURE)
    two = Signature(SIGNATURE.inputs * 2, SIGNATURE.outputs)
    with pytest.raises(WorkerError, match="expected 2 inputs"):
        embed(ModelPlan().build(), METADATA, two)


@pytest.mark.light
@pytest.mark.parametrize(
    "name", ["hello_world_float.tflite", "hello_world_int8.tflite", "micro_speech_quantized.tflite"]
)
def test_real_models_give_the_same_outputs_with_metadata(name: str, shared_model, tmp_path: Path) -> None:
    litert = pytest.importorskip("registry.conversion.worker.litert", reason="needs the extra light")
    source = shared_model(name)
    plain = litert.LiteRtModel(source)
    metadata = Metadata(name=name, labels=tuple(map(str, range(plain.signature.outputs[0].shape[-1]))))
    path = written(tmp_path, embed(source.read_bytes(), metadata, plain.signature))
    described = litert.LiteRtModel(path)
    assert described.signature == plain.signature
    chance = np.random.default_rng(0)
    inputs = {spec.name: chance.integers(0, 100, spec.shape).astype(spec.dtype) for spec in plain.signature.inputs}
    for output, expected in plain.infer(inputs).items():
        np.testing.assert_array_equal(described.infer(inputs)[output], expected)
    assert inspect_source(path, name).metadata["name"] == name


READ = """
import json, sys
from tflite_support import metadata
shown = metadata.MetadataDisplayer.with_model_file(sys.argv[1])
files = {name: shown.get_associated_file_buffer(name).decode() for name in shown.get_packed_associated_file_list()}
print(json.dumps({"metadata": json.loads(shown.get_metadata_json()), "files": files}))
"""


@pytest.mark.skipif(
    not STOCK_READER, reason="AEROGRAM_TFLITE_SUPPORT_PYTHON names no Python that has tflite-support 0.4.4"
)
def test_tensorflows_own_tool_reads_it(model: bytes, tmp_path: Path) -> None:
    path = written(tmp_path, embed(model, METADATA, SIGNATURE))
    done = subprocess.run([STOCK_READER, "-c", READ, path], capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)
    assert found["files"] == {"labels.txt": "cat\ndög\n"}
    (graph,) = found["metadata"]["subgraph_metadata"]
    (picture,), (scores,) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert picture["content"]["content_properties"] == {"color_space": "GRAYSCALE"}
    assert picture["process_units"][0]["options"] == {"mean": [127.5], "std": [64.0]}
    assert scores["associated_files"] == [{"name": "labels.txt", "type": "TENSOR_AXIS_LABELS"}]
    assert (found["metadata"]["name"], found["metadata"]["author"]) == ("Cats", "A. Nyström")
