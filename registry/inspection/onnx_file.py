"""ONNX files, read by the field numbers of onnx.proto: nothing outside the file, nothing of other domains."""

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from registry.inspection.budget import Budget
from registry.inspection.errors import InspectionError
from registry.inspection.source import Operator, SourceInspection, TensorInfo
from registry.inspection.wire import Message, Parts, Value, signed

MAX_FIELDS = 2_000_000
MAX_DEPTH = 16
MAX_RANK = 16
MAX_TENSORS = 1_000
MAX_FUNCTIONS = 1_000
MAX_ENTRIES = 1_000
MIN_IR_VERSION, MAX_IR_VERSION = 3, 20  # below 3 an initialiser had to be an input

IR_VERSION, PRODUCER, PRODUCER_VERSION, MODEL_VERSION, DOC, GRAPH, OPSETS = 1, 2, 3, 5, 6, 7, 8
METADATA, TRAINING, MODEL_FUNCTIONS = 14, 20, 25
OPSET_DOMAIN, OPSET_VERSION, ENTRY_KEY, ENTRY_VALUE = 1, 2, 1, 2
GRAPH_NODES, GRAPH_NAME, GRAPH_INITIALISERS, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_SPARSE = 1, 2, 5, 11, 12, 15
NODE_TYPE, NODE_ATTRIBUTES, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES, SPARSE_VALUES, SPARSE_INDICES = 22, 23, 1, 2
TENSOR_SIZES, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, TENSOR_EXTERNAL, TENSOR_LOCATION = 1, 2, 8, 9, 13, 14
FUNCTION_NAME, FUNCTION_NODES, FUNCTION_OPSETS, FUNCTION_DOMAIN = 1, 7, 9, 10
VALUE_NAME, VALUE_TYPE, TYPE_TENSOR, ELEMENT_TYPE, TYPE_SHAPE, SHAPE_SIZES, SIZE_VALUE = 1, 2, 1, 1, 2, 1, 1
OTHER_TYPES: Mapping[int, str] = MappingProxyType({4: "sequence", 5: "map", 7: "opaque", 8: "sparse", 9: "optional"})
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})

TYPES: Mapping[int, str] = MappingProxyType(
    dict(
        enumerate(
            """
            float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64 complex64 complex128
            bfloat16 float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz uint4 int4 float4e2m1 float8e8m0 uint2 int2
            """.split(),  # noqa: SIM905 a table of words reads better
            start=1,
        )
    )
)
ITEM_BITS: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("complex128",), 128),
        **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 64),
        **dict.fromkeys(("float32", "int32", "uint32"), 32),
        **dict.fromkeys(("float16", "bfloat16", "int16", "uint16"), 16),
        **dict.fromkeys(("int8", "uint8", "bool"), 8),
        **dict.fromkeys(("uint4", "int4"), 4),
    }
)


@dataclass
class Found:
    opsets: dict[str, int] = field(default_factory=dict)
    functions: set[tuple[str, str]] = field(default_factory=set)
    operators: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (domain, name)
    initialisers: int = 0
    parameters: int = 0


def inspect_onnx(path: Path) -> SourceInspection:
    """Inputs, outputs, operators and weights of an `.onnx` file. Raises InspectionError."""
    with path.open("rb") as stream:
        # Closed when the last reader lets go of it; read in place, for a file may be larger than memory is free.
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return _inspect(Message(memoryview(data), Budget(MAX_FIELDS, "damaged_protobuf")), len(data))


def _inspect(message: Message, size_bytes: int) -> SourceInspection:
    model = message.parts()
    graph = _require_model(model)
    found = Found(_opsets(model.messages(OPSETS)))
    _read_functions(found, model.messages(MODEL_FUNCTIONS))
    _require_standard(found, found.opsets)
    initialised = _read_graph(found, graph, 0)
    inputs, outputs = _sides(graph, initialised)
    details = {
        "ir_version": model.integer(IR_VERSION),
        "opsets": found.opsets,
        "operators": {_full_name(*key): count for key, count in sorted(found.operators.items())},
        "initialisers": found.initialisers,
        "functions": sorted(_full_name(*key) for key in found.functions),
        "producer": f"{model.text(PRODUCER)} {model.text(PRODUCER_VERSION)}".strip(),
    }
    operators = tuple(
        Operator(_full_name(*key), str(found.opsets.get(key[0], "")), count)
        for key, count in sorted(found.operators.items())
    )
    opset = f"opset {found.opsets.get('', max(found.opsets.values()))}"
    metadata = _metadata(model, graph)
    return SourceInspection("onnx", inputs, outputs, size_bytes, details, operators, found.parameters, opset, metadata)


