import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from registry.conversion.worker.mil_weights import CONSTANT_OPERATIONS, unpacked
from registry.conversion.worker.palettes import nearest, palette

WEIGHTS = arrays(np.float16, st.integers(1, 300), elements=st.floats(-2, 2, width=16))


@given(WEIGHTS, st.sampled_from([2, 4, 16]))
def test_a_table_is_ascending_and_as_long_as_asked_for(values, entries: int) -> None:
    table = palette(values, entries)
    assert len(table) == entries
    assert (np.diff(table) >= 0).all()
    assert values.min() - 1e-6 <= table[0] <= table[-1] <= values.max() + 1e-6


@given(WEIGHTS, st.sampled_from([2, 4, 16]))
def test_every_value_takes_its_nearest_entry(values, entries: int) -> None:
    table = palette(values, entries)
    taken = np.abs(values - table[nearest(values, table)])
    assert np.allclose(taken, np.abs(values[:, None] - table).min(axis=1))


@given(WEIGHTS)
def test_order_does_not_matter(values) -> None:
    assert palette(values, 4).tobytes() == palette(values[::-1], 4).tobytes()


def test_few_values_are_kept_as_they_are() -> None:
    assert palette(np.array([3.0, 1.0, 1.0]), 4).tolist() == [1.0, 3.0, 3.0, 3.0]


def test_nothing_makes_no_table() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        palette(np.zeros(0), 4)


@given(st.sampled_from([1, 2, 4, 6, 8]), st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_packed_numbers_come_back(bits: int, numbers: list[int]) -> None:
    wanted = [number % 2**bits for number in numbers]
    rows = [[number >> bit & 1 for bit in range(bits)] for number in wanted]
    packed = np.packbits(np.array(rows, np.uint8).ravel(), bitorder="little")
    assert unpacked(packed, bits, len(wanted)).tolist() == wanted


MASK = np.array([[1, 0], [0, 1]])
TABLE = np.array([10.0, 20.0])


@pytest.mark.parametrize(
    ("operation", "arguments", "expected"),
    [
        (
            "constexpr_affine_dequantize",
            {"quantized_data": [[1, 2], [3, 4]], "zero_point": [1, 2], "scale": [0.5, 2.0], "axis": 0},
            [[0, 0.5], [2, 4]],
        ),
        (
            "constexpr_blockwise_shift_scale",
            {"data": [[1, 2, 3, 4]], "scale": [[1.0, 10.0]], "offset": [[1, 0]]},
            [[0, 1, 30, 40]],
        ),
        ("constexpr_lut_to_dense", {"indices": [0b0110], "lut": TABLE, "shape": [2, 2]}, [[10, 20], [20, 10]]),
        (
            "constexpr_lut_to_dense",
            {"indices": [[0, 1], [1, 0]], "lut": np.array([1.0, 2, 3, 4]).reshape(2, 1, 2, 1)},
            [[1, 2], [4, 3]],
        ),
        (
            "constexpr_lut_to_dense",
            {"indices": [[1], [0]], "lut": np.array([1.0, 2, 3, 4]).reshape(1, 1, 2, 2), "vector_axis": 0},
            [[3], [4], [1], [2]],
        ),
        ("constexpr_sparse_to_dense", {"nonzero_data": TABLE, "mask": [0b1001], "shape": [2, 2]}, [[10, 0], [0, 20]]),
        ("constexpr_sparse_to_dense", {"nonzero_data": TABLE, "mask": MASK}, [[10, 0], [0, 20]]),
    ],
)
def test_stored_weights_become_numbers(operation: str, arguments: dict, expected: list) -> None:
    assert np.asarray(CONSTANT_OPERATIONS[operation](arguments)).tolist() == expected


def test_a_sparse_weight_by_table_keeps_its_mask() -> None:
    given = {"indices_mask": MASK, "indices_nonzero_data": [1, 0], "lut": TABLE.reshape(1, 1, 2, 1)}
    mask, kept = CONSTANT_OPERATIONS["constexpr_lut_to_sparse"](given)
    assert mask.tolist() == MASK.tolist()
    assert kept.tolist() == [20, 10]


def test_a_sparse_weight_of_integers_is_scaled_where_it_is_stored() -> None:
    given = {"data_mask": MASK, "nonzero_data": [3, 5], "scale": [[2.0], [10.0]], "offset": None}
    mask, kept = CONSTANT_OPERATIONS["constexpr_sparse_blockwise_shift_scale"](given)
    assert mask.tolist() == MASK.tolist()
    assert kept.tolist() == [6, 50]
