"""Conversions for real: the digits network through every recipe."""

import base64
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from registry.conversion.plan import FOR_READY_FILES
from registry.conversion.recipes import RECIPES
from registry.conversion.report import Report
from registry.conversion.runner import run_recipe, run_trace
from tests.registry.conversion.conftest import Digits, Traced, no_heartbeat

pytestmark = [pytest.mark.convert, pytest.mark.light]

OF_KERAS = [slug for slug, recipe in RECIPES.items() if slug not in FOR_READY_FILES and not recipe.on_request]
Variant = Callable[[str], tuple[Report, Path]]


def files_of(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def size_of(report: Report) -> int:
    return report.size_bytes


def test_the_trace_reports_the_source(traced: Traced, digits: Digits) -> None:
    report = traced.report
    assert digits.accuracy >= 0.96
    assert report.accuracy.value == pytest.approx(digits.accuracy, abs=1e-9)
    assert report.accuracy.interval_low < digits.accuracy < report.accuracy.interval_high
    (image,), (probabilities,) = report.signature.inputs, report.signature.outputs
    assert (image.name, image.shape, image.dtype) == ("image", (1, 32, 32, 1), "float32")
    assert (probabilities.name, probabilities.shape) == ("probabilities", (1, 10))
    assert {"keras", "coremltools", "python"} <= set(report.converter_versions)
    assert {file.role for file in report.files} == {"trace"}
    assert report.notes == ()


@pytest.mark.parametrize("recipe", OF_KERAS)
def test_every_recipe_makes_a_variant_that_agrees_with_its_source(variant: Variant, recipe: str) -> None:
    report, output = variant(recipe)
    assert report.state == "succeeded", (report.error, report.log_tail)
    assert report.entry == RECIPES[recipe].entry
    assert (output / report.entry).exists()
    assert report.parity.samples == 450
    assert report.signature.inputs[0].name == "image"
    assert report.signature.outputs[0].name == "probabilities"
    assert report.min_runtime_version == RECIPES[recipe].min_runtime_version
    for file in report.files:
        assert (output / file.path).stat().st_size == file.size_bytes


def test_float32_is_as_accurate_as_keras(variant: Variant, digits: Digits) -> None:
    accuracy = variant("tflite-float32")[0].accuracy
    assert accuracy.value >= 0.96
    assert abs(accuracy.value - digits.accuracy) <= 0.001
    assert accuracy.source_value == pytest.approx(digits.accuracy)


@pytest.mark.parametrize(
    ("recipe", "loss"), [("tflite-float16", 0.005), ("tflite-dynamic-int8", 0.02), ("tflite-full-int8", 0.02)]
)
def test_quantised_variants_stay_accurate(variant: Variant, digits: Digits, recipe: str, loss: float) -> None:
    assert abs(variant(recipe)[0].accuracy.value - digits.accuracy) <= loss


def test_sizes_shrink_as_the_recipes_promise(variant: Variant) -> None:
    float32 = size_of(variant("tflite-float32")[0])
    for slug in ("tflite-float16", "tflite-dynamic-int8", "tflite-full-int8"):
        assert size_of(variant(slug)[0]) <= (RECIPES[slug].expected_size_ratio + 0.01) * float32


def test_full_int8_takes_and_gives_integers_and_says_how_to_read_them(variant: Variant) -> None:
    report, _ = variant("tflite-full-int8")
    assert size_of(report) <= 0.35 * size_of(variant("tflite-float32")[0])
    for tensor in (*report.signature.inputs, *report.signature.outputs):
        assert tensor.dtype == "int8"
        assert tensor.quantization.scale > 0


def test_latency_is_labelled_as_the_hosts(variant: Variant) -> None:
    latency = variant("tflite-float32")[0].latency_host
    assert 0 < latency.p50_us <= latency.p90_us
    assert latency.threads == 1
    assert "relative" in latency.label


def test_core_ml_is_float32_outside_and_says_that_it_was_estimated(variant: Variant, digits: Digits) -> None:
    report, output = variant("coreml-fp16")
    assert {tensor.dtype for tensor in (*report.signature.inputs, *report.signature.outputs)} == {"float32"}
    assert any("estimated on Linux" in note for note in report.notes)
    assert abs(report.accuracy.value - digits.accuracy) <= 0.005
    assert report.latency_host is None
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (output / report.entry).rglob("*") if p.is_file()}
    assert modes == {0o644}


def test_the_light_steps_never_load_tensorflow(variant: Variant) -> None:
    """coremltools imports TensorFlow where it can: 600 MB that this peak has no room for."""
    for recipe in OF_KERAS:
        assert variant(recipe)[0].peak_memory_bytes < 400 * 1024**2


@pytest.mark.parametrize("recipe", OF_KERAS)
def test_sanity_samples_hold_what_a_phone_must_get(variant: Variant, recipe: str) -> None:
    report, output = variant(recipe)
    sanity = json.loads((output / "sanity.json").read_text())
    assert sanity["tolerance"] == "0.02"
    assert len(sanity["samples"]) == 3
    for sample in sanity["samples"]:
        image, probabilities = decoded(sample["inputs"]["image"]), decoded(sample["outputs"]["probabilities"])
        assert (image.shape, image.dtype.name) == ((1, 32, 32, 1), report.signature.inputs[0].dtype)
        assert (probabilities.shape, probabilities.dtype.name) == ((1, 10), "float32")
        assert probabilities.sum() == pytest.approx(1, abs=0.02)


