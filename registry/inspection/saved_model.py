"""SavedModel archives: the listing, the operations of the graph and the serving signature, without loading anything."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from math import prod
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from registry.inspection import archive, wire
from registry.inspection.budget import Budget
from registry.inspection.errors import InspectionError
from registry.inspection.source import Operator, SourceInspection, TensorInfo
from registry.inspection.tensorflow_ops import ALLOWED_OPERATIONS

GRAPH_FILE = "saved_model.pb"
MAX_GRAPH_BYTES = 256 * 1024**2
MAX_FIELDS = 2_000_000  # of all readings together; a graph of 20 000 nodes has half as many; 2 s to read
MAX_RANK = 8
MAX_SIGNATURES = 100
KNOWN_FOLDERS = frozenset({"variables", "assets", "assets.extra"})
KNOWN_FILES = frozenset({GRAPH_FILE, "fingerprint.pb", "keras_metadata.pb", "saved_model.pbtxt"})
SERVING_SIGNATURE = "serving_default"

# Field numbers of saved_model.proto, meta_graph.proto, graph.proto, function.proto and tensor_shape.proto.
META_GRAPHS, META_GRAPH_GRAPH, META_GRAPH_SIGNATURES = 2, 2, 5
GRAPH_NODES, GRAPH_LIBRARY, LIBRARY_FUNCTIONS, FUNCTION_NODES, NODE_OPERATION = 1, 2, 1, 3, 2
MAP_KEY, MAP_VALUE, SIGNATURE_INPUTS, SIGNATURE_OUTPUTS = 1, 2, 1, 2
NODE_NAME, NODE_INPUTS, NODE_ATTRIBUTES, ATTRIBUTE_TYPE, ATTRIBUTE_SHAPE = 1, 3, 5, 6, 7
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
INFO_NAME, INFO_TYPE, INFO_SHAPE, SHAPE_SIZES, SHAPE_UNKNOWN_RANK, SIZE_VALUE = 1, 2, 3, 2, 3, 1

TYPE_NAMES: Mapping[int, str] = MappingProxyType(
    {
        1: "float32",
        2: "float64",
        3: "int32",
        4: "uint8",
        5: "int16",
        6: "int8",
        7: "string",
        9: "int64",
        10: "bool",
        14: "bfloat16",
        17: "uint16",
        19: "float16",
        22: "uint32",
        23: "uint64",
    }
)


def inspect_saved_model(path: Path) -> SourceInspection:
    """Serving signature and operations of a SavedModel, zipped or a folder. Raises InspectionError."""
    if path.is_dir():
        graph, members, root = *_read_folder(path), PurePosixPath(".")
        size_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    else:
        with archive.opened(path, "a SavedModel") as opened:
            root = _root(opened.infolist())
            graph = archive.read_member(opened, str(root / GRAPH_FILE), MAX_GRAPH_BYTES)
            members, size_bytes = len(opened.infolist()), path.stat().st_size
    return _inspect(graph, {"members": members, "root": str(root)}, size_bytes)


def _read_folder(folder: Path) -> tuple[bytes, int]:
    """(saved_model.pb, number of files), once every file is known to be a SavedModel's own."""
    files = list(islice(folder.rglob("*"), archive.MAX_MEMBERS + 1))
    if len(files) > archive.MAX_MEMBERS:
        raise InspectionError("member_count", f"1 to {archive.MAX_MEMBERS} members", "more")
    for path in files:
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise InspectionError("unsafe_member", "plain files and folders", repr(path.name))
        name = path.relative_to(folder)
        if path.is_file() and not _belongs(PurePosixPath(name).parts):
            raise InspectionError("saved_model_members", "only the files of a SavedModel", str(name)[:200])
        if path.is_file():
            with path.open("rb") as stream:
                archive.require_data(str(name), stream.read(archive.MAGIC_BYTES))
    graph = folder / GRAPH_FILE
    if not graph.is_file() or graph.stat().st_size > MAX_GRAPH_BYTES:
        raise InspectionError("not_saved_model", f"a {GRAPH_FILE} of at most {MAX_GRAPH_BYTES} bytes", "none")
    return graph.read_bytes(), len(files)


def _inspect(graph: bytes, listing: Mapping[str, Any], size_bytes: int) -> SourceInspection:
    message = _message(memoryview(graph))
    counts = allowed_operations(message)
    signatures = _signatures(message)
    key = SERVING_SIGNATURE if SERVING_SIGNATURE in signatures else next(iter(sorted(signatures)))
    inputs, outputs = signatures[key]
    details = {
        "operations": sorted(counts),
        "operators": dict(sorted(counts.items())),
        "signatures": sorted(signatures),
        "signature": key,
        **listing,
    }
    operators = tuple(Operator(name, "", count) for name, count in sorted(counts.items()))
    parameters = _parameters(message, key)
    return SourceInspection("saved_model", inputs, outputs, size_bytes, details, operators, parameters)


def allowed_operations(saved_model: wire.Message) -> Counter[str]:
    """How often saved_model.pb holds each operation. Raises InspectionError for one that is not allowed."""
    operations = Counter(_operations(saved_model))
    refused = sorted(operation for operation in operations if operation not in ALLOWED_OPERATIONS)
    if refused:
        raise InspectionError(
            "tensorflow_operation", "operations a phone's runtime can express", ", ".join(refused[:20])[:1000]
        )
    return operations


def _message(saved_model: memoryview) -> wire.Message:
    return wire.Message(saved_model, Budget(MAX_FIELDS, "damaged_protobuf"))


