"""Small files of each container, written here by hand: tensors in, bytes out."""

import struct

import flatbuffers
import numpy as np

TFLITE_TYPES = {1: 3, 2: 7, 4: 2}  # width -> UINT8, INT16, INT32
ONNX_TYPES = {1: 2, 2: 5, 4: 6}  # width -> UINT8, INT16, INT32
COREML_TYPES = {1: 3, 2: 7, 4: 2}  # width -> UINT8, UINT16, FLOAT32


def weight_file(tensors):
    """Core ML's weight.bin, version 2."""
    out = bytearray(struct.pack("<II56x", len(tensors), 2))
    for tensor in tensors:
        content = tensor.tobytes()
        kind = COREML_TYPES[tensor.dtype.itemsize]
        out += struct.pack("<IIQQ40x", 0xDEADBEEF, kind, len(content), len(out) + 64)
        out += content + bytes(-len(content) % 64)
    return bytes(out)


def onnx_file(tensors):
    """A ModelProto with a graph of initialisers and nothing else."""
    initialisers = b"".join(
        _field(5, _number(1, tensor.size) + _number(2, ONNX_TYPES[tensor.dtype.itemsize]) + _field(9, tensor.tobytes()))
        for tensor in tensors
    )
    return _number(1, 8) + _field(7, initialisers)


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _field(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number, value):
    return _varint(number << 3) + _varint(value)


def tflite_file(tensors):
    """A flatbuffer of one subgraph without operators: a tensor and a buffer for each array."""
    builder = flatbuffers.Builder(1 << 16)
    rows = [builder.CreateNumpyVector(np.frombuffer(tensor.tobytes(), np.uint8)) for tensor in tensors]
    buffers = [_table(builder, 3, {})] + [_table(builder, 3, {0: row}) for row in rows]
    tables = []
    for index, tensor in enumerate(tensors):
        shape = builder.CreateNumpyVector(np.array([tensor.size], np.int32))
        name = builder.CreateString(f"t{tensor.size}")
        builder.StartObject(4)
        builder.PrependUOffsetTRelativeSlot(0, shape, 0)
        builder.PrependInt8Slot(1, TFLITE_TYPES[tensor.dtype.itemsize], 0)
        builder.PrependUint32Slot(2, index + 1, 0)
        builder.PrependUOffsetTRelativeSlot(3, name, 0)
        tables.append(builder.EndObject())
    graph = _table(builder, 1, {0: _vector(builder, tables)})
    graphs, stored = _vector(builder, [graph]), _vector(builder, buffers)
    builder.StartObject(5)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(2, graphs, 0)
    builder.PrependUOffsetTRelativeSlot(4, stored, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _table(builder, slots, offsets):
    builder.StartObject(slots)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return builder.EndObject()


def _vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
