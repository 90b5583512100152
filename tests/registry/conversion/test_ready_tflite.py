"""Ready `.tflite` files: published as they are, and quantised further where they still are float32."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from registry.conversion.report import Report
from registry.conversion.runner import run_recipe, run_trace
from tests.registry.conversion.conftest import Traced, no_heartbeat

pytestmark = pytest.mark.light


def adopted(source: Path, output: Path, evaluation_set: Path | None = None) -> Report:
    return run_trace(
        source=source,
        source_format="tflite",
        evaluation_set=evaluation_set,
        output=output,
        on_heartbeat=no_heartbeat,
    )


def built(recipe: str, trace: Path, output: Path, evaluation_set: Path | None = None) -> Report:
    return run_recipe(
        recipe=recipe, trace=trace, evaluation_set=evaluation_set, output=output, on_heartbeat=no_heartbeat
    )


def sine(folder: Path, dtype: type = np.float32) -> Path:
    """hello_world computes sin(x) for x in 0..2 pi."""
    path = folder / "sine.npz"
    np.savez(path, dense_input=np.linspace(0, 6.28, 200, dtype=dtype).reshape(-1, 1))
    return path


def test_a_float_file_is_published_unchanged_and_quantised_further(
    shared_model: Callable[[str], Path], tmp_path: Path
) -> None:
    source, samples = shared_model("hello_world_float.tflite"), sine(tmp_path)
    trace = adopted(source, tmp_path / "trace", samples)
    assert trace.state == "succeeded", (trace.error, trace.log_tail)
    as_is = built("tflite-as-is", tmp_path / "trace", tmp_path / "as_is", samples)
    assert (as_is.state, as_is.parity.max_abs_error, as_is.parity.samples) == ("succeeded", 0.0, 200)
    assert (tmp_path / "as_is" / "model.tflite").read_bytes() == source.read_bytes()
    for recipe in ("tflite-float16", "tflite-dynamic-int8", "tflite-full-int8"):
        report = built(recipe, tmp_path / "trace", tmp_path / recipe, samples)
        assert report.state == "succeeded", (recipe, report.error, report.log_tail)
        assert report.parity.top1_agreement is None


def test_the_reference_of_a_ready_file_is_what_it_computes(shared_model: Callable[[str], Path], tmp_path: Path) -> None:
    samples = sine(tmp_path)
    adopted(shared_model("hello_world_float.tflite"), tmp_path / "trace", samples)
    with np.load(tmp_path / "trace" / "reference.npz") as archive:
        (name,) = [name for name in archive.files if name.startswith("evaluation/")]
        outputs = archive[name].ravel()
    assert np.abs(outputs - np.sin(np.linspace(0, 6.28, 200))).max() < 0.15


def test_an_int8_file_takes_real_samples_and_gives_real_outputs(
    shared_model: Callable[[str], Path], tmp_path: Path
) -> None:
    samples = sine(tmp_path)
    trace = adopted(shared_model("hello_world_int8.tflite"), tmp_path / "trace", samples)
    assert trace.signature.inputs[0].dtype == "int8"
    with np.load(tmp_path / "trace" / "reference.npz") as archive:
        outputs = archive["evaluation/dense_2"].ravel()
    assert outputs.dtype == np.float32
    assert np.abs(outputs - np.sin(np.linspace(0, 6.28, 200))).max() < 0.2
    assert built("tflite-as-is", tmp_path / "trace", tmp_path / "as_is", samples).state == "succeeded"
    further = built("tflite-dynamic-int8", tmp_path / "trace", tmp_path / "int8", samples)
    assert (further.state, further.error.detail) == (
        "not_applicable",
        "expected a source of float32 weights; got quantised",
    )


def test_a_file_without_a_signature_is_published_under_its_tensors_names(
    shared_model: Callable[[str], Path], tmp_path: Path
) -> None:
    trace = adopted(shared_model("micro_speech_quantized.tflite"), tmp_path / "trace")
    assert trace.state == "succeeded", (trace.error, trace.log_tail)
    assert [tensor.name for tensor in trace.signature.outputs] == ["labels_softmax"]
    report = built("tflite-as-is", tmp_path / "trace", tmp_path / "as_is")
    assert (report.state, report.parity.top1_agreement) == ("succeeded", 1.0)


def test_a_file_that_litert_refuses_for_its_axes_is_repaired(
    shared_model: Callable[[str], Path], tmp_path: Path
) -> None:
    source = shared_model("person_detect.tflite")
    assert adopted(source, tmp_path / "trace").state == "succeeded"
    report = built("tflite-repaired", tmp_path / "trace", tmp_path / "repaired")
    assert report.state == "succeeded", report.error
    before, after = source.read_bytes(), (tmp_path / "repaired" / report.entry).read_bytes()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [(3, 0)] * 14


def test_a_file_of_custom_operators_fails_with_their_name(shared_model: Callable[[str], Path], tmp_path: Path) -> None:
    report = adopted(shared_model("audio_preprocessor_int8.tflite"), tmp_path / "trace")
    assert (report.state, report.error.code) == ("failed", "custom_operator")
    assert "SignalWindow" in report.error.detail


def test_a_damaged_file_fails(tmp_path: Path) -> None:
    source = tmp_path / "damaged.tflite"
    source.write_bytes(b"\x1c\0\0\0TFL3" + b"\xff" * 64)
    report = adopted(source, tmp_path / "trace")
    assert (report.state, report.error.code) == ("failed", "damaged_tflite")


@pytest.mark.convert
def test_full_int8_of_a_file_without_a_signature_fails_with_the_reason(traced: Traced, tmp_path: Path) -> None:
    source = tmp_path / "bare.tflite"
    source.write_bytes(without_signature((traced.directory / "float32.tflite").read_bytes()))
    trace = adopted(source, tmp_path / "trace")
    assert trace.state == "succeeded", (trace.error, trace.log_tail)
    samples = tmp_path / "samples.npz"
    with np.load(traced.evaluation_set) as archive:
        np.savez(samples, inputs=archive["image"][:20], labels=archive["labels"][:20])
    report = built("tflite-full-int8", tmp_path / "trace", tmp_path / "int8", samples)
    assert (report.state, report.error.code) == ("failed", "no_signature")
    assert built("tflite-float16", tmp_path / "trace", tmp_path / "fp16", samples).state == "succeeded"


def without_signature(data: bytes) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    model.signatureDefs = []
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
