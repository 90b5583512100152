"""The ML program of a Core ML specification: which operations, how many weights, and where those lie.

Field numbers of MIL.proto. A program is functions of blocks of operations; operations may hold blocks again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import PurePosixPath
from types import MappingProxyType

from registry.inspection.coreml_package import BlobReference
from registry.inspection.errors import InspectionError
from registry.inspection.wire import Message, Parts

PROGRAM_FUNCTIONS, FUNCTION_OPSET, FUNCTION_BLOCKS, BLOCK_OPERATIONS = 2, 2, 3, 3
OPERATION_TYPE, OPERATION_INPUTS, OPERATION_OUTPUTS, OPERATION_BLOCKS, OPERATION_ATTRIBUTES = 1, 2, 3, 4, 5
MAP_KEY, MAP_VALUE, ARGUMENT_BINDINGS, BINDING_NAME, BINDING_VALUE = 1, 2, 1, 1, 2
NAMED_NAME, NAMED_TYPE = 1, 2
VALUE_TYPE, VALUE_IMMEDIATE, VALUE_BLOB, BLOB_FILE, BLOB_OFFSET = 2, 3, 5, 1, 2
IMMEDIATE_TENSOR, IMMEDIATE_TUPLE, IMMEDIATE_LIST, IMMEDIATE_DICTIONARY = 1, 2, 3, 4
TYPE_TENSOR, TENSOR_TYPE, TENSOR_DIMENSIONS, DIMENSION_CONSTANT, CONSTANT_SIZE = 1, 1, 3, 1, 1
TENSOR_STRINGS, STRING_VALUES = 4, 1
MAX_DEPTH = 24
MAX_RANK = 8
MAX_STRINGS = 100_000
MODEL_FOLDER = "@model_path/"
ITEM_BITS: Mapping[int, int] = MappingProxyType(
    {
        **dict.fromkeys((12, 24, 34), 64),
        **dict.fromkeys((11, 23, 33), 32),
        **dict.fromkeys((10, 13, 22, 32), 16),
        **dict.fromkeys((1, 21, 31, 40, 41), 8),
        38: 6,
        25: 4,
        35: 4,
        39: 3,
        36: 2,
        37: 1,
    }
)
FLOATS = frozenset({10, 11, 12, 13})
CUSTOM_PREFIX = "custom"


@dataclass
class Program:
    """`opsets` of the functions; `strings` are the constant lists of strings by name, `classes` the labels."""

    folder: PurePosixPath | None
    operations: Counter[tuple[str, str]] = field(default_factory=Counter)
    functions: list[str] = field(default_factory=list)
    opsets: list[str] = field(default_factory=list)
    blobs: list[BlobReference] = field(default_factory=list)
    constants: dict[str, int] = field(default_factory=dict)
    weights: int = 0
    strings: dict[str, list[str]] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)

    @property
    def parameters(self) -> int:
        return self.weights + sum(self.constants.values())


def read_program(message: Message, folder: PurePosixPath | None) -> Program:
    """`folder` is that of the specification within its package, None where there is none. Raises InspectionError."""
    program = Program(folder)
    for entry in message.messages(PROGRAM_FUNCTIONS):
        program.functions.append(entry.text(MAP_KEY))
        for function in entry.messages(MAP_VALUE):
            opset = function.text(FUNCTION_OPSET)
            program.opsets.append(opset)
            for specialised in function.messages(FUNCTION_BLOCKS):
                for block in specialised.messages(MAP_VALUE):
                    _read_block(program, block, opset, 0)
    if not program.operations:
        raise InspectionError("coreml_program", "an ML program with operations", "none")
    return program


def _read_block(program: Program, block: Message, opset: str, depth: int) -> None:
    _require_depth(depth)
    for operation in block.messages(BLOCK_OPERATIONS):
        parts = operation.parts()
        name = parts.text(OPERATION_TYPE)
        if name.lower().startswith(CUSTOM_PREFIX):
            raise InspectionError("custom_layer", "operations that Core ML itself has", repr(name)[:100])
        program.operations[name, opset] += 1
        _read_operation(program, name, parts)
        for inner in parts.messages(OPERATION_BLOCKS):
            _read_block(program, inner, opset, depth + 1)


def _require_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InspectionError("damaged_coreml", f"at most {MAX_DEPTH} levels", "more")


def _read_operation(program: Program, name: str, parts: Parts) -> None:
    arguments = dict(_arguments(parts))
    blobs_before = len(program.blobs)
    for value in _values(parts):
        _read_value(program, value, 0)
    outputs = [output.parts() for output in parts.messages(OPERATION_OUTPUTS)]
    if name.startswith("constexpr_"):
        # What it holds compressed counts as the weights that it stands for.
        for names in arguments.values():
            for constant in names:
                program.constants.pop(constant, None)
        program.weights += sum(prod(_dimensions(output.last(NAMED_TYPE))[1]) for output in outputs)
    elif name == "const" and outputs:
        _read_constant(program, outputs[0], parts, is_blob=len(program.blobs) > blobs_before)
    elif name == "classify":
        for constant in arguments.get("classes", []):
            program.classes = program.strings.get(constant, [])


def _read_constant(program: Program, output: Parts, parts: Parts, *, is_blob: bool) -> None:
    name = output.text(NAMED_NAME)
    number, sizes = _dimensions(output.last(NAMED_TYPE))
    if is_blob or (number in FLOATS and sizes):
        program.constants[name] = prod(sizes)
    strings = [text for value in _values(parts) for text in _strings(value, 0)]
    if len(strings) > 1:
        program.strings[name] = strings[:MAX_STRINGS]


def _arguments(parts: Parts) -> Iterator[tuple[str, list[str]]]:
    for entry in parts.messages(OPERATION_INPUTS):
        found = entry.parts()
        names = [binding.text(BINDING_NAME) for binding in found.last(MAP_VALUE).messages(ARGUMENT_BINDINGS)]
        yield found.text(MAP_KEY), [name for name in names if name]


def _values(parts: Parts) -> Iterator[Message]:
    """What an operation holds itself, as arguments or as attributes."""
    for entry in parts.messages(OPERATION_INPUTS):
        for argument in entry.messages(MAP_VALUE):
            for binding in argument.messages(ARGUMENT_BINDINGS):
                yield from binding.messages(BINDING_VALUE)
    for entry in parts.messages(OPERATION_ATTRIBUTES):
        yield from entry.messages(MAP_VALUE)


def _read_value(program: Program, value: Message, depth: int) -> None:
    _require_depth(depth)
    parts = value.parts()
    for blob in parts.messages(VALUE_BLOB):
        number, sizes = _dimensions(parts.last(VALUE_TYPE))
        where = blob.parts()
        if number not in ITEM_BITS:
            raise InspectionError("coreml_weights", "weights of numbers", f"type {number}")
        file = _weight_file(where.text(BLOB_FILE), program.folder)
        program.blobs.append(BlobReference(file, where.integer(BLOB_OFFSET), prod(sizes) * ITEM_BITS[number]))
    for inner in _inner_values(parts):
        _read_value(program, inner, depth + 1)


def _inner_values(value: Parts) -> Iterator[Message]:
    for immediate in value.messages(VALUE_IMMEDIATE):
        for number in (IMMEDIATE_TUPLE, IMMEDIATE_LIST):
            for collection in immediate.messages(number):
                yield from collection.messages(1)
        for dictionary in immediate.messages(IMMEDIATE_DICTIONARY):
            for pair in dictionary.messages(1):
                yield from pair.messages(MAP_KEY)
                yield from pair.messages(MAP_VALUE)


def _strings(value: Message, depth: int) -> Iterator[str]:
    _require_depth(depth)
    parts = value.parts()
    for immediate in parts.messages(VALUE_IMMEDIATE):
        for tensor in immediate.messages(IMMEDIATE_TENSOR):
            for strings in tensor.messages(TENSOR_STRINGS):
                yield from strings.parts().texts(STRING_VALUES)
    for inner in _inner_values(parts):
        yield from _strings(inner, depth + 1)


def _weight_file(name: str, folder: PurePosixPath | None) -> str:
    path = PurePosixPath(name.removeprefix(MODEL_FOLDER))
    if not name.startswith(MODEL_FOLDER) or ".." in path.parts or path.is_absolute() or "\0" in name:
        raise InspectionError("coreml_weights", "weights below the package's own folder", repr(name)[:200])
    if folder is None:
        raise InspectionError("coreml_weights", "a .mlpackage for a model with weight files", "a lone .mlmodel")
    return str(folder / path)


def _dimensions(value_type: Message) -> tuple[int, tuple[int, ...]]:
    """(type of number, sizes); 0 and no sizes for what is no tensor. An unknown size counts as 1."""
    for tensor in value_type.messages(TYPE_TENSOR):
        parts = tensor.parts()
        sizes = [_size(dimension) for dimension in parts.messages(TENSOR_DIMENSIONS)]
        if len(sizes) > MAX_RANK or any(size < 0 for size in sizes):
            raise InspectionError("damaged_coreml", f"at most {MAX_RANK} sizes of 0 or more", str(sizes)[:100])
        return parts.integer(TENSOR_TYPE), tuple(sizes)
    return 0, ()


def _size(dimension: Message) -> int:
    constants = list(dimension.messages(DIMENSION_CONSTANT))
    return constants[-1].integer(CONSTANT_SIZE) if constants else 1