def decoded(tensor: dict[str, object]) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(str(tensor["data"])), str(tensor["dtype"]))
    return data.reshape(tensor["shape"])


def test_the_same_source_gives_the_same_bytes(digits: Digits, traced: Traced, variant: Variant, tmp_path: Path) -> None:
    again = tmp_path / "trace"
    run_trace(
        source=digits.keras,
        source_format="keras",
        evaluation_set=digits.evaluation_set,
        output=again,
        on_heartbeat=no_heartbeat,
    )
    assert files_of(again) == files_of(traced.directory)
    for recipe in OF_KERAS:
        output = tmp_path / recipe
        run_recipe(
            recipe=recipe,
            trace=again,
            evaluation_set=digits.evaluation_set,
            output=output,
            on_heartbeat=no_heartbeat,
        )
        assert files_of(output) == files_of(variant(recipe)[1]), recipe


def test_a_saved_model_is_traced_like_the_keras_file(digits: Digits, traced: Traced, tmp_path: Path) -> None:
    report = run_trace(
        source=digits.saved_model,
        source_format="saved_model",
        evaluation_set=digits.evaluation_set,
        output=tmp_path / "trace",
        on_heartbeat=no_heartbeat,
    )
    if report.error and report.error.code == "no_isolation":
        pytest.skip(report.error.detail)
    assert report.state == "succeeded", (report.error, report.log_tail)
    # The name of the output is the SavedModel's own.
    assert replace(report.accuracy, output="") == replace(traced.report.accuracy, output="")
    assert [tensor.name for tensor in report.signature.inputs] == ["image"]
    for recipe in ("tflite-float32", "tflite-full-int8", "coreml-fp16"):
        built = run_recipe(
            recipe=recipe,
            trace=tmp_path / "trace",
            evaluation_set=digits.evaluation_set,
            output=tmp_path / recipe,
            on_heartbeat=no_heartbeat,
        )
        assert built.state == "succeeded", (recipe, built.error, built.log_tail)


def test_without_an_evaluation_set_the_golden_inputs_are_seeded_noise(digits: Digits, tmp_path: Path) -> None:
    report = run_trace(
        source=digits.keras,
        source_format="keras",
        evaluation_set=None,
        output=tmp_path / "trace",
        on_heartbeat=no_heartbeat,
    )
    assert report.state == "succeeded"
    assert report.accuracy is None
    golden = np.load(tmp_path / "trace" / "golden.npz")["image"]
    assert golden.shape == (8, 32, 32, 1)
    assert 0 <= golden.min() < golden.max() <= 1
    built = run_recipe(
        recipe="tflite-dynamic-int8",
        trace=tmp_path / "trace",
        evaluation_set=None,
        output=tmp_path / "variant",
        on_heartbeat=no_heartbeat,
    )
    assert (built.state, built.accuracy, built.parity.samples) == ("succeeded", None, 8)
    refused = run_recipe(
        recipe="tflite-full-int8",
        trace=tmp_path / "trace",
        evaluation_set=None,
        output=tmp_path / "int8",
        on_heartbeat=no_heartbeat,
    )
    assert (refused.state, refused.error.code) == ("failed", "no_evaluation_set")


def test_an_evaluation_set_of_another_model_is_refused(digits: Digits, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, image=np.zeros((4, 28, 28, 1), np.float32), labels=np.zeros(4, np.int64))
    report = run_trace(
        source=digits.keras,
        source_format="keras",
        evaluation_set=wrong,
        output=tmp_path / "trace",
        on_heartbeat=no_heartbeat,
    )
    assert (report.state, report.error.code) == ("failed", "bad_evaluation_set")
    assert "(4, 28, 28, 1)" in report.error.detail


def test_a_variant_of_another_model_misses_parity(digits: Digits, traced: Traced, tmp_path: Path) -> None:
    """The reference of one model, the file of another: what a converter that went wrong looks like."""
    trace = tmp_path / "trace"
    trace.mkdir()
    for name in ("trace.json", "golden.npz", "float32.tflite", "reference.npz"):
        (trace / name).write_bytes((traced.directory / name).read_bytes())
    with np.load(trace / "reference.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(trace / "reference.npz", **{name: array[:, ::-1] for name, array in arrays.items()})
    report = run_recipe(
        recipe="tflite-float32",
        trace=trace,
        evaluation_set=digits.evaluation_set,
        output=tmp_path / "variant",
        on_heartbeat=no_heartbeat,
    )
    assert (report.state, report.error.code) == ("parity_missed", "parity_missed")
    assert "max_abs_error" in report.error.detail
    assert report.parity.max_abs_error > 0.5


def test_a_trace_needs_no_more_addresses_than_its_default_limit_gives(traced: Traced) -> None:
    assert traced.report.peak_memory_bytes < 2 * 1024**3