def _require_model(model: Parts) -> Message:
    """The graph."""
    graphs, version = model.messages(GRAPH), model.integer(IR_VERSION)
    if len(graphs) != 1 or not model.messages(OPSETS):
        raise InspectionError("not_onnx", "an ONNX model with one graph and its operator sets", "something else")
    if not MIN_IR_VERSION <= version <= MAX_IR_VERSION:
        raise InspectionError("onnx_version", f"IR version {MIN_IR_VERSION} to {MAX_IR_VERSION}", f"{version}")
    if TRAINING in model:
        raise InspectionError("onnx_training", "a model for inference only", "training information")
    return graphs[0]


def _read_functions(found: Found, functions: list[Message]) -> None:
    if len(functions) > MAX_FUNCTIONS:
        raise InspectionError("damaged_onnx", f"at most {MAX_FUNCTIONS} functions", f"{len(functions)}")
    found.functions = {(_domain(one.text(FUNCTION_DOMAIN)), one.text(FUNCTION_NAME)) for one in functions}
    for function in functions:
        _require_standard(found, _opsets(list(function.messages(FUNCTION_OPSETS))))
        for node in function.messages(FUNCTION_NODES):
            _read_node(found, node, 0)


def _metadata(model: Parts, graph: Message) -> dict[str, Any]:
    entries = [entry.parts() for entry in model.messages(METADATA)]
    metadata = {
        "name": graph.text(GRAPH_NAME),
        "description": model.text(DOC),
        "version": str(model.integer(MODEL_VERSION) or ""),
        "user_defined": {entry.text(ENTRY_KEY): entry.text(ENTRY_VALUE) for entry in entries[:MAX_ENTRIES]},
    }
    return {key: value for key, value in metadata.items() if value}


def _domain(name: str) -> str:
    """`ai.onnx` and the empty name are the same domain."""
    return "" if name == "ai.onnx" else name


def _full_name(domain: str, name: str) -> str:
    return f"{domain}.{name}" if domain else name


def _opsets(entries: list[Message]) -> dict[str, int]:
    if len(entries) > MAX_ENTRIES:
        raise InspectionError("damaged_onnx", f"at most {MAX_ENTRIES} operator sets", f"{len(entries)}")
    return {_domain(entry.text(OPSET_DOMAIN)): entry.integer(OPSET_VERSION) for entry in entries}


def _require_standard(found: Found, opsets: Mapping[str, int]) -> None:
    own = {domain for domain, _ in found.functions}
    strangers = sorted(set(opsets) - STANDARD_DOMAINS - own)
    if strangers:
        raise InspectionError("custom_domain", "operators of ONNX's own domains", ", ".join(strangers)[:200])


def _read_graph(found: Found, graph: Message, depth: int) -> set[str]:
    """Names of the initialisers. Fields are taken one by one: a graph's lists may be long."""
    if depth > MAX_DEPTH:
        raise InspectionError("damaged_onnx", f"at most {MAX_DEPTH} graphs in one another", "more")
    names = set()
    for number, value in graph.fields():
        if number == GRAPH_NODES:
            _read_node(found, _inner(graph, value), depth)
        elif number in {GRAPH_INITIALISERS, GRAPH_SPARSE}:
            is_sparse = number == GRAPH_SPARSE
            name, count = (_sparse if is_sparse else _tensor)(_inner(graph, value))
            found.initialisers += 1
            found.parameters += count
            names.add(name)
    return names


def _inner(message: Message, value: Value) -> Message:
    if isinstance(value, int):
        raise InspectionError("damaged_protobuf", "a message", "a number")
    return Message(value, message.budget)


def _read_node(found: Found, node: Message, depth: int) -> None:
    name, domain = "", ""
    for number, value in node.fields():
        if number == NODE_TYPE:
            name = _text(value)
        elif number == NODE_DOMAIN:
            domain = _domain(_text(value))
        elif number == NODE_ATTRIBUTES:
            _read_attribute(found, _inner(node, value), depth)
    if not name:
        raise InspectionError("damaged_onnx", "a name of every operator", "none")
    if domain not in STANDARD_DOMAINS and (domain, name) not in found.functions:
        raise InspectionError("custom_domain", "operators of ONNX's own domains", _full_name(domain, name)[:200])
    found.operators[domain, name] += 1


def _text(value: Value) -> str:
    return "" if isinstance(value, int) else bytes(value).decode("utf-8", "replace")


