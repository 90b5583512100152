"""Whatever base and target are, the patch makes the target."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distribution.deltas import decoder
from distribution.deltas.alignment import align
from distribution.deltas.containers import parts_of
from distribution.deltas.decoder import PIECE
from distribution.deltas.encoder import make_patch
from tests.distribution.deltas.applying import applied
from tests.distribution.deltas.model_files import onnx_file, tflite_file, weight_file

BYTES = st.binary(max_size=3000)
EDITS = st.lists(st.tuples(st.integers(0, 3000), st.binary(max_size=200), st.integers(0, 200)), max_size=8)


@given(BYTES, BYTES)
@settings(deadline=None, max_examples=150)
def test_any_base_and_any_target(base, target):
    assert applied(make_patch(base, target), base, target, decoder.apply_patch) == target


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 40), EDITS)
@settings(deadline=None, max_examples=150)
def test_a_target_edited_from_its_base(piece, copies, edits):
    base = piece * copies
    target = bytearray(base)
    for place, inserted, removed in edits:
        target[place : place + removed] = inserted
    assert applied(make_patch(base, bytes(target)), base, bytes(target), decoder.apply_patch) == target


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("step", [1, 3, 200, 2**31 - 1])
@pytest.mark.parametrize("make", [weight_file, tflite_file, onnx_file])
def test_weights_that_moved_a_little_and_wrap_around(make, width, step):
    rng = np.random.default_rng(width * step)
    top = 2 ** (8 * width)
    old = [rng.integers(0, top, size, dtype=np.uint64) for size in (40, 5000, PIECE + 3)]
    new = [(values + rng.integers(0, 2 * step + 1, values.shape, dtype=np.uint64)) % top for values in old]
    kind = f"<u{width}"
    base = make([values.astype(kind) for values in old])
    target = make([values.astype(kind) for values in reversed(new)])
    patch = make_patch(base, target)
    assert applied(patch, base, target, decoder.apply_patch) == target
    if step < 4:
        assert len(patch) < 0.6 * len(target)


@pytest.mark.parametrize("make", [weight_file, tflite_file, onnx_file])
def test_differences_begin_where_a_number_begins(make):
    """Whatever equal bytes stand before a tensor: a number cut in two carries into its neighbour."""
    rng = np.random.default_rng(4)
    old = [rng.integers(0, 2**32, size, dtype=np.uint64).astype("<u4") for size in (900, 901, 5000, 20_000)]
    base, target = make(old), make([np.arange(77, dtype="<u4"), *(values + 3 for values in old)])
    stretches = [stretch for stretch in align(base, target) if stretch.origin is not None]
    tensors = [part for part in parts_of(target) if part.length >= 4 * 900]
    assert len(tensors) == 4
    for part in tensors:
        (around,) = [each for each in stretches if each.place <= part.offset and part.offset + part.length <= each.end]
        assert (part.offset - around.place) % 4 == 0


@pytest.mark.parametrize("zeros", [0, 1, 254, 255, 256, 510, 511, 100_000])
def test_zeros_at_the_end_of_a_sparse_plane(zeros):
    base = np.random.default_rng(1).integers(0, 256, 300_000 + zeros, dtype=np.uint8).tobytes()
    target = bytearray(base)
    for place in range(0, 300_000, 700):
        target[place] = (target[place] + 1) % 256
    patch = make_patch(base, bytes(target))
    assert applied(patch, base, bytes(target), decoder.apply_patch) == target
    assert len(patch) < 2_000


def test_the_same_files_give_the_same_patch():
    base, target = bytes(range(256)) * 40, bytes(range(255, -1, -1)) * 20 + bytes(range(256)) * 20
    assert make_patch(base, target) == make_patch(base, target)


def test_an_unchanged_file_costs_a_header_and_a_segment():
    content = np.random.default_rng(2).bytes(100_000)
    assert len(make_patch(content, content)) < 200
