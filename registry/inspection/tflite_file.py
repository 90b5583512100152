"""`.tflite` files: the flatbuffer read as data, and a static check of what crashes an interpreter.

The check reduces what reaches a runtime, it does not replace the subprocess: of 28 crashes of crafted files it was
seen to refuse 26.
"""

import mmap
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import tflite

from registry.inspection.budget import Budget
from registry.inspection.errors import InspectionError
from registry.inspection.source import Operator, SourceInspection, TensorInfo
from registry.inspection.tflite_metadata import MAX_METADATA_BYTES, METADATA_NAME, associated_files, read_metadata

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
MAX_ITEMS = 200_000
MAX_PARTS = 1_000_000  # entries of all lists together; some seconds to read
SCALES_PER_PART = 16  # not read here, but a runtime copies them for each tensor
MAX_SUBGRAPHS = 64
MAX_RANK = 8
FIRST_REAL_OFFSET = 2  # 0 and 1 mean that a buffer's bytes lie inside the flatbuffer
WIDE_CODE_SLOT = 10
DAMAGE = (struct.error, IndexError, ValueError, TypeError, KeyError, AttributeError, OverflowError, UnicodeDecodeError)

OPERATORS: Mapping[int, str] = MappingProxyType(
    {value: name for name, value in vars(tflite.BuiltinOperator).items() if not name.startswith("_")}
)
# State that outlives a call, other runtimes' extensions, and what an empty conversion leaves behind.
REFUSED_OPERATORS = frozenset(
    """
    CUSTOM DELEGATE PLACEHOLDER_FOR_GREATER_OP_CODES CALL CALL_ONCE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE HASHTABLE
    HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE
    """.split()  # noqa: SIM905 a table of words reads better
)
TYPES: Mapping[int, str] = MappingProxyType(
    {value: name.lower() for name, value in vars(tflite.TensorType).items() if not name.startswith("_")}
)
ITEM_BITS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 64),
        **dict.fromkeys(("float32", "int32", "uint32"), 32),
        **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 16),
        **dict.fromkeys(("int8", "uint8", "bool"), 8),
        "int4": 4,
    }
)
FEEDABLE = frozenset({"float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"})
QUANTISED = frozenset({"int4", "int8", "uint8", "int16"})
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
WEIGHT_INTEGERS = frozenset({"int2", "int4", "int8", "uint8", "int16", "int32", "int64"})  # biases have 32 or 64 bits


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    open_sizes: tuple[int, ...]
    dtype: str
    buffer: int
    scale_count: int
    scale: float | None  # the first
    zero_point: int | None
    quantised_axis: int
    variable: bool
    sparse: bool


def inspect_tflite(path: Path) -> SourceInspection:
    """Inputs, outputs, operators and quantisation of a `.tflite` file. Raises InspectionError."""
    with path.open("rb") as stream:
        # Closed when the last reader lets go of it; read in place, for a file may be larger than memory is free.
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    if data[4:8] != IDENTIFIER:
        raise InspectionError("not_tflite", "a .tflite file (TFL3 at byte 4)", repr(data[:8]))
    try:
        return _inspect(data, Budget(MAX_PARTS, "damaged_tflite"))
    except InspectionError:
        raise
    except DAMAGE as error:
        raise InspectionError("damaged_tflite", "an intact flatbuffer", f"{type(error).__name__}: {error}") from error


def _inspect(data: mmap.mmap, budget: Budget) -> SourceInspection:
    model: Any = tflite.Model.GetRootAs(data, 0)
    if model.Version() != SCHEMA_VERSION:
        raise InspectionError("tflite_version", f"schema version {SCHEMA_VERSION}", str(model.Version()))
    operators, versions = _operators(model, budget)
    graphs = [
        _tensors(model.Subgraphs(index), budget)
        for index in range(_count(budget, model.SubgraphsLength(), MAX_SUBGRAPHS))
    ]
    if not graphs:
        raise InspectionError("damaged_tflite", "at least one subgraph", "none")
    buffers = _buffer_sizes(model, budget)
    used: Counter[int] = Counter()
    for index, tensors in enumerate(graphs):
        _require_constants(tensors, buffers)
        used.update(_require_order(model.Subgraphs(index), tensors, operators, buffers, budget))
    signatures = _signatures(model, graphs, budget)
    numbered = Counter({(operators[number], str(versions[number])): 0 for number in used})
    for number, count in used.items():
        numbered[operators[number], str(versions[number])] += count
    inspected = _summary(model, graphs, signatures, numbered, len(data))
    return replace(inspected, parameters=_parameters(graphs, buffers), metadata=_metadata(model, data))


