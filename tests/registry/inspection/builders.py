"""Source files made by hand, byte by byte where it matters, so that damage can be put exactly where it is wanted."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

HDF5 = b"\x89HDF\r\n\x1a\n" + b"\0" * 100


# ---- .tflite --------------------------------------------------------------------------------------------------------


@dataclass
class TensorPlan:
    name: str
    shape: tuple[int, ...] = (1, 2)
    dtype: int = tflite.TensorType.FLOAT32
    buffer: int = 0
    scales: tuple[float, ...] = ()
    axis: int = 0


@dataclass
class ModelPlan:
    """y = fully_connected(x, w); each member may be replaced by something broken."""

    tensors: list[TensorPlan] = field(
        default_factory=lambda: [TensorPlan("x"), TensorPlan("w", (2, 2), buffer=1), TensorPlan("y")]
    )
    buffers: list[bytes] = field(default_factory=lambda: [b"", np.eye(2, dtype=np.float32).tobytes()])
    operator_codes: list[tuple[int, int]] = field(default_factory=lambda: [(9, 9)])
    custom_code: str | None = None
    operators: list[tuple[int, Sequence[int], Sequence[int]]] = field(default_factory=lambda: [(0, [0, 1], [2])])
    inputs: Sequence[int] = (0,)
    outputs: Sequence[int] = (2,)
    signature: tuple[str, Mapping[str, int], Mapping[str, int], int] | None = None
    version: int = 3
    identifier: bytes = b"TFL3"
    external_buffer: bool = False
    metadata_buffer: int | None = None

    def build(self) -> bytes:
        b = flatbuffers.Builder(1024)
        parts = [
            self._vector(b, tflite.ModelStartBuffersVector, [self._buffer(b, data) for data in self.buffers]),
            self._vector(b, tflite.ModelStartSubgraphsVector, [self._graph(b)]),
            self._vector(
                b, tflite.ModelStartOperatorCodesVector, [self._code(b, code) for code in self.operator_codes]
            ),
        ]
        signatures = (
            self._vector(b, tflite.ModelStartSignatureDefsVector, [self._signature(b)]) if self.signature else None
        )
        metadata = self._metadata(b) if self.metadata_buffer is not None else None
        tflite.ModelStart(b)
        tflite.ModelAddVersion(b, self.version)
        tflite.ModelAddBuffers(b, parts[0])
        tflite.ModelAddSubgraphs(b, parts[1])
        tflite.ModelAddOperatorCodes(b, parts[2])
        if signatures is not None:
            tflite.ModelAddSignatureDefs(b, signatures)
        if metadata is not None:
            tflite.ModelAddMetadata(b, metadata)
        b.Finish(tflite.ModelEnd(b), file_identifier=self.identifier)
        return bytes(b.Output())

    def _vector(self, b: Any, start: Any, offsets: Sequence[int]) -> int:
        start(b, len(offsets))
        for offset in reversed(offsets):
            b.PrependUOffsetTRelative(offset)
        return b.EndVector()

    def _buffer(self, b: Any, data: bytes) -> int:
        content = b.CreateByteVector(data) if data else None
        tflite.BufferStart(b)
        if content is not None:
            tflite.BufferAddData(b, content)
        if self.external_buffer:
            tflite.BufferAddOffset(b, 4096)
            tflite.BufferAddSize(b, 16)
        return tflite.BufferEnd(b)

    def _code(self, b: Any, code: tuple[int, int]) -> int:
        custom = b.CreateString(self.custom_code) if self.custom_code else None
        tflite.OperatorCodeStart(b)
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, code[0])
        tflite.OperatorCodeAddBuiltinCode(b, code[1])
        if custom is not None:
            tflite.OperatorCodeAddCustomCode(b, custom)
        return tflite.OperatorCodeEnd(b)

    def _graph(self, b: Any) -> int:
        tensors = self._vector(b, tflite.SubGraphStartTensorsVector, [self._tensor(b, t) for t in self.tensors])
        operators = self._vector(b, tflite.SubGraphStartOperatorsVector, [self._operator(b, o) for o in self.operators])
        inputs, outputs = self._integers(b, self.inputs), self._integers(b, self.outputs)
        tflite.SubGraphStart(b)
        tflite.SubGraphAddTensors(b, tensors)
        tflite.SubGraphAddOperators(b, operators)
        tflite.SubGraphAddInputs(b, inputs)
        tflite.SubGraphAddOutputs(b, outputs)
        return tflite.SubGraphEnd(b)

    def _integers(self, b: Any, values: Sequence[int]) -> int:
        return b.CreateNumpyVector(np.asarray(values, np.int32))

    def _tensor(self, b: Any, plan: TensorPlan) -> int:
        name, shape = b.CreateString(plan.name), self._integers(b, plan.shape)
        quantization = self._quantization(b, plan) if plan.scales else None
        tflite.TensorStart(b)
        tflite.TensorAddName(b, name)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, plan.dtype)
        tflite.TensorAddBuffer(b, plan.buffer)
        if quantization is not None:
            tflite.TensorAddQuantization(b, quantization)
        return tflite.TensorEnd(b)

    def _quantization(self, b: Any, plan: TensorPlan) -> int:
        scales = b.CreateNumpyVector(np.asarray(plan.scales, np.float32))
        zeros = b.CreateNumpyVector(np.zeros(len(plan.scales), np.int64))
        tflite.QuantizationParametersStart(b)
        tflite.QuantizationParametersAddScale(b, scales)
        tflite.QuantizationParametersAddZeroPoint(b, zeros)
        tflite.QuantizationParametersAddQuantizedDimension(b, plan.axis)
        return tflite.QuantizationParametersEnd(b)

    def _operator(self, b: Any, operator: tuple[int, Sequence[int], Sequence[int]]) -> int:
        code, inputs, outputs = operator
        sides = self._integers(b, inputs), self._integers(b, outputs)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, code)
        tflite.OperatorAddInputs(b, sides[0])
        tflite.OperatorAddOutputs(b, sides[1])
        return tflite.OperatorEnd(b)

    def _signature(self, b: Any) -> int:
        assert self.signature is not None
        key, inputs, outputs, graph = self.signature
        name = b.CreateString(key)
        sides = [
            self._vector(b, start, [self._named(b, n, i) for n, i in side.items()])
            for start, side in (
                (tflite.SignatureDefStartInputsVector, inputs),
                (tflite.SignatureDefStartOutputsVector, outputs),
            )
        ]
        tflite.SignatureDefStart(b)
        tflite.SignatureDefAddInputs(b, sides[0])
        tflite.SignatureDefAddOutputs(b, sides[1])
        tflite.SignatureDefAddSignatureKey(b, name)
        tflite.SignatureDefAddSubgraphIndex(b, graph)
        return tflite.SignatureDefEnd(b)

    def _named(self, b: Any, name: str, index: int) -> int:
        text = b.CreateString(name)
        tflite.TensorMapStart(b)
        tflite.TensorMapAddName(b, text)
        tflite.TensorMapAddTensorIndex(b, index)
        return tflite.TensorMapEnd(b)

    def _metadata(self, b: Any) -> int:
        name = b.CreateString("min_runtime_version")
        tflite.MetadataStart(b)
        tflite.MetadataAddName(b, name)
        tflite.MetadataAddBuffer(b, self.metadata_buffer)
        entry = tflite.MetadataEnd(b)
        return self._vector(b, tflite.ModelStartMetadataVector, [entry])


# ---- archives -------------------------------------------------------------------------------------------------------


def zipped(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def layer(class_name: str, module: str | None = "keras.layers", registered: str | None = None, **config: Any) -> dict:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": registered}


def keras_config(*layers: dict, **members: Any) -> dict[str, Any]:
    entry = layer("InputLayer", batch_shape=[None, 4], dtype="float32", name="x")
    config = {"layers": [entry, *layers], "output_layers": [["y", 0, 0]], **members}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": config,
        "registered_name": None,
    }


def keras_file(config: Any, **members: bytes) -> bytes:
    parts = {
        "metadata.json": json.dumps({"keras_version": "3.15.1"}).encode(),
        "config.json": config if isinstance(config, bytes) else json.dumps(config).encode(),
        "model.weights.h5": HDF5,
    }
    return zipped({**parts, **members})


# ---- protocol buffers -----------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(*fields: tuple[int, bytes | str | int]) -> bytes:
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def tensor_info(sizes: Sequence[int], dtype: int = 1) -> bytes:
    shape = message(*((2, message((1, size))) for size in sizes))
    return message((1, "tensor:0"), (2, dtype), (3, shape))


def saved_model(
    operations: Sequence[str] = ("MatMul",), inner: Sequence[str] = (), key: str = "serving_default"
) -> bytes:
    """saved_model.pb: a graph, a function in its library, one signature x (?, 4) -> y (?, 2)."""
    nodes = [(1, message((1, f"n{i}"), (2, operation))) for i, operation in enumerate(operations)]
    function = message(*((3, message((2, operation))) for operation in inner))
    graph = message(*nodes, (2, message((1, function))))
    signature = message(
        (1, message((1, "x"), (2, tensor_info([-1, 4])))), (2, message((1, "y"), (2, tensor_info([-1, 2]))))
    )
    meta_graph = message((2, graph), (5, message((1, key), (2, signature))))
    return message((1, 1), (2, meta_graph))


# ---- Core ML --------------------------------------------------------------------------------------------------------


def mil_type(sizes: Sequence[int], dtype: int = 11) -> bytes:
    """A tensor of MIL.proto; 11 is float32, 2 a string."""
    dimensions = [(3, message((1, message((1, size))))) for size in sizes]
    return message((1, message((1, dtype), (2, len(sizes)), *dimensions)))


def mil_named(name: str, value_type: bytes) -> bytes:
    return message((1, name), (2, value_type))


def mil_blob(offset: int, file: str = "@model_path/weights/weight.bin", sizes: Sequence[int] = (1, 2)) -> bytes:
    return message((2, mil_type(sizes)), (5, message((1, file), (2, offset))))


def mil_operation(
    name: str, inputs: Mapping[str, str], output: bytes, value: bytes = b"", blocks: bytes = b""
) -> bytes:
    arguments = [(2, message((1, key), (2, message((1, message((1, one))))))) for key, one in inputs.items()]
    attributes = [(5, message((1, "val"), (2, value)))] if value else []
    inner = [(4, blocks)] if blocks else []
    return message((1, name), *arguments, (3, output), *inner, *attributes)


def mil_program(*operations: bytes, opset: str = "CoreML6") -> bytes:
    block = message((2, "y"), *((3, operation) for operation in operations))
    function = message((1, mil_named("x", mil_type((1, 2)))), (2, opset), (3, message((1, opset), (2, block))))
    return message((1, 1), (2, message((1, "main"), (2, function))))


ADDITION = (
    mil_operation("const", {}, mil_named("w", mil_type((1, 2))), mil_blob(64)),
    mil_operation("add", {"x": "x", "y": "w"}, mil_named("y", mil_type((1, 2)))),
)


def array_feature(name: str, sizes: Sequence[int] = (1, 2), dtype: int = 65568, text: str = "") -> bytes:
    array = message(*((1, size) for size in sizes), (2, dtype))
    return message((1, name), *([(2, text)] if text else []), (3, message((5, array))))


def coreml_model(
    program: bytes | None = None, *, version: int = 7, more: Sequence[tuple[int, bytes | int]] = (), kind: int = 502
) -> bytes:
    """A specification: y = x + w as an ML program, or what is put in its place."""
    entries = message((1, "by Ada"), (2, "3"), (3, "Ada"), (4, "MIT"), (100, message((1, "mean"), (2, "127.5"))))
    description = message((1, array_feature("x", text="a picture")), (10, array_feature("y")), (100, entries))
    return message(
        (1, version), (2, description), *more, (kind, mil_program(*ADDITION) if program is None else program)
    )


def weight_file(count: int = 2, length: int | None = None) -> bytes:
    data = np.ones(count, np.float32).tobytes()
    described = struct.pack("<IIQQ", 0xDEADBEEF, 2, len(data) if length is None else length, 128)
    return struct.pack("<II", 1, 2).ljust(64, b"\0") + described.ljust(64, b"\0") + data


def coreml_manifest(**changes: Any) -> bytes:
    items = {
        number: {"author": "com.apple.CoreML", "description": "", "name": name, "path": f"com.apple.CoreML/{name}"}
        for number, name in (("1", "model.mlmodel"), ("2", "weights"))
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": "1"}
    return json.dumps(manifest | changes).encode()


def coreml_package(model: bytes | None = None, weights: bytes | None = None, **members: bytes) -> dict[str, bytes]:
    data = "Data/com.apple.CoreML"
    return {
        "m.mlpackage/Manifest.json": coreml_manifest(),
        f"m.mlpackage/{data}/model.mlmodel": coreml_model() if model is None else model,
        f"m.mlpackage/{data}/weights/weight.bin": weight_file() if weights is None else weights,
        **members,
    }


# ---- ONNX -----------------------------------------------------------------------------------------------------------


def onnx_value(name: str, sizes: Sequence[int | str] = ("n", 2), dtype: int = 1) -> bytes:
    dimensions = [(1, message((2, size) if isinstance(size, str) else (1, size))) for size in sizes]
    return message((1, name), (2, message((1, message((1, dtype), (2, message(*dimensions)))))))


def onnx_tensor(name: str = "w", sizes: Sequence[int] = (2, 2), raw: bytes | None = None, **more: Any) -> bytes:
    data = np.eye(*sizes, dtype=np.float32).tobytes() if raw is None else raw
    return message(*((1, size) for size in sizes), (2, 1), (8, name), (9, data), *more.get("fields", ()))


def onnx_node(name: str, inputs: Sequence[str], outputs: Sequence[str], *more: tuple[int, bytes | str | int]) -> bytes:
    return message(*((1, one) for one in inputs), *((2, one) for one in outputs), (4, name), *more)


def onnx_model(
    nodes: Sequence[bytes] | None = None,
    *,
    tensor: bytes | None = None,
    opsets: Sequence[tuple[str, int]] = (("", 18),),
    graph_fields: Sequence[tuple[int, bytes]] = (),
    fields: Sequence[tuple[int, bytes | str | int]] = (),
    ir_version: int = 9,
) -> bytes:
    """y = relu(x w), or what is put in its place."""
    plain = [onnx_node("MatMul", ["x", "w"], ["h"]), onnx_node("Relu", ["h"], ["y"])]
    graph = message(
        *((1, node) for node in (plain if nodes is None else nodes)),
        (2, "g"),
        (5, onnx_tensor() if tensor is None else tensor),
        (11, onnx_value("x")),
        (12, onnx_value("y")),
        *graph_fields,
    )
    sets = [(8, message((1, domain), (2, version))) for domain, version in opsets]
    return message((1, ir_version), (2, "tests"), (7, graph), *sets, *fields)
