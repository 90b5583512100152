"""The `constexpr_*` operations: weights as a Core ML package stores them, turned into the numbers they stand for.

Up to iOS 17 indices and masks are packed into bytes, lowest bit first, and the weight's shape is an argument; since
iOS 18 they are arrays of one element per weight, and tables, scales and offsets are repeated over equal blocks.
Parameters and formulas: the MIL op reference of coremltools (iOS16.constexpr_ops, iOS18.compression).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Values = Mapping[str, Any]


def unpacked(packed: Array, bits: int, count: int) -> Array:
    """`count` unsigned numbers of `bits` bits each, from bytes whose lowest bit comes first."""
    rows = np.unpackbits(np.asarray(packed, np.uint8), bitorder="little", count=bits * count).reshape(count, bits)
    return np.asarray(rows.astype(np.int64) @ (1 << np.arange(bits)))


def repeated(blocks: Array, shape: tuple[int, ...]) -> Array:
    """Every leading axis of `blocks` stretched to that of `shape`, each entry repeated; further axes stay."""
    for axis, size in enumerate(shape):
        blocks = np.repeat(blocks, size // blocks.shape[axis], axis=axis)
    return blocks


def affine_dequantize(v: Values) -> Any:
    """(stored - zero point) * scale, both scalars or one per channel on `axis`."""
    stored = np.asarray(v["quantized_data"], np.float32)
    per_channel = [1] * stored.ndim
    per_channel[int(v["axis"])] = -1
    zero_point = np.asarray(v["zero_point"], np.float32).reshape(per_channel)
    return (stored - zero_point) * np.asarray(v["scale"], np.float32).reshape(per_channel)


def blockwise_shift_scale(v: Values) -> Any:
    """(stored - offset) * scale, both repeated over blocks."""
    return _scaled(np.asarray(v["data"], np.float32), v, np.asarray(v["data"]).shape)


def _scaled(stored: Array, v: Values, shape: tuple[int, ...], chosen: Any = ...) -> Array:
    offset = v.get("offset")
    if offset is not None:
        stored = stored - repeated(np.asarray(offset, np.float32), shape)[chosen]
    return np.asarray(stored * repeated(np.asarray(v["scale"], np.float32), shape)[chosen])


def lut_to_dense(v: Values) -> Any:
    table = np.asarray(v["lut"])
    if v.get("shape") is not None:
        shape = tuple(int(size) for size in v["shape"])
        bits = len(table).bit_length() - 1
        return table[unpacked(v["indices"], bits, int(np.prod(shape)))].reshape(shape)
    return _looked_up(np.asarray(v["indices"]), table, v.get("vector_axis"))


def _looked_up(indices: Array, table: Array, vector_axis: Any) -> Array:
    """`table` is (blocks of each axis…, entries, vector); a vector lies along `vector_axis` of the result."""
    entries, vector = table.shape[-2:]
    tables = repeated(table, indices.shape).reshape(-1, entries, vector)
    rows = tables[np.arange(len(tables)), indices.astype(np.int64).ravel()].reshape(*indices.shape, vector)
    if vector == 1:
        return rows[..., 0]
    axis = int(vector_axis) % indices.ndim
    shape = tuple(size * vector if i == axis else size for i, size in enumerate(indices.shape))
    return np.moveaxis(rows, -1, axis + 1).reshape(shape)


def sparse_to_dense(v: Values) -> Any:
    mask = np.asarray(v["mask"])
    if v.get("shape") is not None:
        shape = tuple(int(size) for size in v["shape"])
        mask = unpacked(mask, 1, int(np.prod(shape))).reshape(shape)
    return _spread(np.asarray(v["nonzero_data"]), mask)


def _spread(values: Array, mask: Array) -> Array:
    result = np.zeros(mask.shape, values.dtype)
    result[mask != 0] = values
    return result


def lut_to_sparse(v: Values) -> Any:
    """The mask of the weight, and its values where the mask is set, in order."""
    mask = np.asarray(v["indices_mask"])
    indices = _spread(np.asarray(v["indices_nonzero_data"], np.int64), mask)
    table = np.asarray(v["lut"])
    vector = table.shape[-1]
    if vector > 1:
        mask = np.repeat(mask, vector, axis=int(v["vector_axis"]))
    return mask, _looked_up(indices, table, v.get("vector_axis"))[mask != 0]


def sparse_blockwise_shift_scale(v: Values) -> Any:
    mask = np.asarray(v["data_mask"])
    return mask, _scaled(np.asarray(v["nonzero_data"], np.float32), v, mask.shape, mask != 0)


CONSTANT_OPERATIONS: Mapping[str, Callable[[Values], Any]] = MappingProxyType(
    {
        "constexpr_affine_dequantize": affine_dequantize,
        "constexpr_blockwise_shift_scale": blockwise_shift_scale,
        "constexpr_cast": lambda v: v["source_val"],  # the declared output type does it
        "constexpr_lut_to_dense": lut_to_dense,
        "constexpr_lut_to_sparse": lut_to_sparse,
        "constexpr_sparse_blockwise_shift_scale": sparse_blockwise_shift_scale,
        "constexpr_sparse_to_dense": sparse_to_dense,
    }
)
