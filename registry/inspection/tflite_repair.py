"""One known defect of old converters, mended without touching anything else.

TensorFlow before 2.2 wrote biases that are quantised along axis 3 though they have one axis. Microcontroller runtimes
ignore the number; LiteRT 2 refuses the file. A bias has one scale per channel, so the axis can only be the one whose
size is the number of scales.
"""

import struct
from pathlib import Path
from typing import Any

import tflite

from registry.inspection.errors import InspectionError

AXIS_SLOT = 16  # vtable offset of QuantizationParameters.quantized_dimension in the schema
_INT32 = struct.Struct("<i")


def repaired_axes(path: Path) -> bytes:
    """The file's bytes with every impossible quantisation axis set to the only possible one.

    `path` is a file that `inspect_tflite` accepted. The same length and all other bytes as before. Raises
    InspectionError where not exactly one axis has as many entries as there are scales.
    """
    content = bytearray(path.read_bytes())
    model = tflite.Model.GetRootAsModel(content, 0)
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for index in range(graph.TensorsLength()):
            _repair(graph.Tensors(index), content)
    return bytes(content)


def _repair(tensor: Any, content: bytearray) -> None:
    quantization = tensor.Quantization()
    scales = quantization.ScaleLength() if quantization is not None else 0
    shape = [int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength())]
    if scales <= 1 or 0 <= quantization.QuantizedDimension() < len(shape):
        return
    possible = [axis for axis, size in enumerate(shape) if size == scales]
    if len(possible) != 1:
        name = (tensor.Name() or b"").decode("utf-8", "replace")
        raise InspectionError("quantised_axis", f"one axis of {name!r} with {scales} entries", f"shape {shape}")
    table = quantization._tab  # noqa: SLF001 - the generated reader has no setters
    _INT32.pack_into(content, table.Offset(AXIS_SLOT) + table.Pos, possible[0])
