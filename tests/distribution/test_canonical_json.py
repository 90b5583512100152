"""The bytes that signatures are made over, and what has none."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distribution.canonical_json import Unsignable, canonical_bytes, envelope

VECTORS = json.loads((Path(__file__).parents[2] / "sdk_stubs/vectors/canonical_json.json").read_text())


def test_the_stored_file_is_compact_sorted_and_in_utf_8():
    stored = envelope({"z": 1, "a": "ä"}, [{"keyid": "k", "sig": "00", "later": "x"}])
    assert stored.decode() == '{"signatures":[{"keyid":"k","sig":"00"}],"signed":{"a":"ä","z":1}}'


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]])
def test_twenty_levels_can_be_signed_and_no_more(wrap):
    document = 1
    for _ in range(19):
        document = wrap(document)
    assert canonical_bytes({"a": document})
    with pytest.raises(Unsignable, match="expected at most 20 levels"):
        canonical_bytes({"a": wrap(document)})


def test_canonical_vectors():
    for case in VECTORS["cases"]:
        assert canonical_bytes(case["value"]).hex() == case["canonical_utf8_hex"]
    for value in VECTORS["refused"]:
        with pytest.raises(Unsignable):
            canonical_bytes(value)


def test_canonical_bytes_by_hand():
    document = {"b": [1, True, None], "a": 'x"\\\n', "ä": {}}
    assert canonical_bytes(document) == '{"a":"x\\"\\\\\n","b":[1,true,null],"ä":{}}'.encode()


signable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), signable, max_size=4))
def test_canonical_bytes_do_not_depend_on_order_or_on_a_trip_through_json(document):
    shuffled = dict(reversed(list(document.items())))
    assert canonical_bytes(document) == canonical_bytes(shuffled) == canonical_bytes(json.loads(json.dumps(document)))
