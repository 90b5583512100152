"""What each reader takes, and what it says of the rest: the place, what was expected and what was got."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.json_members import LARGEST_INTEGER, DocumentError, Members, brief


class OwnError(DocumentError):
    pass


def members(**document):
    return Members(document, "doc", OwnError)


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (lambda one: one.text("m"), 1, "a string of at most 1024 characters"),
        (lambda one: one.text("m"), None, "a string of at most 1024 characters"),
        (lambda one: one.text("m", most=2), "abc", "a string of at most 2 characters"),
        (lambda one: one.text("m", pattern=re.compile("[a-z]+")), "a1", "a string like [a-z]+"),
        (lambda one: one.one_of("m", ("a", "b")), "c", "one of a, b"),
        (lambda one: one.one_of("m", ("a", "b")), ["a"], "one of a, b"),
        (lambda one: one.integer("m"), -1, f"an integer from 0 to {LARGEST_INTEGER}"),
        (lambda one: one.integer("m"), LARGEST_INTEGER + 1, f"an integer from 0 to {LARGEST_INTEGER}"),
        (lambda one: one.integer("m"), True, f"an integer from 0 to {LARGEST_INTEGER}"),
        (lambda one: one.integer("m"), 1.0, f"an integer from 0 to {LARGEST_INTEGER}"),
        (lambda one: one.integer("m", least=2, most=3), 4, "an integer from 2 to 3"),
        (lambda one: one.integer_or_none("m", least=2, most=3), 1, "an integer from 2 to 3"),
        (lambda one: one.integer_or_none("m", least=2, most=3), 4, "an integer from 2 to 3"),
        (lambda one: one.flag("m", default=False), 0, "true or false"),
        (lambda one: one.flag("m", default=False), None, "true or false"),
        (lambda one: one.texts("m"), ["a", 1], "a list of strings"),
        (lambda one: one.texts("m"), "ab", "a list of at most 1000 items"),
        (lambda one: one.texts("m", most=1), ["a", "b"], "a list of at most 1 items"),
        (lambda one: one.integers("m"), [1, True], "a list of integers"),
        (lambda one: one.integers("m"), [1, 2.0], "a list of integers"),
        (lambda one: one.integers("m", most=1), [1, 2], "a list of at most 1 items"),
        (lambda one: one.object("m"), [], "an object"),
        (lambda one: one.object_or_none("m"), 0, "an object"),
        (lambda one: one.objects("m", most=1), [{}, {}], "a list of at most 1 items"),
        (lambda one: one.mapping("m", most=1), {"a": {}, "b": {}}, "at most 1 members"),
    ],
)
def test_what_is_not_as_it_must_be_is_refused_with_its_place(read, value, expected):
    with pytest.raises(OwnError) as refused:
        read(members(m=value))
    error = refused.value
    assert (error.at, error.expected, error.got) == ("doc.m", expected, brief(value))
    assert str(error) == f"doc.m: expected {expected}, got {error.got}"


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        (lambda one: one.text("m", most=2), "ab", "ab"),
        (lambda one: one.text("other", "default"), "", "default"),
        (lambda one: one.text("m", pattern=re.compile("[a-z]+")), "ab", "ab"),
        (lambda one: one.one_of("m", ("a", "b")), "b", "b"),
        (lambda one: one.integer("m"), LARGEST_INTEGER, LARGEST_INTEGER),
        (lambda one: one.integer("m", least=2, most=3), 2, 2),
        (lambda one: one.integer_or_none("m", least=2, most=3), 3, 3),
        (lambda one: one.integer_or_none("m"), None, None),
        (lambda one: one.flag("m", default=False), True, True),
        (lambda one: one.flag("other", default=True), 0, True),
        (lambda one: one.texts("m", most=2), ["a", "b"], ("a", "b")),
        (lambda one: one.texts("other"), 0, ()),
        (lambda one: one.integers("m", most=2), [1, 0], (1, 0)),
        (lambda one: one.object_or_none("m"), None, None),
        (lambda one: one.has("m"), 0, True),
        (lambda one: one.has("m"), None, False),
        (lambda one: list(one.mapping("m", most=2)), {"b": {}, "a": {}}, ["b", "a"]),
        (lambda one: len(one.objects("m", most=2)), [{}, {}], 2),
    ],
)
def test_what_is_as_it_must_be_is_read(read, value, found):
    assert read(members(m=value)) == found


def test_what_lies_inside_knows_its_place_and_raises_the_same_error():
    inside = members(m={"a": {}}, n=[{}, {}])
    for one, at in (
        (inside.object("m"), "doc.m"),
        (inside.mapping("m")["a"], "doc.m.a"),
        (inside.objects("n")[1], "doc.n[1]"),
    ):
        with pytest.raises(OwnError, match=re.escape(f"{at}.x: expected true or false, got None")):
            one.flag("x", default=None)
    with pytest.raises(OwnError, match=re.escape("doc.n[1]: expected an object, got 7")):
        members(n=[{}, 7]).objects("n")


@given(st.integers(0, 10**100) | st.text(max_size=100), st.integers(2, 90))
def test_a_value_is_shown_whole_where_it_fits_and_else_by_its_beginning(value, limit):
    shown = brief(value, limit)
    assert shown == repr(value) if len(repr(value)) <= limit else len(shown) == limit
    assert repr(value).startswith(shown.removesuffix("…"))
