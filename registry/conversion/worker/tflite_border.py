"""Another integer type at the border of a quantised `.tflite`: uint8 outside, int8 within.

QUANTIZE between the two with equal scales and zero points 128 apart only flips a bit, so no value changes.
"""

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from registry.conversion.worker.job import WorkerError
from registry.conversion.worker.tflite_packing import packed, unpacked

UNSIGNED_OFFSET = 128


def with_uint8_border(model: bytes) -> bytes:
    """The model with every int8 input and output of its subgraphs' first replaced by a uint8 one of equal meaning.

    Names, also those of signatures, stay with the border. Raises WorkerError where no int8 is found there.
    """
    parsed = unpacked(model)
    graph = parsed.subgraphs[0]
    code = _quantize_code(parsed)
    moved_inputs = {int(index): _unsigned_twin(graph, int(index)) for index in graph.inputs if _is_int8(graph, index)}
    moved_outputs = {int(index): _unsigned_twin(graph, int(index)) for index in graph.outputs if _is_int8(graph, index)}
    if not moved_inputs and not moved_outputs:
        raise WorkerError("no_int8_border", "expected int8 inputs or outputs to give another type; got none")
    before = [_quantize(code, twin, index) for index, twin in moved_inputs.items()]
    after = [_quantize(code, index, twin) for index, twin in moved_outputs.items()]
    graph.operators = [*before, *graph.operators, *after]
    graph.inputs = [moved_inputs.get(int(index), int(index)) for index in graph.inputs]
    graph.outputs = [moved_outputs.get(int(index), int(index)) for index in graph.outputs]
    for signature in parsed.signatureDefs or []:
        if signature.subgraphIndex == 0:
            _point_to(signature.inputs, moved_inputs)
            _point_to(signature.outputs, moved_outputs)
    return packed(parsed)


def _is_int8(graph: Any, index: int) -> bool:
    tensor = graph.tensors[index]
    return bool(tensor.type == schema.TensorType.INT8 and tensor.quantization is not None)


def _unsigned_twin(graph: Any, index: int) -> int:
    """Index of a new uint8 tensor that takes over the name, shape and scale of tensor `index`."""
    inner = graph.tensors[index]
    outer, quantization = schema.TensorT(), schema.QuantizationParametersT()
    quantization.scale = inner.quantization.scale
    quantization.zeroPoint = [int(point) + UNSIGNED_OFFSET for point in inner.quantization.zeroPoint]
    outer.shape, outer.shapeSignature, outer.hasRank = inner.shape, inner.shapeSignature, inner.hasRank
    outer.type, outer.buffer, outer.quantization = schema.TensorType.UINT8, inner.buffer, quantization
    outer.name, inner.name = inner.name, inner.name + b"_int8"
    graph.tensors.append(outer)
    return len(graph.tensors) - 1


def _quantize(code: int, source: int, target: int) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, [source], [target]
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    return operator


def _quantize_code(parsed: Any) -> int:
    """Index of QUANTIZE among the model's operator codes, added where it is missing. Version 2 knows uint8."""
    for index, code in enumerate(parsed.operatorCodes):
        if code.builtinCode == schema.BuiltinOperator.QUANTIZE:
            code.version = max(code.version, 2)
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 2
    parsed.operatorCodes.append(code)
    return len(parsed.operatorCodes) - 1


def _point_to(entries: Any, moved: dict[int, int]) -> None:
    for entry in entries or []:
        entry.tensorIndex = moved.get(int(entry.tensorIndex), entry.tensorIndex)
