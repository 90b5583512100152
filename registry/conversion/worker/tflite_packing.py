"""A `.tflite` as objects that can be changed, and back to bytes, with every buffer inside the flatbuffer.

ai-edge-quantizer writes the buffers of larger models behind the flatbuffer, which older runtimes and most tools do not
know, and which our own inspection refuses.
"""

from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
FIRST_REAL_OFFSET = 2  # 0 and 1 mean that a buffer's bytes lie inside the flatbuffer
DATA_ALIGNMENT = 16  # what the schema promises to kernels that read buffers in place


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """The generated writer forgets the alignment that the schema demands of a buffer's data."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802 the generated reader's name
        data = None if self.data is None else np.asarray(self.data, np.uint8).tobytes()
        if data is not None:
            builder.StartVector(1, len(data), DATA_ALIGNMENT)
            builder.head = builder.Head() - len(data)
            builder.Bytes[builder.Head() : builder.Head() + len(data)] = data
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def unpacked(model: bytes) -> Any:
    """The file's `ModelT`; buffers that lie behind the flatbuffer are brought in."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    parsed.buffers = [_inside(buffer, model) for buffer in parsed.buffers]
    return parsed


def _inside(buffer: Any, model: bytes) -> _AlignedBuffer:
    inner = _AlignedBuffer()
    inner.data = buffer.data
    if buffer.offset >= FIRST_REAL_OFFSET:
        inner.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
    return inner


def packed(parsed: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(parsed.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def self_contained(model: bytes) -> bytes:
    """The same file where nothing lies behind the flatbuffer, otherwise one where nothing does."""
    outside = any(
        schema.Model.GetRootAs(model, 0).Buffers(index).Offset() >= FIRST_REAL_OFFSET
        for index in range(schema.Model.GetRootAs(model, 0).BuffersLength())
    )
    return packed(unpacked(model)) if outside else model
