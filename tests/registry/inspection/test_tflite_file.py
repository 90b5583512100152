from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import tflite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.inspection import InspectionError, inspect_source
from tests.registry.inspection.builders import ModelPlan, TensorPlan

INT8 = tflite.TensorType.INT8
SIGNATURE = ("serving_default", {"image": 0}, {"probabilities": 2}, 0)
CUSTOM, READ_VARIABLE, CONV_2D, FULLY_CONNECTED = 32, 143, 3, 9


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path


def inspected(folder: Path, plan: ModelPlan):
    return inspect_source(written(folder, plan.build()), "model.tflite")


def test_inputs_outputs_and_operators_are_read(tmp_path: Path) -> None:
    found = inspected(tmp_path, ModelPlan(metadata_buffer=0))
    assert (found.format, found.inputs[0].name, found.outputs[0].name) == ("tflite", "x", "y")
    assert (found.inputs[0].shape, found.inputs[0].dtype) == ((1, 2), "float32")
    assert found.details["operators"] == {"FULLY_CONNECTED": 1}
    assert found.details["precision"] == "float32"
    assert found.size_bytes == (tmp_path / "model.tflite").stat().st_size


def test_a_signature_gives_the_names(tmp_path: Path) -> None:
    found = inspected(tmp_path, ModelPlan(signature=SIGNATURE))
    assert (found.inputs[0].name, found.outputs[0].name) == ("image", "probabilities")
    assert found.details["signatures"] == ["serving_default"]


def test_quantisation_is_read(tmp_path: Path) -> None:
    plan = ModelPlan()
    plan.tensors[0] = TensorPlan("x", dtype=INT8, scales=(0.5,))
    found = inspected(tmp_path, plan)
    assert (found.inputs[0].dtype, found.inputs[0].scale, found.inputs[0].zero_point) == ("int8", 0.5, 0)
    assert found.details["precision"] == "quantised"


def test_the_wide_operator_number_counts_even_below_127(tmp_path: Path) -> None:
    """The tflite package's own reader takes this CONV_2D for an ADD."""
    assert inspected(tmp_path, ModelPlan(operator_codes=[(0, CONV_2D)])).details["operators"] == {"CONV_2D": 1}


def test_an_axis_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    plan = ModelPlan()
    plan.tensors[1] = TensorPlan("w", (2, 2), buffer=1, scales=(0.5, 0.5), axis=3)
    (warning,) = inspected(tmp_path, plan).details["warnings"]
    assert "axis 3 of 'w', whose rank is 2" in warning


def replaced(**members) -> ModelPlan:
    return ModelPlan(**members)


def with_tensor(index: int, tensor: TensorPlan) -> ModelPlan:
    plan = ModelPlan()
    plan.tensors[index] = tensor
    return plan


