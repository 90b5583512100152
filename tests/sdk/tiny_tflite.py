"""A real .tflite file of one fully connected layer, written with LiteRT's own schema: no TensorFlow needed."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

DTYPES = {np.dtype(np.float32): schema.TensorType.FLOAT32, np.dtype(np.int8): schema.TensorType.INT8}
INT32 = schema.TensorType.INT32


def float_model(weights: np.ndarray) -> bytes:
    """y = x · weightsᵀ; `weights` float32 (outputs, inputs)."""
    return build(
        weights.astype(np.float32), np.zeros(len(weights), np.float32), np.dtype(np.float32), (None, None, None)
    )


def int8_model(weights: np.ndarray, input_scale: float, output_scale: float) -> bytes:
    """The same with int8 input, weights and output, all symmetric: what `tflite-full-int8` looks like from outside."""
    scale = float(np.abs(weights).max()) / 127
    quantised = np.round(weights / scale).astype(np.int8)
    bias = np.zeros(len(weights), np.int32)
    return build(quantised, bias, np.dtype(np.int8), (input_scale, scale, output_scale))


def build(weights: np.ndarray, bias: np.ndarray, dtype: np.dtype, scales: tuple) -> bytes:
    input_scale, weight_scale, output_scale = scales
    bias_scale = input_scale * weight_scale if input_scale else None
    bias_type = INT32 if bias.dtype == np.int32 else schema.TensorType.FLOAT32
    subgraph = schema.SubGraphT()
    subgraph.tensors = [
        tensor("image", (1, weights.shape[1]), DTYPES[dtype], 0, input_scale),
        tensor("weights", weights.shape, DTYPES[dtype], 1, weight_scale),
        tensor("bias", bias.shape, bias_type, 2, bias_scale),
        tensor("score", (1, weights.shape[0]), DTYPES[dtype], 0, output_scale),
    ]
    subgraph.inputs, subgraph.outputs, subgraph.operators = [0], [3], [fully_connected()]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4 if dtype == np.int8 else 1
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [subgraph]
    model.buffers = [buffer(b""), buffer(weights.tobytes()), buffer(bias.tobytes())]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def tensor(name: str, shape: tuple, dtype: int, buffer_index: int, scale: float | None) -> "schema.TensorT":
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name, list(shape), dtype, buffer_index
    if scale:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = [scale], [0]
    return made


def fully_connected() -> "schema.OperatorT":
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = 0, [0, 1, 2], [3]
    made.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    made.builtinOptions = schema.FullyConnectedOptionsT()
    return made


def buffer(data: bytes) -> "schema.BufferT":
    made = schema.BufferT()
    made.data = list(data)
    return made
