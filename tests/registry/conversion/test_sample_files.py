"""Pictures and sounds of evaluation sets, decoded."""

import io
import json
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.conversion.evaluation_set import EvaluationSet, EvaluationSetError, load_evaluation_set
from registry.conversion.report import Quantization, TensorSpec

Image = pytest.importorskip("PIL.Image", reason="needs Pillow (extra `light`)")

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(color: tuple[int, int, int], kind: str = "PNG", size: tuple[int, int] = (4, 2)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, kind)
    return stream.getvalue()


def sound(values: list[int], rate: int = 16_000, channels: int = 1) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as opened:
        opened.setnchannels(channels)
        opened.setsampwidth(2)
        opened.setframerate(rate)
        opened.writeframes(np.array(values, "<i2").tobytes())
    return stream.getvalue()


def loaded(folder: Path, declared: dict[str, Any], spec: TensorSpec, **files: bytes) -> EvaluationSet:
    path = folder / "set.zip"
    samples = [{"file": name, "label": index} for index, name in enumerate(files)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evaluation.json", json.dumps({"input": {"name": "x", **declared}, "samples": samples}))
        for name, data in files.items():
            archive.writestr(name, data)
    return load_evaluation_set(path, [spec])


RGB = TensorSpec("x", (1, 2, 4, 3), "float32")


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("bmp", "BMP"), ("jpg", "JPEG")])
def test_pictures_become_normalised_pixels(tmp_path: Path, suffix: str, kind: str) -> None:
    declared = {"width": 4, "height": 2, "mean": [127.5, 0, 0], "std": [127.5, 1, 255]}
    files = {f"a.{suffix}": picture(RED, kind), f"b.{suffix}": picture(BLUE, kind)}
    found = loaded(tmp_path, declared, RGB, **files)
    assert found.inputs["x"].shape == (2, 2, 4, 3)
    assert found.inputs["x"][:, 0, 0] == pytest.approx(np.array([[1, 0, 0], [-1, 0, 1]]), abs=0.02)
    assert list(found.labels) == [0, 1]


def test_channels_may_come_first_and_pictures_of_other_sizes_are_resized(tmp_path: Path) -> None:
    spec = TensorSpec("x", (1, 3, 2, 4), "float32")
    declared = {"width": 4, "height": 2, "layout": "channels_first"}
    found = loaded(tmp_path, declared, spec, **{"a.png": picture(RED, size=(31, 17))})
    assert found.inputs["x"][0, :, 1, 3].tolist() == [255, 0, 0]


def test_a_grey_picture_may_feed_integers_as_they_are(tmp_path: Path) -> None:
    spec = TensorSpec("x", (1, 2, 4), "int8", Quantization(0.5, 3))
    declared = {"width": 4, "height": 2, "color": "grayscale", "mean": 128, "dtype": "int8"}
    found = loaded(tmp_path, declared, spec, **{"a.png": picture((255, 255, 255)), "b.png": picture((0, 0, 0))})
    assert found.inputs["x"].dtype == np.int8
    assert found.inputs["x"][:, 0, 0].tolist() == [127, -128]


def test_real_values_are_quantised_for_an_input_of_integers(tmp_path: Path) -> None:
    spec = TensorSpec("x", (1, 2, 4, 3), "uint8", Quantization(1 / 255, 0))
    found = loaded(tmp_path, {"width": 4, "height": 2, "std": 255}, spec, **{"a.png": picture(RED)})
    assert found.inputs["x"][0, 0, 0].tolist() == [255, 0, 0]


def test_sounds_are_cut_or_filled_with_silence(tmp_path: Path) -> None:
    spec = TensorSpec("x", (1, 4), "float32")
    files = {"a.wav": sound([16384, -32768]), "b.wav": sound([1, 2, 3, 4, 5])}
    found = loaded(tmp_path, {"rate": 16000, "samples": 4}, spec, **files)
    assert found.inputs["x"][0].tolist() == [0.5, -1.0, 0.0, 0.0]
    assert (found.inputs["x"][1] * 32768).tolist() == [1, 2, 3, 4]


def test_a_sound_may_feed_the_samples_themselves(tmp_path: Path) -> None:
    spec = TensorSpec("x", (1, 4, 1), "int16")
    declared = {"rate": 16000, "samples": 4, "std": 1 / 32768, "dtype": "int16"}
    found = loaded(tmp_path, declared, spec, **{"a.wav": sound([1, -2, 32767, -32768])})
    assert found.inputs["x"].ravel().tolist() == [1, -2, 32767, -32768]


@pytest.mark.parametrize(
    ("declared", "files", "message"),
    [
        ({"width": 4, "height": 2}, {"a.png": picture(RED)[:40]}, "a.png: "),
        ({"width": 4, "height": 2}, {"a.png": picture(RED, size=(9000, 1))}, "at most 8192 pixels a side"),
        ({"width": 9, "height": 9}, {"a.png": picture(RED)}, "expected shape"),
        ({"rate": 16000, "samples": 4}, {"a.wav": sound([1], rate=8000)}, "at 16000 Hz; got 1 of 16 bits at 8000 Hz"),
        ({"rate": 16000, "samples": 4}, {"a.wav": sound([1, 1], channels=2)}, "got 2 of 16 bits"),
        ({"rate": 16000, "samples": 4}, {"a.wav": b"RIFF\x00\x00\x00\x00junk"}, "a.wav: "),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(
    tmp_path: Path, declared: dict[str, Any], files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(EvaluationSetError) as caught:
        loaded(tmp_path, declared, RGB, **files)
    assert message in str(caught.value)


def test_samples_of_another_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationSetError, match="model's only input \\(y\\); got x"):
        loaded(tmp_path, {"width": 4, "height": 2}, TensorSpec("y", (1, 2, 4, 3), "float32"), **{"a.png": picture(RED)})