BROKEN = {
    "version": (replaced(version=2), "tflite_version"),
    "identifier": (replaced(identifier=b"ONNX"), "not_tflite"),
    "custom operator": (replaced(operator_codes=[(CUSTOM, CUSTOM)], custom_code="FlexWriteFile"), "custom_operator"),
    "custom operator in the wide field only": (replaced(operator_codes=[(0, CUSTOM)]), "custom_operator"),
    "empty conversion": (replaced(operator_codes=[(127, READ_VARIABLE)]), "refused_operator"),
    "unknown operator": (replaced(operator_codes=[(127, 9999)]), "refused_operator"),
    "operator number": (replaced(operators=[(7, [0, 1], [2])]), "damaged_tflite"),
    "operand": (replaced(operators=[(0, [0, 99], [2])]), "damaged_tflite"),
    "negative operand": (replaced(operators=[(0, [0, -7], [2])]), "damaged_tflite"),
    "result": (replaced(operators=[(0, [0, 1], [99])]), "damaged_tflite"),
    "result over a constant": (replaced(operators=[(0, [0, 1], [1])]), "damaged_tflite"),
    "written twice": (replaced(operators=[(0, [0, 1], [2]), (0, [0, 1], [2])]), "damaged_tflite"),
    "read before written": (replaced(operators=[(0, [2, 1], [2])]), "damaged_tflite"),
    "output never written": (replaced(operators=[]), "damaged_tflite"),
    "graph input": (replaced(inputs=(9,)), "damaged_tflite"),
    "graph output": (replaced(outputs=(9,)), "damaged_tflite"),
    "no inputs": (replaced(inputs=(), operators=[(0, [1, 1], [2])]), "no_inputs_or_outputs"),
    "buffer number": (with_tensor(1, TensorPlan("w", (2, 2), buffer=9)), "damaged_tflite"),
    "constant size": (with_tensor(1, TensorPlan("w", (2, 3), buffer=1)), "damaged_tflite"),
    "negative size": (with_tensor(1, TensorPlan("w", (-2, 2), buffer=1)), "damaged_tflite"),
    "text input": (with_tensor(0, TensorPlan("x", dtype=tflite.TensorType.STRING)), "tensor_type"),
    "external weights": (replaced(external_buffer=True), "external_buffer"),
    "signature's subgraph": (replaced(signature=("s", {"x": 0}, {"y": 2}, 5)), "damaged_tflite"),
    "signature's tensor": (replaced(signature=("s", {"x": 77}, {"y": 2}, 0)), "damaged_tflite"),
    "metadata": (replaced(metadata_buffer=12), "damaged_tflite"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_crashes_an_interpreter_is_refused(tmp_path: Path, name: str) -> None:
    plan, code = BROKEN[name]
    with pytest.raises(InspectionError) as caught:
        inspected(tmp_path, plan)
    assert caught.value.code == code
    assert str(caught.value) == f"expected {caught.value.expected}; got {caught.value.got}"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_of_any_kind_ends_in_an_inspection_error_or_in_a_reading(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(ModelPlan(signature=SIGNATURE, metadata_buffer=0).build())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(8, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(12, len(whole)))
    with suppress(InspectionError):
        inspect_source(written(tmp_path, bytes(whole[:cut])), "model.tflite")


CONVOLUTIONS = {"AVERAGE_POOL_2D": (2, 1), "CONV_2D": (2, 14), "DEPTHWISE_CONV_2D": (3, 14)}


def dense(version: int) -> dict[str, tuple[int, int]]:
    return {"FULLY_CONNECTED": (version, 3)}


SPEECH = {"DEPTHWISE_CONV_2D": (3, 1), "FULLY_CONNECTED": (4, 1), "RESHAPE": (1, 1), "SOFTMAX": (2, 1)}


@pytest.mark.parametrize(
    ("name", "inputs", "precision", "parameters", "operators", "runtime"),
    [
        (
            "hello_world_float",
            ("dense_input", (None, 1), "float32"),
            "float32",
            321,
            {"FULLY_CONNECTED": (1, 3)},
            "1.5.0",
        ),
        (
            "hello_world_int8",
            ("dense_input", (None, 1), "int8"),
            "quantised",
            321,
            {"FULLY_CONNECTED": (4, 3)},
            "1.14.0",
        ),
        ("micro_speech_quantized", ("Reshape_1", (1, 1960), "int8"), "quantised", 16652, SPEECH, "1.5.0"),
        (
            "person_detect",
            ("input", (1, 96, 96, 1), "int8"),
            "quantised",
            210706,
            {**CONVOLUTIONS, "RESHAPE": (1, 1), "SOFTMAX": (2, 1)},
            "",
        ),
    ],
)
def test_models_nobody_here_made_are_read(
    shared_model: Callable[[str], Path],
    name: str,
    inputs: tuple,
    precision: str,
    parameters: int,
    operators: dict[str, tuple[int, int]],
    runtime: str,
) -> None:
    found = inspect_source(shared_model(f"{name}.tflite"), f"{name}.tflite")
    assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in found.inputs] == [inputs]
    assert (found.details["precision"], found.parameters, found.min_runtime_version) == (precision, parameters, runtime)
    assert {one.name: (int(one.version), one.count) for one in found.operators} == operators


def test_a_model_of_custom_operators_is_refused_by_name(shared_model: Callable[[str], Path]) -> None:
    with pytest.raises(InspectionError, match="SignalWindow"):
        inspect_source(shared_model("audio_preprocessor_int8.tflite"), "audio_preprocessor_int8.tflite")
