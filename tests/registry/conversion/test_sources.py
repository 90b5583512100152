"""Sources of every kind: each is converted, or ends in a report that says what is wrong with it and what to change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.conversion.report import Report
from registry.conversion.runner import run_recipe, run_trace
from registry.conversion.worker.refusals import coreml_refusal, first_sentence, keras_refusal, tflite_refusal
from registry.inspection.saved_model import inspect_saved_model
from tests.hostile.mutants import sound
from tests.registry.conversion.conftest import no_heartbeat


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    program = Path(__file__).with_name("make_sources.py")
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, program, folder], capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def trace(source: Path, output: Path, signature: str = "") -> Report:
    report = run_trace(
        source=source,
        source_format="keras" if source.suffix == ".keras" else "saved_model",
        source_signature=signature,
        evaluation_set=None,
        output=output,
        on_heartbeat=no_heartbeat,
    )
    if report.error and report.error.code == "no_isolation":
        pytest.skip(report.error.detail)
    return report


@pytest.mark.parametrize(
    ("name", "signature", "inputs", "outputs"),
    [
        ("two_headed.keras", "", {"image": (1, 8, 8, 1), "speed": (1, 2)}, {"turn": (1, 3), "brake": (1, 1)}),
        ("lstm.keras", "", {"sequence": (1, 12, 4)}, {"scores": (1, 3)}),
        ("gru.keras", "", {"sequence": (1, 12, 4)}, {"scores": (1, 3)}),
        ("two_signatures", "embed", {"features": (1, 4)}, {"embedding": (1, 3)}),
        ("classify", "", {"features": (1, 4)}, {"scores": (1, 3)}),
    ],
)
@pytest.mark.convert
@pytest.mark.light
def test_sources_of_many_kinds_are_converted(
    sources: Path, tmp_path: Path, name: str, signature: str, inputs: dict, outputs: dict
) -> None:
    traced = trace(sources / name, tmp_path / "trace", signature)
    assert traced.state == "succeeded", (traced.error, traced.log_tail)
    assert {tensor.name: tensor.shape for tensor in traced.signature.inputs} == inputs
    assert {tensor.name: tensor.shape for tensor in traced.signature.outputs} == outputs
    for note in traced.notes:
        assert "TensorListReserve" in note
        assert "recurrent" in note
    built = run_recipe(
        recipe="tflite-dynamic-int8",
        trace=tmp_path / "trace",
        evaluation_set=None,
        output=tmp_path / "variant",
        on_heartbeat=no_heartbeat,
    )
    assert built.state == "succeeded", (built.error, built.log_tail)


@pytest.mark.parametrize(
    ("name", "signature", "code", "named"),
    [
        ("any_size.keras", "", "unknown_shape", ("'photo'", "(any, any, any, 3)", "save the model again")),
        ("two_signatures", "", "no_signature", ("classify", "embed", "source_signature")),
        ("products", "", "tflite_conversion", ("Cumprod", "replace")),
    ],
)
@pytest.mark.convert
@pytest.mark.light
def test_what_cannot_be_converted_is_told_by_name_and_with_what_to_change(
    sources: Path, tmp_path: Path, name: str, signature: str, code: str, named: tuple[str, ...]
) -> None:
    report = trace(sources / name, tmp_path, signature)
    assert (report.state, report.error.code) == ("failed", code), (report.error, report.log_tail)
    for word in named:
        assert word in report.error.detail
    assert "\n" not in report.error.detail
    assert "Traceback" not in report.error.detail


@pytest.mark.convert
def test_a_saved_model_that_only_inspection_takes_is_refused_by_name(tmp_path: Path) -> None:
    """Its operations lack the attributes that TensorFlow asks for."""
    source = tmp_path / "model.zip"
    source.write_bytes(sound("saved_model"))
    assert inspect_saved_model(source).format == "saved_model"
    report = trace(source, tmp_path / "trace")
    assert (report.state, report.error.code) == ("failed", "saved_model_refused"), (report.error, report.log_tail)
    assert "missing attr" in report.error.detail


MLIR = """Could not translate MLIR to FlatBuffer.<unknown>:0: error: loc(fused["Cumprod:", "net/tail/Cumprod@__f"]): x
<unknown>:0: error: failed while converting: 'main':
TF Select ops: Cumprod, Lgamma
Details:
\ttf.Cumprod(tensor<1x3xf32>, tensor<i32>) -> (tensor<1x3xf32>) : {device = ""}
"""


def test_of_a_page_of_the_compilers_notes_the_operations_and_their_layers_remain() -> None:
    told = tflite_refusal(RuntimeError(MLIR))
    assert told.startswith("expected operations that LiteRT has; got Cumprod, Lgamma (at net/tail/Cumprod)")
    told = tflite_refusal(RuntimeError("x\nerror: 'tf.TensorListReserve' op requires element_shape to be static\n  y"))
    assert told.endswith("got TensorListReserve, which requires element_shape to be static")
    assert tflite_refusal(RuntimeError("\n\n one  thing \nmore")).endswith("got one thing")


def test_core_mls_refusal_names_the_operation_also_where_its_converter_does_not() -> None:
    named = coreml_refusal(NotImplementedError("Conversion for TF op 'Cumprod' not implemented.\n \nname: ..."), ())
    assert named.endswith("got Cumprod")
    assert "While" in coreml_refusal(IndexError("list index out of range"), {"While", "MatMul"})
    assert "IndexError: list index" in coreml_refusal(IndexError("list index out of range"), {"MatMul"})


def test_keras_refusal_names_the_layer_on_one_line() -> None:
    error = ValueError("A total of 1 objects could not be loaded for object <Dense name=scores, built=True>:\n\nno 'x'")
    assert keras_refusal(error).endswith("look at layer 'scores' (Dense)")
    assert "\n" not in keras_refusal(error)


def test_an_exception_without_words_is_told_by_its_kind() -> None:
    assert first_sentence(" \n ") == ""
    assert tflite_refusal(KeyError()).endswith("got KeyError")