def _read_attribute(found: Found, attribute: Message, depth: int) -> None:
    for number, value in attribute.fields():
        if number in {ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS}:
            _read_graph(found, _inner(attribute, value), depth + 1)
        elif number in {ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS}:
            _tensor(_inner(attribute, value))
        elif number in {ATTRIBUTE_SPARSE, ATTRIBUTE_SPARSES}:
            _sparse(_inner(attribute, value))


def _tensor(tensor: Message) -> tuple[str, int]:
    """(name, number of values). Raises where they lie outside the file, or are more or fewer than the shape says."""
    name, sizes, dtype, raw_bytes = "", list[int](), "", -1
    for number, value in tensor.fields():
        if number == TENSOR_EXTERNAL or (number == TENSOR_LOCATION and value):
            raise InspectionError("external_data", "weights inside the file", "a tensor that lies in another file")
        if number == TENSOR_SIZES:
            sizes.extend(_sizes(value, tensor.budget))
        elif number == TENSOR_TYPE and isinstance(value, int):
            dtype = TYPES.get(value, "")
        elif number == TENSOR_NAME:
            name = _text(value)
        elif number == TENSOR_RAW:
            raw_bytes = 0 if isinstance(value, int) else len(value)
    count = _product(sizes, name)
    if raw_bytes >= 0 and dtype in ITEM_BITS and raw_bytes != (expected := (count * ITEM_BITS[dtype] + 7) // 8):
        raise InspectionError("damaged_onnx", f"{expected} bytes in the constant {name!r}"[:200], f"{raw_bytes}")
    return name, count


def _sizes(value: Value, budget: Budget) -> Iterator[int]:
    """One size, or several packed into one field."""
    if isinstance(value, int):
        yield signed(value)
        return
    yield from Message(value, budget).numbers()


def _product(sizes: list[int], name: str) -> int:
    if len(sizes) > MAX_RANK or any(size < 0 for size in sizes):
        raise InspectionError("damaged_onnx", f"at most {MAX_RANK} sizes of 0 or more in {name!r}"[:200], "others")
    return prod(sizes)


def _sparse(sparse: Message) -> tuple[str, int]:
    """(name, number of values stored)."""
    found = [_tensor(values) for values in sparse.messages(SPARSE_VALUES)]
    for indices in sparse.messages(SPARSE_INDICES):
        _tensor(indices)
    return found[-1] if found else ("", 0)


def _sides(graph: Message, initialised: set[str]) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """What is fed and what comes out; an input that has a value already is a weight."""
    inputs = tuple(one for one in _infos(graph, GRAPH_INPUTS) if one.name not in initialised)
    outputs = tuple(_infos(graph, GRAPH_OUTPUTS))
    if not inputs or not outputs:
        raise InspectionError("no_inputs_or_outputs", "a model with inputs and outputs", "none")
    if len(inputs) > MAX_TENSORS or len(outputs) > MAX_TENSORS:
        got = f"{max(len(inputs), len(outputs))}"
        raise InspectionError("too_many_tensors", f"at most {MAX_TENSORS} inputs and outputs", got)
    return inputs, outputs


def _infos(graph: Message, side: int) -> Iterator[TensorInfo]:
    for value in graph.messages(side):
        parts = value.parts()
        name, kind = parts.text(VALUE_NAME), parts.last(VALUE_TYPE).parts()
        if TYPE_TENSOR not in kind:
            other = next((word for number, word in OTHER_TYPES.items() if number in kind), "no type")
            raise InspectionError("tensor_type", f"a tensor as {name!r}"[:200], other)
        tensor = kind.last(TYPE_TENSOR).parts()
        dtype = TYPES.get(tensor.integer(ELEMENT_TYPE))
        if dtype is None:
            raise InspectionError("tensor_type", f"a known type of {name!r}"[:200], f"{tensor.integer(ELEMENT_TYPE)}")
        yield TensorInfo(name, _shape(tensor.last(TYPE_SHAPE), name) if TYPE_SHAPE in tensor else None, dtype)


def _shape(shape: Message, name: str) -> tuple[int | None, ...]:
    """A size by name, or none at all, is left open."""
    sizes: list[int | None] = []
    for size in shape.messages(SHAPE_SIZES):
        parts = size.parts()
        sizes.append(parts.integer(SIZE_VALUE) if SIZE_VALUE in parts else None)
    if len(sizes) > MAX_RANK or any(size is not None and size < 0 for size in sizes):
        raise InspectionError("bad_shape", f"at most {MAX_RANK} sizes of 0 or more in {name!r}"[:200], f"{sizes}"[:100])
    return tuple(sizes)
