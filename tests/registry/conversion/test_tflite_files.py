"""What is done to the bytes of a `.tflite`, on the digits network's own."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert (extra `light`)")

from ai_edge_litert import schema_py_generated as schema

from registry.conversion.recipes import RECIPES
from registry.conversion.worker.clustering import cluster_weights
from registry.conversion.worker.job import WorkerError
from registry.conversion.worker.litert import LiteRtModel
from registry.conversion.worker.steps.tflite import distinct_notes, sparsity_notes
from registry.conversion.worker.tflite_border import with_uint8_border
from registry.conversion.worker.tflite_packing import DATA_ALIGNMENT, packed, self_contained, unpacked
from registry.conversion.worker.tflite_weights import weights_of
from registry.inspection.errors import InspectionError
from registry.inspection.tflite_file import inspect_tflite
from tests.registry.conversion.conftest import Traced

pytestmark = [pytest.mark.convert, pytest.mark.light]


@pytest.fixture
def model(traced: Traced) -> bytes:
    return (traced.directory / "float32.tflite").read_bytes()


def outputs(data: bytes, path: Path, image: np.ndarray) -> np.ndarray:
    path.write_bytes(data)
    return LiteRtModel(path).infer({"image": image})["probabilities"]


def with_buffers_behind(model: bytes) -> bytes:
    """The file as ai-edge-quantizer writes larger ones: the largest buffer lies behind the flatbuffer."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    largest = max(parsed.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    data = bytes(largest.data)
    largest.data, largest.offset, largest.size = None, 2, len(data)
    start = -(-len(packed(parsed)) // DATA_ALIGNMENT) * DATA_ALIGNMENT
    largest.offset = start
    return packed(parsed).ljust(start, b"\0") + data


def test_buffers_behind_the_flatbuffer_are_brought_inside(model: bytes, tmp_path: Path) -> None:
    behind = with_buffers_behind(model)
    (tmp_path / "behind.tflite").write_bytes(behind)
    with pytest.raises(InspectionError, match="buffer"):
        inspect_tflite(tmp_path / "behind.tflite")
    inside = self_contained(behind)
    image = np.random.default_rng(5).uniform(0, 1, (1, 32, 32, 1)).astype(np.float32)
    assert (outputs(inside, tmp_path / "a", image) == outputs(model, tmp_path / "b", image)).all()
    inspect_tflite(tmp_path / "a")


def test_a_file_with_nothing_behind_it_stays_as_it_is(model: bytes) -> None:
    assert self_contained(model) is model


def test_buffers_are_written_where_kernels_may_read_them(model: bytes) -> None:
    written = packed(unpacked(model))
    positions = [written.find(weights.values.tobytes()) for weights in weights_of(written)]
    assert positions
    assert all(position > 0 and position % DATA_ALIGNMENT == 0 for position in positions)


def test_clustering_changes_weights_and_not_one_byte_else(model: bytes) -> None:
    clustered = cluster_weights(model, 16)
    assert len(clustered) == len(model)
    restored = bytearray(clustered)
    for before, after in zip(weights_of(model), weights_of(restored), strict=True):
        assert (before.values != after.values).any()
        after.values[...] = before.values
    assert bytes(restored) == model


def test_a_file_without_clusters_or_zeros_is_refused(model: bytes) -> None:
    with pytest.raises(WorkerError, match="at most 16 distinct values") as caught:
        distinct_notes(model, RECIPES["tflite-cluster-16"])
    assert caught.value.code == "not_clustered"
    with pytest.raises(WorkerError, match=r"expected weights of which 80% are zero; got 0\.\d %") as caught:
        sparsity_notes(model, RECIPES["tflite-prune-80"])
    assert caught.value.code == "not_pruned"


def test_more_clusters_than_were_made_are_too_many(model: bytes) -> None:
    clustered = cluster_weights(model, 16)
    assert distinct_notes(clustered, RECIPES["tflite-cluster-16"])
    fewer = dataclasses.replace(RECIPES["tflite-cluster-16"], parameters={"clusters": 15})
    with pytest.raises(WorkerError, match="got 16 in"):
        distinct_notes(clustered, fewer)


def test_a_float_file_has_no_border_to_make_unsigned(model: bytes) -> None:
    with pytest.raises(WorkerError) as caught:
        with_uint8_border(model)
    assert caught.value.code == "no_int8_border"