def _root(members: list[zipfile.ZipInfo]) -> PurePosixPath:
    """The folder of the one saved_model.pb; every other member must belong to it."""
    root, strangers = archive.root_of(members, GRAPH_FILE, _belongs, otherwise="not_saved_model")
    if strangers:
        raise InspectionError("saved_model_members", "only the files of a SavedModel", ", ".join(strangers[:5]))
    return root


def _belongs(inner: tuple[str, ...]) -> bool:
    return inner[0] in KNOWN_FILES if len(inner) == 1 else inner[0] in KNOWN_FOLDERS


def _operations(saved_model: wire.Message) -> Iterator[str]:
    for meta_graph in saved_model.messages(META_GRAPHS):
        for graph in meta_graph.messages(META_GRAPH_GRAPH):
            for node in graph.messages(GRAPH_NODES):
                yield node.text(NODE_OPERATION)
            for library in graph.messages(GRAPH_LIBRARY):
                for function in library.messages(LIBRARY_FUNCTIONS):
                    # A call's operation is the name of the function it calls only in graphs older than functions.
                    for node in function.messages(FUNCTION_NODES):
                        yield node.text(NODE_OPERATION)


Sides = tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]


def _signatures(saved_model: wire.Message) -> dict[str, Sides]:
    """Key -> (inputs, outputs) of every signature that takes something and gives something."""
    found: dict[str, Sides] = {}
    for meta_graph in saved_model.messages(META_GRAPHS):
        for entry in meta_graph.messages(META_GRAPH_SIGNATURES):
            key = entry.text(MAP_KEY)
            values = list(entry.messages(MAP_VALUE))
            if len(values) != 1 or key in found or len(found) >= MAX_SIGNATURES:
                raise InspectionError("no_signature", f"at most {MAX_SIGNATURES} signatures of one value", repr(key))
            sides = _tensors(values[0], SIGNATURE_INPUTS), _tensors(values[0], SIGNATURE_OUTPUTS)
            if all(sides):
                found[key] = sides
    if not found:
        raise InspectionError("no_signature", f"a signature {SERVING_SIGNATURE!r} with inputs and outputs", "none")
    return found


def _parameters(saved_model: wire.Message, signature: str) -> int:
    """Entries of the variables of floating point that a signature reads: Keras saves each variable several times."""
    total = 0
    for meta_graph in saved_model.messages(META_GRAPHS):
        wanted = set(_produced_by(meta_graph, signature))
        sizes: dict[str, int] = {}
        sources: dict[str, list[str]] = {}
        for graph in meta_graph.messages(META_GRAPH_GRAPH):
            for node in graph.messages(GRAPH_NODES):
                name = node.text(NODE_NAME)
                sources[name] = [_node_name(source.data) for source in node.messages(NODE_INPUTS)]
                if node.text(NODE_OPERATION) == "VarHandleOp":
                    sizes[name] = _variable(node)
        total += sum(sizes.get(name, 0) for name in _reached(wanted, sources))
    return total


def _produced_by(meta_graph: wire.Message, signature: str) -> Iterator[str]:
    """The nodes that a signature's outputs come from."""
    for entry in meta_graph.messages(META_GRAPH_SIGNATURES):
        if entry.text(MAP_KEY) == signature:
            for value in entry.messages(MAP_VALUE):
                for output in value.messages(SIGNATURE_OUTPUTS):
                    for info in output.messages(MAP_VALUE):
                        yield from (_node_name(name.data) for name in info.messages(INFO_NAME))


def _node_name(tensor: memoryview) -> str:
    """`^node` and `node:0` name parts of a node."""
    return bytes(tensor).decode("utf-8", "replace").removeprefix("^").partition(":")[0]


def _reached(wanted: set[str], sources: Mapping[str, list[str]]) -> set[str]:
    reached, left = set(wanted), list(wanted)
    while left:
        new = set(sources.get(left.pop(), ())) - reached
        reached |= new
        left.extend(new)
    return reached


def _variable(node: wire.Message) -> int:
    """Entries of a variable, none of one of integers."""
    attributes = {entry.text(MAP_KEY): list(entry.messages(MAP_VALUE)) for entry in node.messages(NODE_ATTRIBUTES)}
    types = {TYPE_NAMES.get(value.integer(ATTRIBUTE_TYPE), "") for value in attributes.get("dtype", [])}
    shapes = [shape for value in attributes.get("shape", []) for shape in value.messages(ATTRIBUTE_SHAPE)]
    sizes = [size.integer(SIZE_VALUE) for shape in shapes for size in shape.messages(SHAPE_SIZES)]
    return prod(sizes[:MAX_RANK]) if types <= FLOATS and all(size >= 0 for size in sizes) else 0


def _tensors(signature: wire.Message, side: int) -> tuple[TensorInfo, ...]:
    tensors = [
        _tensor(entry.text(MAP_KEY), info) for entry in signature.messages(side) for info in entry.messages(MAP_VALUE)
    ]
    return tuple(sorted(tensors, key=lambda tensor: tensor.name))


def _tensor(name: str, info: wire.Message) -> TensorInfo:
    dtype = TYPE_NAMES.get(info.integer(INFO_TYPE), "unknown")
    shape: tuple[int | None, ...] | None = None
    for message in info.messages(INFO_SHAPE):
        if message.integer(SHAPE_UNKNOWN_RANK):
            break
        sizes = [size.integer(SIZE_VALUE) for size in message.messages(SHAPE_SIZES)]
        shape = tuple(None if size < 0 else size for size in sizes[: MAX_RANK + 1])
    return TensorInfo(name, shape, dtype)