def _count(budget: Budget, length: int, limit: int = MAX_ITEMS) -> int:
    """The length of a list that is about to be read."""
    if length > limit:
        raise InspectionError("damaged_tflite", f"at most {limit} entries in a table", str(length))
    return budget.spend(length)


def _index(value: int, length: int, what: str) -> int:
    if not 0 <= value < length:
        raise InspectionError("damaged_tflite", f"{what} below {length}", str(value))
    return value


def _operators(model: Any, budget: Budget) -> tuple[list[str], list[int]]:
    """Names and versions."""
    names, versions = [], []
    for index in range(_count(budget, model.OperatorCodesLength())):
        code = model.OperatorCodes(index)
        number = max(_wide_code(code), code.DeprecatedBuiltinCode())
        name = OPERATORS.get(number, f"number {number}")
        if name == "CUSTOM":
            custom = (code.CustomCode() or b"?").decode("utf-8", "replace")[:100]
            raise InspectionError("custom_operator", "built-in operators only", f"the custom operator {custom}")
        if name in REFUSED_OPERATORS or number not in OPERATORS:
            raise InspectionError("refused_operator", "operators of a self-contained model", name)
        names.append(name)
        versions.append(int(code.Version()))
    return names, versions


def _wide_code(code: Any) -> int:
    """The four-byte operator number as it is stored, 0 when absent; runtimes take the larger of this and the old byte.

    The package's own reader ignores it below 127 and would take a custom operator, or any other, for an ADD.
    """
    offset = code._tab.Offset(WIDE_CODE_SLOT)  # noqa: SLF001
    return int(code._tab.Get(flatbuffers.number_types.Int32Flags, offset + code._tab.Pos)) if offset else 0  # noqa: SLF001


def _tensors(graph: Any, budget: Budget) -> list[Tensor]:
    return [_tensor(graph.Tensors(index), budget) for index in range(_count(budget, graph.TensorsLength()))]


