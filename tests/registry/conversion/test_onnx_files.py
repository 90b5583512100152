from pathlib import Path

import numpy as np
import pytest

from registry.conversion import extras
from registry.conversion.worker.job import WorkerError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from registry.conversion.worker.onnx_files import canonical, read_model, write_model  # noqa: E402
from registry.conversion.worker.onnx_model import OnnxModel  # noqa: E402

VECTOR = [1, 4]


def network(first: str = "fold__7", second: str = "fold__9", *, turned: bool = False, domain: str = ""):
    """y = (x + 1) * 2; the same whatever its constants are called and in whichever order they come."""
    constants = [
        numpy_helper.from_array(np.full(4, number, np.float32), name) for number, name in ((1, first), (2, second))
    ]
    nodes = [
        helper.make_node("Add", ["x", first], ["sum__3"], domain=domain),
        helper.make_node("Mul", ["sum__3", second], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "anything",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, VECTOR)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, VECTOR)],
        constants[::-1] if turned else constants,
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def saved(model, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_what_a_converter_numbers_by_chance_is_numbered_by_need(tmp_path: Path) -> None:
    files = [tmp_path / "first.onnx", tmp_path / "second.onnx"]
    write_model(canonical(network("fold__7", "fold__9")), files[0])
    write_model(canonical(network("fold__9", "fold__7", turned=True)), files[1])
    assert files[0].read_bytes() == files[1].read_bytes()
    x = np.arange(4, dtype=np.float32)
    assert OnnxModel(files[0]).infer({"x": x})["y"].ravel().tolist() == ((x + 1) * 2).tolist()


def test_weights_outside_the_file_are_refused(tmp_path: Path) -> None:
    model = network()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/hostname")
    with pytest.raises(WorkerError, match=r"inside the file; got fold__7") as refused:
        read_model(saved(model, tmp_path / "m.onnx"))
    assert refused.value.code == "external_data"


def test_operations_of_other_domains_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"com\.example\.Add") as refused:
        read_model(saved(network(domain="com.example"), tmp_path / "m.onnx"))
    assert refused.value.code == "custom_operator"


def test_what_onnx_itself_finds_wrong_is_refused(tmp_path: Path) -> None:
    model = network()
    model.graph.node[0].input[1] = "nowhere"
    with pytest.raises(WorkerError) as refused:
        read_model(saved(model, tmp_path / "m.onnx"))
    assert refused.value.code == "damaged_onnx"


def test_a_family_whose_extra_is_absent_is_named_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "tf2onnx" else object())
    assert extras.missing_extras() == {"onnx": "needs the extra `onnx`, which is not installed (no tf2onnx)"}
