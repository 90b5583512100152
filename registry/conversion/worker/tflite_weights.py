"""The weights of a `.tflite` as arrays over the file's own bytes: what is written to them is written to the file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[Any]

# Operator -> which of its inputs are weights. Biases are few and stay as they are.
_WEIGHT_INPUTS: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {
        schema.BuiltinOperator.CONV_2D: (1,),
        schema.BuiltinOperator.DEPTHWISE_CONV_2D: (1,),
        schema.BuiltinOperator.TRANSPOSE_CONV: (1,),
        schema.BuiltinOperator.CONV_3D: (1,),
        schema.BuiltinOperator.FULLY_CONNECTED: (1,),
        schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM: tuple(range(1, 9)),
    }
)
_CHANNEL_IS_LAST = frozenset({schema.BuiltinOperator.DEPTHWISE_CONV_2D})
_DTYPES: Mapping[int, str] = MappingProxyType({schema.TensorType.FLOAT32: "<f4", schema.TensorType.INT8: "|i1"})


@dataclass(frozen=True)
class WeightTensor:
    """`values` has the tensor's shape; `channel_axis` is the one along which int8 weights have their scales."""

    name: str
    values: Array
    channel_axis: int


def weights_of(model: bytearray | bytes) -> Iterator[WeightTensor]:
    """Each float32 or int8 constant that is a weight of an operator, once; writable where `model` is a bytearray.

    `model` is a file that inspection accepted.
    """
    parsed = schema.Model.GetRootAs(model, 0)
    seen: set[int] = set()
    for number in range(parsed.SubgraphsLength()):
        graph = parsed.Subgraphs(number)
        for position in range(graph.OperatorsLength()):
            operator = graph.Operators(position)
            code = _operator_code(parsed, operator)
            for place in _WEIGHT_INPUTS.get(code, ()):
                if place < operator.InputsLength() and operator.Inputs(place) >= 0:
                    tensor = graph.Tensors(operator.Inputs(place))
                    found = _constant(parsed, tensor, seen, last=code in _CHANNEL_IS_LAST)
                    if found is not None:
                        yield found


def _operator_code(parsed: Any, operator: Any) -> int:
    code = parsed.OperatorCodes(operator.OpcodeIndex())
    return max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))


def _constant(parsed: Any, tensor: Any, seen: set[int], *, last: bool) -> WeightTensor | None:
    dtype, buffer = _DTYPES.get(tensor.Type()), parsed.Buffers(tensor.Buffer())
    if dtype is None or not buffer.DataLength() or tensor.Buffer() in seen:
        return None
    seen.add(tensor.Buffer())
    shape = tuple(int(size) for size in tensor.ShapeAsNumpy())
    values = buffer.DataAsNumpy().view(np.dtype(dtype)).reshape(shape)
    return WeightTensor((tensor.Name() or b"").decode("utf-8", "replace"), values, len(shape) - 1 if last else 0)


def zero_share(weights: Array) -> float:
    """Share of entries that are exactly zero, 0..1."""
    return float(np.mean(weights == 0)) if weights.size else 0.0