def _tensor(tensor: Any, budget: Budget) -> Tensor:
    rank = _count(budget, tensor.ShapeLength(), MAX_RANK)
    shape = tuple(int(tensor.Shape(axis)) for axis in range(rank))
    if any(size < 0 for size in shape):
        raise InspectionError("damaged_tflite", "sizes of 0 or more", str(shape))
    quantization = tensor.Quantization()
    scale_count, scale, zero_point, axis = 0, None, None, 0
    if quantization is not None and (scale_count := quantization.ScaleLength()):
        budget.spend(scale_count // SCALES_PER_PART)
        quantization.Scale(scale_count - 1)  # raises when the vector reaches beyond the file
        scale = float(quantization.Scale(0))
        zero_point = int(quantization.ZeroPoint(0)) if quantization.ZeroPointLength() else 0
        axis = int(quantization.QuantizedDimension())
    return Tensor(
        name=(tensor.Name() or b"").decode("utf-8", "replace"),
        shape=shape,
        open_sizes=tuple(
            int(tensor.ShapeSignature(i)) for i in range(_count(budget, tensor.ShapeSignatureLength(), MAX_RANK))
        ),
        dtype=TYPES.get(tensor.Type(), f"type {tensor.Type()}"),
        buffer=tensor.Buffer(),
        scale_count=scale_count,
        scale=scale,
        zero_point=zero_point,
        quantised_axis=axis,
        variable=bool(tensor.IsVariable()),
        sparse=tensor.Sparsity() is not None,
    )


def _buffer_sizes(model: Any, budget: Budget) -> list[int]:
    sizes = []
    for index in range(_count(budget, model.BuffersLength())):
        buffer = model.Buffers(index)
        if buffer.Offset() >= FIRST_REAL_OFFSET or buffer.Size() >= FIRST_REAL_OFFSET:
            raise InspectionError("external_buffer", "weights inside the flatbuffer", f"buffer {index} outside it")
        sizes.append(buffer.DataLength())
        if sizes[-1]:
            buffer.Data(sizes[-1] - 1)  # raises when the vector reaches beyond the file
    return sizes


def _require_constants(tensors: list[Tensor], buffers: list[int]) -> None:
    for tensor in tensors:
        stored = buffers[_index(tensor.buffer, len(buffers), "a buffer number")]
        bits = ITEM_BITS.get(tensor.dtype)
        if not stored or bits is None or tensor.sparse:
            continue
        expected = (_product(tensor.shape) * bits + 7) // 8
        if stored != expected:
            raise InspectionError("damaged_tflite", f"{expected} bytes in the constant {tensor.name!r}", str(stored))


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def _require_order(
    graph: Any, tensors: list[Tensor], operators: list[str], buffers: list[int], budget: Budget
) -> Iterator[int]:
    """Yields each operation's number in the list of operators. Every tensor is written once, and before it is read."""
    written = {i for i, tensor in enumerate(tensors) if buffers[tensor.buffer] or tensor.variable}
    written |= {_index(graph.Inputs(i), len(tensors), "an input") for i in range(_count(budget, graph.InputsLength()))}
    for number in range(_count(budget, graph.OperatorsLength())):
        operation = graph.Operators(number)
        code = _index(operation.OpcodeIndex(), len(operators), "an operator number")
        name = operators[code]
        for i in range(_count(budget, operation.InputsLength())):
            source = operation.Inputs(i)
            if source != -1 and _index(source, len(tensors), "an operand") not in written:
                raise InspectionError("damaged_tflite", f"operand {source} of {name} written before it is read", "not")
        results = {
            _index(operation.Outputs(i), len(tensors), "a result")
            for i in range(_count(budget, operation.OutputsLength()))
        }
        if results & written or len(results) != operation.OutputsLength():
            raise InspectionError("damaged_tflite", f"results of {name} written once", "twice")
        written |= results
        yield code
    for i in range(_count(budget, graph.OutputsLength())):
        if _index(graph.Outputs(i), len(tensors), "an output") not in written:
            raise InspectionError("damaged_tflite", "every output written", f"output {i} is not")


@dataclass(frozen=True)
class SignatureTable:
    key: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    graph: int


def _signatures(model: Any, graphs: list[list[Tensor]], budget: Budget) -> list[SignatureTable]:
    found = []
    for number in range(_count(budget, model.SignatureDefsLength(), MAX_SUBGRAPHS)):
        signature = model.SignatureDefs(number)
        graph = _index(signature.SubgraphIndex(), len(graphs), "a signature's subgraph")
        key = (signature.SignatureKey() or b"").decode("utf-8", "replace")
        inputs = _named(signature.Inputs, signature.InputsLength(), len(graphs[graph]), budget)
        outputs = _named(signature.Outputs, signature.OutputsLength(), len(graphs[graph]), budget)
        found.append(SignatureTable(key, inputs, outputs, graph))
    for number in range(_count(budget, model.MetadataLength())):
        _index(model.Metadata(number).Buffer(), model.BuffersLength(), "a metadata buffer")
    return found


def _named(entry: Any, length: int, tensors: int, budget: Budget) -> tuple[tuple[str, int], ...]:
    return tuple(
        (
            (entry(i).Name() or b"").decode("utf-8", "replace"),
            _index(entry(i).TensorIndex(), tensors, "a signature's tensor"),
        )
        for i in range(_count(budget, length))
    )


def _summary(
    model: Any,
    graphs: list[list[Tensor]],
    signatures: list[SignatureTable],
    used: Counter[tuple[str, str]],
    size_bytes: int,
) -> SourceInspection:
    inputs, outputs = _inputs_and_outputs(model, graphs, signatures)
    names: Counter[str] = Counter()
    for (name, _), count in used.items():
        names[name] += count
    min_runtime_version = _metadata_text(model, "min_runtime_version")
    details = {
        "operators": dict(sorted(names.items())),
        "signatures": [signature.key for signature in signatures],
        "precision": _precision(graphs),
        "warnings": _warnings(graphs),
        "min_runtime_version": min_runtime_version,
        "description": (model.Description() or b"").decode("utf-8", "replace")[:500],
    }
    operators = tuple(Operator(*key, count) for key, count in sorted(used.items()))
    return SourceInspection("tflite", inputs, outputs, size_bytes, details, operators, None, min_runtime_version)


def _parameters(graphs: list[list[Tensor]], buffers: list[int]) -> int:
    """Numbers in constants: those of floating point, and of integers that stand for such."""
    counted: dict[int, int] = {}  # a buffer may serve several tensors
    for tensor in (tensor for tensors in graphs for tensor in tensors):
        is_weight = tensor.dtype in FLOATS or (tensor.dtype in WEIGHT_INTEGERS and tensor.scale_count)
        if buffers[tensor.buffer] and is_weight:
            counted[tensor.buffer] = _product(tensor.shape)
    return sum(counted.values())


def _metadata(model: Any, data: mmap.mmap) -> dict[str, Any]:
    """What the file says of itself; a file appended to the model is refused where it is no text."""
    files = associated_files(data)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == METADATA_NAME.encode():
            buffer = model.Buffers(entry.Buffer())
            content = bytes(buffer.DataAsNumpy()[: MAX_METADATA_BYTES + 1]) if buffer.DataLength() else b""
            return read_metadata(content, files)
    return {}


def _inputs_and_outputs(
    model: Any, graphs: list[list[Tensor]], signatures: list[SignatureTable]
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    if signatures:
        first = next((s for s in signatures if s.key == "serving_default"), signatures[0])
        tensors, sides = graphs[first.graph], (first.inputs, first.outputs)
    else:
        graph, tensors = model.Subgraphs(0), graphs[0]
        ins = [graph.Inputs(i) for i in range(graph.InputsLength())]
        outs = [graph.Outputs(i) for i in range(graph.OutputsLength())]
        sides = tuple((tensors[i].name, i) for i in ins), tuple((tensors[i].name, i) for i in outs)
    inputs, outputs = (tuple(_info(name, tensors[index]) for name, index in side) for side in sides)
    if not inputs or not outputs:
        raise InspectionError("no_inputs_or_outputs", "a model with inputs and outputs", "none")
    return inputs, outputs


def _info(name: str, tensor: Tensor) -> TensorInfo:
    if tensor.dtype not in FEEDABLE:
        raise InspectionError("tensor_type", f"a numeric type of {name!r}", tensor.dtype)
    sizes = tensor.open_sizes or tensor.shape
    scale, zero_point = (tensor.scale, tensor.zero_point) if tensor.scale_count == 1 else (None, None)
    return TensorInfo(name, tuple(None if size < 0 else size for size in sizes), tensor.dtype, scale, zero_point)


def _precision(graphs: list[list[Tensor]]) -> str:
    """`quantised`, `float16` or `float32`: what further recipes could still do with the file."""
    tensors = [tensor for graph in graphs for tensor in graph]
    if any(tensor.dtype in QUANTISED and tensor.scale_count for tensor in tensors):
        return "quantised"
    return "float16" if any(tensor.dtype == "float16" for tensor in tensors) else "float32"


def _warnings(graphs: list[list[Tensor]]) -> list[str]:
    """What LiteRT 2 refuses although older runtimes run it."""
    wrong = [
        tensor
        for tensors in graphs
        for tensor in tensors
        if tensor.scale_count > 1 and not 0 <= tensor.quantised_axis < len(tensor.shape)
    ]
    if not wrong:
        return []
    first = f"axis {wrong[0].quantised_axis} of {wrong[0].name!r}, whose rank is {len(wrong[0].shape)}"
    return [f"{len(wrong)} tensors are quantised along an axis they do not have ({first}); tflite-repaired mends that"]


def _metadata_text(model: Any, name: str) -> str:
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if (entry.Name() or b"").decode("utf-8", "replace") == name:
            buffer = model.Buffers(entry.Buffer())
            text = bytes(buffer.DataAsNumpy()[:64]) if buffer.DataLength() else b""
            return text.rstrip(b"\x00").decode("ascii", "replace")
    return ""
