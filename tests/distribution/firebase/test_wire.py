"""Names, times, filters and checksums of Google's APIs."""

import doctest
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distribution.firebase import filters, wire
from distribution.firebase.crc32c import Crc32c
from distribution.firebase.filters import Filter, FilterError
from registry.models.applications import slug_validator
from tests.distribution.firebase.client import android_time

NAMES = st.from_regex(wire.DISPLAY_NAME, fullmatch=True)


@pytest.mark.parametrize("module", [wire, filters])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times_are_read_as_they_were_written(at):
    milliseconds = int(at.timestamp()) * 1000 + at.microsecond // 1000
    assert android_time(wire.milliseconds(at)) == milliseconds
    assert android_time(wire.milliseconds(at.astimezone(timezone(timedelta(hours=5, minutes=30))))) == milliseconds
    assert datetime.strptime(wire.microseconds(at), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) == at


@given(NAMES, NAMES)
@example("_", "-")
@example("Mobile_Net", "mobile_net")
@example("a" * 32, "A" * 32)
def test_every_display_name_has_a_slug_of_its_own(one, other):
    slug_validator(wire.slug_of(one))
    assert (wire.slug_of(one) == wire.slug_of(other)) == (one == other)


@pytest.mark.parametrize(
    "uri", ["", "gs://", "gs://bucket", "gs://bucket/", "s3://a/b", "gs:/a/b", "https://host/a", "/a"]
)
def test_what_is_no_address_of_an_object(uri):
    with pytest.raises(ValueError, match="expected gs://"):
        wire.bucket_and_object(uri)


@given(NAMES, st.lists(NAMES), st.booleans(), NAMES)
def test_filters_mean_what_they_say(name, tags, published, other):
    def holds(text):
        return Filter.parse(text).holds(name, tags, published=published)

    assert holds("")
    assert holds(f"display_name = {name}")
    assert holds(f"displayName={name} AND state.published = {str(published).lower()}")
    assert holds(f"display_name : {name[:3]}*")
    assert holds(f"tags: {other}") == (other in tags)
    assert holds(f"tags: {other} OR display_name = {name}")
    assert holds(f"tags:{other} AND display_name={other} OR tags:{other}") == (other in tags)


@given(st.text(max_size=60))
def test_a_filter_is_read_or_refused(text):
    with suppress(FilterError):
        Filter.parse(text)


def test_a_filter_is_bounded():
    with pytest.raises(FilterError, match="at most 2000"):
        Filter.parse("tags:a OR " * 300 + "tags:a")


class TestCrc32c:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"", 0x00000000),
            (b"123456789", 0xE3069283),
            # RFC 3720, appendix B.4
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
            (bytes(range(31, -1, -1)), 0x113FDB5C),
        ],
    )
    def test_vectors(self, data, expected):
        checksum = Crc32c()
        checksum.update(data)
        assert checksum.value == expected

    @pytest.mark.parametrize("cut", [0, 1, 70_000, (1 << 20) + 1])
    def test_blocks_and_single_bytes_agree_however_the_bytes_come(self, cut):
        data = bytes(range(251)) * 5000  # more than one block
        whole, cut_up = Crc32c(), Crc32c()
        whole.update(data)
        for piece in (data[:cut], data[cut:]):
            cut_up.update(piece)
        bytewise = Crc32c()
        for start in range(0, len(data), 4096):
            bytewise.update(data[start : start + 4096])
        assert whole.value == cut_up.value == bytewise.value
