"""Evaluation sets of pictures and sounds, as data."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.inspection import InspectionError, inspect_evaluation_set
from registry.inspection.sample_set import read_sample_set, sample_set

PICTURE = {"name": "image", "width": 4, "height": 2}
SOUND = {"name": "sound", "rate": 16000, "samples": 8}
BMP = b"BM rest"


def document(**changes: Any) -> dict[str, Any]:
    samples = [{"file": "a.bmp", "label": 1}, {"file": "b.bmp", "label": 0}]
    return {"metric": "accuracy", "input": PICTURE, "samples": samples, **changes}


def archived(folder: Path, data: Any, below: str = "", **files: bytes) -> Path:
    path = folder / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{below}evaluation.json", data if isinstance(data, bytes) else json.dumps(data))
        for name, content in (files or {"a.bmp": BMP, "b.bmp": BMP}).items():
            archive.writestr(below + name, content)
    return path


@pytest.mark.parametrize("below", ["", "set/"])
def test_a_set_of_pictures_is_told_as_the_arrays_it_becomes(tmp_path: Path, below: str) -> None:
    path = archived(tmp_path, document(), below)
    assert inspect_evaluation_set(path) == {"image": ((2, 2, 4, 3), "float32"), "labels": ((2,), "int64")}
    found = read_sample_set(path)
    assert (found.folder, dict(found.metrics)) == (below, {"": "accuracy"})


def test_every_member_of_the_document_is_read() -> None:
    given_input = {
        **PICTURE, "color": "grayscale", "layout": "channels_first", "mean": [128], "std": 2, "dtype": "int8",
    }  # fmt: skip
    samples = [{"file": "a.png", "label": {"y": [1.5, 2.5]}}, {"file": "b.JPG", "label": {"y": [0, 1]}}]
    found = sample_set({"metric": {"y": "mse"}, "input": given_input, "samples": samples})
    assert found.input.sample_shape == (1, 2, 4)
    assert (found.input.mean, found.input.std, found.input.dtype) == ((128.0,), (2.0,), "int8")
    assert [dict(sample.labels) for sample in found.samples] == [{"y": (1.5, 2.5)}, {"y": (0, 1)}]
    assert dict(found.metrics) == {"y": "mse"}


def test_sounds_are_so_many_samples_at_a_rate() -> None:
    found = sample_set({"input": SOUND, "samples": [{"file": "a.wav"}]})
    assert (found.input.sample_shape, found.input.rate, dict(found.samples[0].labels)) == ((8,), 16000, {})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"colour": 1}, "with colour"),
        ({"samples": []}, "at least one"),
        ({"samples": [{"file": "a.gif"}]}, ".png, .bmp"),
        ({"samples": [{"label": 1}]}, "without file"),
        ({"samples": [{"file": "a.bmp"}, {"file": "b.wav"}]}, "either pictures or sounds"),
        ({"samples": [{"file": "a.bmp", "label": True}]}, "a number, or lists of numbers"),
        ({"samples": [{"file": "a.bmp", "label": "one"}]}, "a number, or lists of numbers"),
        ({"samples": [{"file": "a.bmp", "label": [[1], [2, 3]]}]}, "equal lengths"),
        ({"samples": [{"file": "a.bmp", "label": 2**70}]}, "a number, or lists of numbers"),
        ({"samples": [{"file": "a.bmp", "label": [[[[[[[[[1]]]]]]]]]}]}, "a number, or lists of numbers"),
        ({"samples": [{"file": "a.bmp", "label": 1}, {"file": "b.bmp"}]}, "labels of the same outputs"),
        ({"samples": [{"file": "a.bmp", "label": 1}, {"file": "b.bmp", "label": [1]}]}, "labels of the same outputs"),
        ({"metric": 5}, "metric: a name"),
        ({"input": {**PICTURE, "width": 0}}, "input.width: 1 to 8192"),
        ({"input": {**PICTURE, "width": 2.0}}, "input.width: 1 to 8192"),
        ({"input": {**PICTURE, "name": ""}}, "input.name"),
        ({"input": {**PICTURE, "color": "cmyk"}}, "grayscale, rgb"),
        ({"input": {**PICTURE, "std": 0}}, "input.std above 0"),
        ({"input": {**PICTURE, "mean": [1, 2]}}, "one number, or 3"),
        ({"input": {**PICTURE, "rate": 8}}, "with rate"),
        ({"input": [1]}, "input: an object"),
    ],
)
def test_a_document_that_says_something_else_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InspectionError) as caught:
        sample_set(document(**changes))
    assert caught.value.code == "bad_evaluation_document"
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("data", "files", "code"),
    [
        (document(), {"a.bmp": BMP}, "bad_evaluation_document"),
        (document(), {"a.bmp": BMP, "b.bmp": b"GIF89a"}, "not_a_sample"),
        (document(), {"a.bmp": BMP, "b.bmp": b""}, "too_large"),
        (b"{", {}, "bad_evaluation_document"),
        (b"[" * 100_000, {}, "bad_evaluation_document"),
        (b'{"input": NaN}', {}, "bad_evaluation_document"),
        (b"\xff", {}, "bad_evaluation_document"),
        (document(input={**PICTURE, "width": 8192, "height": 8192}, samples=[{"file": "a.bmp"}] * 6), {}, "too_large"),
    ],
)
def test_an_archive_that_does_not_hold_what_it_says_is_refused(
    tmp_path: Path, data: Any, files: dict[str, bytes], code: str
) -> None:
    with pytest.raises(InspectionError) as caught:
        inspect_evaluation_set(archived(tmp_path, data, **files))
    assert caught.value.code == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["input", "samples", "metric", "file", "label", "name", "width"]), inner)
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["input", "samples", "metric"]))
def test_any_json_is_a_set_or_has_a_named_error(data: Any, member: str) -> None:
    for whole in (data, document(**{member: data})):
        try:
            sample_set(whole)
        except InspectionError as error:
            assert error.code in {"bad_evaluation_document", "too_large"}  # noqa: PT017
