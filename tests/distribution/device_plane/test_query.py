"""What a poll may ask for at most, and the first of what is too much. What a device is told is in test_poll."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distribution.device_plane.problems import Problem
from distribution.device_plane.query import LARGEST_RAM_MB, LONGEST_QUERY, parse_query, profile_of, read_unit
from registry.device_classes import DeviceProfile


def names(count):
    return ",".join(f"m{number}" for number in range(count))


def pairs(count):
    return ",".join(f"m{number}:1" for number in range(count))


def tokens(count):
    return [f"t{number}" for number in range(count)]


@pytest.mark.parametrize(
    ("most", "more", "field"),
    [
        ("models=a&x=".ljust(LONGEST_QUERY, "a"), "models=a&x=".ljust(LONGEST_QUERY + 1, "a"), "query"),
        ("models=a" + "&x=1" * 63, "models=a" + "&x=1" * 64, "query"),
        (f"models={names(50)}", f"models={names(51)}", "models"),
        (f"models=a&current={pairs(50)}", f"models=a&current={pairs(51)}", "current"),
        (f"models=a&ram_mb={LARGEST_RAM_MB}", f"models=a&ram_mb={LARGEST_RAM_MB + 1}", "ram_mb"),
        (f"models=a&os={'o' * 32}", f"models=a&os={'o' * 33}", "os"),
        (f"models=a&soc={'s' * 64}", f"models=a&soc={'s' * 65}", "soc"),
        (f"models=a&os_version={'.'.join('1' * 8)}", f"models=a&os_version={'.'.join('1' * 9)}", "os_version"),
        (
            f"models=a&accelerators={','.join(tokens(16))}",
            f"models=a&accelerators={','.join(tokens(17))}",
            "accelerators",
        ),
    ],
)
def test_the_most_that_is_read_and_the_least_that_is_refused(most, more, field):
    parse_query(most.encode())
    with pytest.raises(Problem) as refused:
        parse_query(more.encode())
    assert (refused.value.status, refused.value.field) == (400, field)


def test_what_is_empty_is_unknown():
    query = parse_query(b"models=a&os=&os_version=&ram_mb=&accelerators=&device=&current=")
    assert query == parse_query(b"models=a") == (DeviceProfile(""), ("a",), {})


def test_no_models_are_too_few():
    with pytest.raises(Problem, match="models: expected 1 to 50 names separated by commas, got ''"):
        parse_query(b"models=")


def test_models_are_answered_once_in_the_order_asked():
    assert parse_query(b"models=b,a,b").models == ("b", "a")
    assert parse_query(b"os=android", "a").models == ("a",)


@given(st.dictionaries(st.sampled_from(["a", "b", "c-d"]), st.integers(0, 10**15 - 1)))
def test_the_versions_that_run_now_are_read_by_model(versions):
    told = ",".join(f"{name}:{version}" for name, version in versions.items())
    assert parse_query(f"models=a&current={told}".encode()).current == versions


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"ram_mb": True}, "profile.ram_mb: expected MiB as an integer from 0 to 100000000, got 'True'"),
        ({"ram_mb": 1.5}, "profile.ram_mb: expected MiB as an integer"),
        ({"accelerators": {"gpu": 1}}, "profile.accelerators: expected at most 16 tokens"),
        ({"accelerators": ["gpu", 1]}, "profile.accelerators: expected tokens like gpu or npu, got '1'"),
        ({"os": ["android"]}, "profile.os: expected a lower-case token"),
    ],
)
def test_a_profile_of_json_has_the_same_bounds_and_is_named_by_its_prefix(fields, told):
    with pytest.raises(Problem) as refused:
        profile_of(fields, "profile.")
    assert refused.value.detail.startswith(told)


def test_a_profile_of_json_may_have_numbers_and_lists():
    assert profile_of({"os": "ios", "ram_mb": 0, "accelerators": ["npu"]}) == DeviceProfile(
        "ios", ram_mb=0, accelerators=frozenset({"npu"})
    )


def test_a_unit_has_at_most_128_characters():
    assert read_unit(b"u" * 128) == "u" * 128
    with pytest.raises(Problem, match="got 129 characters"):
        read_unit(b"u" * 129)
