"""Models that nobody here made, evaluated on the pictures and sounds that came with them."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from registry.conversion.report import Report
from registry.conversion.runner import run_trace
from registry.inspection.coreml_file import inspect_coreml
from tests.registry.conversion.conftest import no_heartbeat
from tests.registry.conversion.test_ready_tflite import adopted, built
from tests.registry.inspection.builders import coreml_model

pytestmark = pytest.mark.light

SharedModel = Callable[[str], Path]


def published(source: Path, recipe: str, evaluation_set: Path, folder: Path) -> tuple[Report, Report]:
    """Reports of the trace and of the variant, both of which succeeded."""
    trace = adopted(source, folder / "trace", evaluation_set)
    assert trace.state == "succeeded", (trace.error, trace.log_tail)
    variant = built(recipe, folder / "trace", folder / "variant", evaluation_set)
    assert variant.state == "succeeded", (variant.error, variant.log_tail)
    assert variant.compressed_size_bytes < variant.size_bytes
    assert len(json.loads((folder / "variant" / "sanity.json").read_text())["samples"]) >= 2
    return trace, variant


def picture(path: Path) -> bytes:
    """A BMP as one would take it. That of the person holds int8 pixels: their sign is turned back."""
    from PIL import Image

    pixels = np.asarray(Image.open(path))
    stream = io.BytesIO()
    Image.fromarray(pixels ^ 128 if path.name == "person.bmp" else pixels).save(stream, "BMP")
    return stream.getvalue()


def test_person_detect_tells_the_picture_with_a_person(shared_model: SharedModel, tmp_path: Path) -> None:
    """It takes grey pixels less 128, as int8. The file is of an old converter, and is repaired."""
    pytest.importorskip("PIL", reason="needs Pillow (extra `light`)")
    document = {
        "metric": "accuracy",
        "input": {
            "name": "input",
            "width": 96,
            "height": 96,
            "color": "grayscale",
            "mean": 128,
            "dtype": "int8",
        },
        "samples": [{"file": "no_person.bmp", "label": 0}, {"file": "person.bmp", "label": 1}],
    }
    samples = tmp_path / "pictures.zip"
    with zipfile.ZipFile(samples, "w") as archive:
        archive.writestr("pictures/evaluation.json", json.dumps(document))
        for name in ("no_person.bmp", "person.bmp"):
            archive.writestr(f"pictures/{name}", picture(shared_model(name)))
    trace, variant = published(shared_model("person_detect.tflite"), "tflite-repaired", samples, tmp_path)
    assert (trace.accuracy.value, trace.accuracy.samples) == (1.0, 2)
    assert (variant.accuracy.value, variant.accuracy.lost, variant.accuracy.p_value) == (1.0, 0.0, 1.0)


def test_micro_speech_tells_yes_from_no(shared_model: SharedModel, tmp_path: Path) -> None:
    """Its classes are silence, unknown, yes, no; its features those of its preprocessor, computed beside it."""
    pytest.importorskip("ai_edge_litert", reason="needs LiteRT (extra `light`)")
    from tests.registry.conversion.speech_features import Preprocessor

    preprocessor = Preprocessor(shared_model("audio_preprocessor_int8.tflite"))
    features = [preprocessor.features(shared_model(f"{word}_1000ms.wav")) for word in ("yes", "no")]
    samples = tmp_path / "speech.npz"
    np.savez(samples, inputs=np.stack(features), labels=np.array([2, 3]), metric=np.array("accuracy"))
    _, variant = published(shared_model("micro_speech_quantized.tflite"), "tflite-as-is", samples, tmp_path)
    assert (variant.accuracy.value, variant.accuracy.samples) == (1.0, 2)
    assert variant.speed_ratio is None


@pytest.mark.parametrize("precision", ["float", "int8"])
def test_hello_world_is_measured_against_the_sine_it_learned(
    shared_model: SharedModel, tmp_path: Path, precision: str
) -> None:
    samples, x = tmp_path / "sine.npz", np.linspace(0, 6.28, 200, dtype=np.float32).reshape(-1, 1)
    np.savez(samples, dense_input=x, labels=np.sin(x), metric=np.array("mse"))
    source = shared_model(f"hello_world_{precision}.tflite")
    trace, variant = published(source, "tflite-as-is", samples, tmp_path)
    measured = variant.accuracy
    assert (measured.metric, measured.samples, measured.output) == ("mse", 200, "dense_2")
    assert 0 < measured.interval_low < measured.value < measured.interval_high < 0.02
    assert (measured.value, measured.lost, measured.p_value) == (trace.accuracy.value, 0.0, None)


def test_a_quantised_sine_says_what_it_lost(shared_model: SharedModel, tmp_path: Path) -> None:
    samples, x = tmp_path / "sine.npz", np.linspace(0, 6.28, 200, dtype=np.float32).reshape(-1, 1)
    np.savez(samples, dense_input=x, targets=np.sin(x))
    _, variant = published(shared_model("hello_world_float.tflite"), "tflite-full-int8", samples, tmp_path)
    assert variant.accuracy.metric == "mse"
    assert variant.accuracy.lost_low < variant.accuracy.lost < variant.accuracy.lost_high
    assert variant.accuracy.lost == pytest.approx(variant.accuracy.value - variant.accuracy.source_value)
    assert variant.speed_ratio > 0


def test_a_core_ml_model_that_only_inspection_takes_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("coremltools", reason="needs coremltools (extra `light`)")
    source = tmp_path / "model.mlmodel"
    ends_too_early = b"\x0a\x05ab"
    source.write_bytes(coreml_model(ends_too_early, kind=300))
    assert inspect_coreml(source).details["model_type"] == "glmRegressor"
    report = run_trace(
        source=source,
        source_format="coreml",
        evaluation_set=None,
        output=tmp_path / "trace",
        on_heartbeat=no_heartbeat,
    )
    assert (report.state, report.error and report.error.code) == ("failed", "not_loadable")
