"""Wrong bases, damaged and hostile patches: refused, within bounds, nothing but PatchError raised."""

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distribution.deltas import decoder
from distribution.deltas.decoder import BaseMismatch, PatchError, PatchInvalid, ResultMismatch, apply_patch
from distribution.deltas.encoder import make_patch, varint
from tests.distribution.deltas.applying import applied
from tests.distribution.deltas.mutations import (
    campaign,
    deflated,
    header_of,
    keep_bombs,
    packed,
    stored_example,
    streams_of,
)

BASE, TARGET, PATCH = stored_example()


def test_the_example_uses_every_operation_and_gaps():
    _, streams = streams_of(PATCH)
    used = {index for index, stream in enumerate(streams) if stream}
    assert used >= {*range(decoder.FIRST_GAPS), decoder.FIRST_GAPS}
    assert applied(PATCH, BASE, TARGET, apply_patch) == TARGET


def test_ten_thousand_mutated_patches_are_refused_or_right_within_bounds():
    """Memory is what Python sees, zlib's windows among it: streams that inflate a thousandfold are in the campaign."""
    keep_bombs()  # making one takes as much memory as it would inflate to
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    outcomes = campaign(10_000)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert outcomes.total() == 10_000
    assert set(outcomes) <= {"applied", "PatchInvalid", "BaseMismatch", "ResultMismatch"}
    assert outcomes["applied"] < 500 < outcomes["ResultMismatch"] < outcomes["PatchInvalid"]
    assert peak < len(BASE) + len(TARGET) + (8 << 20)


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_any_bytes_after_a_magic(content):
    with pytest.raises(PatchError):
        applied(decoder.MAGIC + content, BASE, TARGET, apply_patch)


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_control_stream(control):
    _, streams = streams_of(PATCH)
    streams[decoder.CONTROL_STREAM] = deflated(control)
    with pytest.raises(PatchError):
        applied(packed(header_of(PATCH), streams, 5), BASE, TARGET, apply_patch)


@pytest.mark.parametrize("end", [0, 7, 147, 148, 149, len(PATCH) // 2, len(PATCH) - 1])
def test_truncated(end):
    with pytest.raises(PatchInvalid):
        applied(PATCH[:end], BASE, TARGET, apply_patch)


@pytest.mark.parametrize("base", [b"", BASE[:-1], BASE + b"\0", BASE[:-1] + bytes([BASE[-1] ^ 1]), TARGET])
def test_wrong_base(base):
    with pytest.raises(BaseMismatch):
        applied(PATCH, base, TARGET, apply_patch)


def test_a_patch_for_another_target():
    with pytest.raises(ResultMismatch, match="expected the target"):
        applied(make_patch(BASE, BASE), BASE, TARGET, apply_patch)


def test_one_wrong_difference_is_found_by_the_result_s_digest():
    segments, streams = streams_of(PATCH)
    streams[decoder.LITERAL_STREAM] = deflated(b"x" * 2_000)
    with pytest.raises(ResultMismatch, match="expected to make"):
        applied(packed(header_of(PATCH), streams, segments), BASE, TARGET, apply_patch)


@pytest.mark.parametrize("stream", range(decoder.STREAMS))
def test_a_stream_that_inflates_to_more_than_is_used(stream):
    segments, streams = streams_of(PATCH)
    streams[stream] = deflated(bytes(20_000_000))
    tracemalloc.start()
    with pytest.raises(PatchError):
        applied(packed(header_of(PATCH), streams, segments), BASE, TARGET, apply_patch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_many_segments_end_at_the_length_of_the_result():
    control = (b"\1" + varint(len(BASE)) + varint(0) + (b"\1" + varint(len(BASE)) + varint(2 * len(BASE) - 1))) * 1_000
    streams = [deflated(control)] + [b""] * (decoder.STREAMS - 1)
    with pytest.raises(PatchInvalid):
        applied(packed(header_of(PATCH), streams, 2_000), BASE, TARGET, apply_patch)


def test_bytes_after_the_end_of_a_stream():
    segments, streams = streams_of(PATCH)
    streams[2] += b"more"
    with pytest.raises(PatchInvalid, match="after its end"):
        applied(packed(header_of(PATCH), streams, segments), BASE, TARGET, apply_patch)


def test_memory_does_not_grow_with_the_files(tmp_path):
    base = np.random.default_rng(1).bytes(12 << 20)
    target = bytes(value ^ 1 for value in base[: 1 << 20]) + base[1 << 20 :]
    (tmp_path / "patch").write_bytes(make_patch(base, target))
    (tmp_path / "base").write_bytes(base)
    import hashlib

    sha256, length = hashlib.sha256(target).hexdigest(), len(target)
    tracemalloc.start()
    with (
        (tmp_path / "patch").open("rb") as patch,
        (tmp_path / "base").open("rb") as old,
        (tmp_path / "result").open("wb") as result,
    ):
        apply_patch(patch, old, result, sha256=sha256, length=length)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "result").read_bytes() == target
    assert peak < 4 << 20


def test_no_base_at_all():
    patch = make_patch(b"", b"new")
    assert applied(patch, b"", b"new", apply_patch) == b"new"
    assert io.BytesIO(patch).read(8) == decoder.MAGIC
