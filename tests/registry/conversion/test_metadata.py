import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.metadata import Metadata, MetadataError
from registry.conversion.report import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", (1, 4, 4, 3), "float32"),), (TensorSpec("scores", (1, 2), "float32"),))
FULL: dict[str, Any] = {
    "name": "Cats",
    "description": "Cat or dog",
    "version": "3",
    "author": "A. Nyström",
    "license": "Apache-2.0",
    "inputs": {
        "image": {
            "description": "a picture",
            "content": "image",
            "color_space": "rgb",
            "mean": [127.5, 127.5, 127.5],
            "std": [127.5, 127.5, 127.5],
        }
    },
    "outputs": {"scores": {"description": "one score per class"}},
    "labels": ["cat", "dog"],
}


def test_a_document_reads_and_writes_as_it_was() -> None:
    assert Metadata.from_json(FULL, SIGNATURE).to_json() == FULL
    assert Metadata.from_json({}, SIGNATURE).to_json() == {}


@pytest.mark.parametrize(
    ("changes", "expected", "got"),
    [
        ({"inputs": {"picture": {}}}, "inputs of the model, image", "picture"),
        ({"outputs": {"probabilities": {}}}, "outputs of the model, scores", "probabilities"),
        ({"inputs": {"image": {"mean": [1, 2], "std": [1, 1]}}}, "1 mean, or 3 for the channels of 'image'", "2"),
        ({"inputs": {"image": {"mean": [1], "std": []}}}, "as many std as mean in input 'image' (1)", "0"),
        ({"inputs": {"image": {"mean": [1], "std": [0]}}}, "std above 0 in input 'image'", "0.0"),
        ({"inputs": {"image": {"mean": [float("nan")], "std": [1]}}}, "a list of at most 10000 numbers", "nan"),
        ({"inputs": {"image": {"mean": [1e39], "std": [1]}}}, "a list of at most 10000 numbers", "1e+39"),
        ({"inputs": {"image": {"mean": [10**400], "std": [1]}}}, "a list of at most 10000 numbers", "1000"),
        ({"inputs": {"image": {"mean": [1], "std": [1e-50]}}}, "std above 0 in input 'image'", "1e-50"),
        ({"inputs": {"image": {"mean": [True], "std": [1]}}}, "a list of at most 10000 numbers", "True"),
        ({"inputs": {"image": {"content": "smell"}}}, "content of input 'image' among image, audio, feature", "smell"),
        ({"inputs": {"image": {"content": []}}}, "content of input 'image' among image, audio, feature", "[]"),
        ({"inputs": {"image": {"color_space": "rgb"}}}, "a color_space with content 'image' only", "''"),
        ({"inputs": {"image": {"sample_rate": 16000}}}, "a sample_rate of at most 1000000, with content", "16000"),
        ({"inputs": []}, "an object of at most 64 names as inputs", "[]"),
        ({"inputs": {"image": {"scale": 1}}}, "members of input 'image' among", "scale"),
        ({"labels": ["a", "b", "c"]}, "as many labels as an output has classes (scores: 2)", "3"),
        ({"labels": ["a", "b\nc"]}, "labels of 1 to 500 printable characters", "b\\nc"),
        ({"labels": "ab"}, "a list of at most 100000 labels", "ab"),
        ({"name": 3}, "a text of at most 10000 characters as name", "3"),
        ({"name": "\ud800"}, "a text of at most 10000 characters as name", "ud800"),
        ({"colour": "blue"}, "members of metadata among", "colour"),
    ],
)
def test_what_cannot_be_written_is_refused(changes: dict[str, Any], expected: str, got: str) -> None:
    with pytest.raises(MetadataError) as raised:
        Metadata.from_json({**FULL, **changes}, SIGNATURE)
    assert expected in raised.value.expected
    assert got in raised.value.got


def test_without_a_signature_names_and_lengths_are_taken_as_they_are() -> None:
    assert Metadata.from_json({"labels": ["a", "b", "c"], "inputs": {"x": {}}}).labels == ("a", "b", "c")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(FULL)) | st.text(), inner),
    max_leaves=10,
)


@given(ANYTHING)
def test_any_document_is_read_or_refused(document: Any) -> None:
    try:
        made = Metadata.from_json(document)
    except MetadataError:
        return
    assert Metadata.from_json(json.loads(json.dumps(made.to_json()))) == made
