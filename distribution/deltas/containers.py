"""Where the tensors lie in a model file: flatbuffer buffers, blobs of Core ML's weight.bin, initialisers of ONNX.

Nothing here may fail: a file that cannot be read has no parts, and is matched byte by byte.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite

from registry.inspection.budget import Budget
from registry.inspection.errors import InspectionError
from registry.inspection.wire import Message

SMALLEST_PART = 64  # bytes; what is smaller is left to byte matching
MOST_PARTS = 20_000
BLOB_SENTINEL = 0xDEADBEEF
BLOB_HEADER = struct.Struct("<IIQQ")
BLOB_ALIGNMENT = 64
TFLITE_WIDTHS = {0: 4, 1: 2, 2: 4, 7: 2}  # tflite.TensorType: float32, float16, int32, int16; others are bytes
COREML_WIDTHS = {1: 2, 2: 4, 5: 2, 6: 2, 7: 2}  # BlobDataType: float16, float32, bfloat16, int16, uint16
ONNX_WIDTHS = {1: 4, 4: 2, 5: 2, 6: 4, 10: 2, 12: 4, 16: 2}  # TensorProto.DataType
ONNX_GRAPH, ONNX_INITIALISER, ONNX_DIMS, ONNX_TYPE, ONNX_NAME, ONNX_RAW = 7, 5, 1, 2, 8, 9
DAMAGE = (struct.error, IndexError, ValueError, TypeError, KeyError, AttributeError, OverflowError, InspectionError)


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor's bytes in the file. `label`: what else must be equal for two to be the same tensor, if known.

    `width`: bytes of one element, 1, 2 or 4, as declared; the encoder may find another one cheaper.
    """

    offset: int
    length: int
    width: int = 1
    label: str = ""


def parts_of(content: bytes) -> list[Part]:
    """In the order of the file, none overlapping another. Empty for a file of no known kind or a damaged one."""
    reader = _tflite_parts if content[4:8] == b"TFL3" else _weight_parts if _is_weight_file(content) else _onnx_parts
    try:
        found = sorted(reader(content), key=lambda part: part.offset)
    except DAMAGE:
        return []
    return _distinct(found, len(content))[:MOST_PARTS]


def weight_blobs(content: bytes) -> Iterator[tuple[int, int]]:
    """(offset, length) of the data of each blob of a weight.bin, whose header of 64 bytes stands right before it."""
    return ((part.offset, part.length) for part in _weight_parts(content))


def _distinct(parts: list[Part], size: int) -> list[Part]:
    kept: list[Part] = []
    end = 0
    for part in parts:
        if end <= part.offset and part.offset + part.length <= size and part.length >= SMALLEST_PART:
            kept.append(part)
            end = part.offset + part.length
    return kept


def _is_weight_file(content: bytes) -> bool:
    head = content[BLOB_ALIGNMENT : BLOB_ALIGNMENT + 4]
    return head == BLOB_SENTINEL.to_bytes(4, "little")


def _weight_parts(content: bytes) -> Iterator[Part]:
    """Each blob: sentinel, data type, size and offset in a header of 64 bytes, its data, padding to 64."""
    place = BLOB_ALIGNMENT
    while place + BLOB_HEADER.size <= len(content):
        sentinel, kind, length, offset = BLOB_HEADER.unpack_from(content, place)
        if sentinel != BLOB_SENTINEL or offset <= place:
            return
        yield Part(offset, length, COREML_WIDTHS.get(kind, 1))
        place = -(-(offset + length) // BLOB_ALIGNMENT) * BLOB_ALIGNMENT


def _tflite_parts(content: bytes) -> Iterator[Part]:
    model: Any = tflite.Model.GetRootAs(content, 0)
    tensors = dict(_tensors_by_buffer(model))
    for index in range(min(model.BuffersLength(), MOST_PARTS)):
        yield Part(*_buffer_place(model.Buffers(index)), *tensors.get(index, (1, "")))


def _buffer_place(buffer: Any) -> tuple[int, int]:
    """Behind the flatbuffer where the table gives an offset of more than 1, else inside it."""
    if buffer.Offset() > 1:
        return buffer.Offset(), buffer.Size()
    table = buffer._tab  # noqa: SLF001 - its readers copy; we need the place
    slot = table.Offset(4)
    return (table.Vector(slot), table.VectorLen(slot)) if slot else (0, 0)


def _tensors_by_buffer(model: Any) -> Iterator[tuple[int, tuple[int, str]]]:
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for index in range(min(graph.TensorsLength(), MOST_PARTS)):
            tensor = graph.Tensors(index)
            shape = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
            yield tensor.Buffer(), (TFLITE_WIDTHS.get(tensor.Type(), 1), f"{tensor.Name()!r} {shape}")


def _onnx_parts(content: bytes) -> Iterator[Part]:
    start = np.frombuffer(content, np.uint8).ctypes.data
    root = Message(memoryview(content), Budget(1_000_000, "damaged_onnx"))
    for graph in root.messages(ONNX_GRAPH):
        for tensor in graph.messages(ONNX_INITIALISER):
            parts = tensor.parts()
            raw = parts.last(ONNX_RAW).data
            if len(raw):
                place = np.frombuffer(raw, np.uint8).ctypes.data - start
                label = f"{parts.text(ONNX_NAME)!r} {parts.integers(ONNX_DIMS)}"
                yield Part(place, len(raw), ONNX_WIDTHS.get(parts.integer(ONNX_TYPE), 1), label)
