from pathlib import Path

import pytest

from registry.inspection import InspectionError, SourceInspection, TensorInfo, inspect_source
from tests.registry.inspection.builders import message, onnx_model, onnx_node, onnx_tensor, onnx_value


def inspected(folder: Path, data: bytes) -> SourceInspection:
    path = folder / "upload"
    path.write_bytes(data)
    return inspect_source(path, "model.onnx")


def test_a_model_is_read_as_data(tmp_path: Path) -> None:
    found = inspected(tmp_path, onnx_model(fields=[(6, "doc"), (14, message((1, "mean"), (2, "0.5")))]))
    assert (found.format, found.parameters, found.min_runtime_version) == ("onnx", 4, "opset 18")
    assert found.inputs == (TensorInfo("x", (None, 2), "float32"),)
    assert [(one.name, one.version, one.count) for one in found.operators] == [("MatMul", "18", 1), ("Relu", "18", 1)]
    assert found.details["opsets"] == {"": 18}
    assert found.details["initialisers"] == 1
    assert found.metadata == {"name": "g", "description": "doc", "user_defined": {"mean": "0.5"}}


def test_an_input_with_a_value_is_a_weight(tmp_path: Path) -> None:
    model = onnx_model(graph_fields=[(11, onnx_value("w", (2, 2)))])
    assert [one.name for one in inspected(tmp_path, model).inputs] == ["x"]


def test_functions_of_the_file_are_no_custom_operators(tmp_path: Path) -> None:
    function = message((1, "Twice"), (7, onnx_node("Add", ["a", "a"], ["b"])), (10, "own"))
    node = onnx_node("Twice", ["x"], ["y"], (7, "own"))
    model = onnx_model([node], opsets=[("", 18), ("own", 1)], fields=[(25, function)])
    assert inspected(tmp_path, model).details["functions"] == ["own.Twice"]


DEEP = onnx_node("Relu", ["x"], ["y"])
for _ in range(40):
    DEEP = onnx_node("If", ["x"], ["y"], (5, message((6, message((1, DEEP))))))


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (b"\xff\xff\xff", "damaged_protobuf"),
        (message((1, 9)), "not_onnx"),
        (onnx_model(opsets=[]), "not_onnx"),
        (onnx_model(ir_version=99), "onnx_version"),
        (onnx_model(fields=[(20, message((1, message())))]), "onnx_training"),
        (onnx_model(opsets=[("", 18), ("com.evil", 1)]), "custom_domain"),
        (onnx_model([onnx_node("Relu", ["x"], ["y"], (7, "com.evil"))]), "custom_domain"),
        (onnx_model(tensor=onnx_tensor(fields=[(14, 1)])), "external_data"),
        (onnx_model(tensor=onnx_tensor(fields=[(13, message((1, "location"), (2, "/etc/passwd")))])), "external_data"),
        (
            onnx_model([onnx_node("Constant", [], ["y"], (5, message((5, onnx_tensor(fields=[(14, 1)])))))]),
            "external_data",
        ),
        (onnx_model(tensor=onnx_tensor(raw=b"1234")), "damaged_onnx"),
        (onnx_model([DEEP]), "damaged_onnx"),
        (onnx_model([onnx_node("", ["x"], ["y"])]), "damaged_onnx"),
        (onnx_model(graph_fields=[(11, onnx_value("z", dtype=99))]), "tensor_type"),
        (onnx_model(graph_fields=[(11, onnx_value("z", (-5,)))]), "bad_shape"),
    ],
)
def test_what_is_no_model_of_its_own_is_refused(tmp_path: Path, model: bytes, code: str) -> None:
    with pytest.raises(InspectionError) as caught:
        inspected(tmp_path, model)
    assert caught.value.code == code
