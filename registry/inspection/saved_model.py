"""SavedModel archives: the listing, the operations of the graph and the serving signature, without loading anything."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from registry.inspection import archive, wire
from registry.inspection.budget import Budget
from registry.inspection.errors import InspectionError
from registry.inspection.source import SourceInspection, TensorInfo
from registry.inspection.tensorflow_ops import ALLOWED_OPERATIONS

GRAPH_FILE = "saved_model.pb"
MAX_GRAPH_BYTES = 256 * 1024**2
MAX_FIELDS = 4_000_000  # a graph of 100 000 nodes has half as many; some seconds to read
MAX_RANK = 8
MAX_FOLDERS = 4
KNOWN_FOLDERS = frozenset({"variables", "assets", "assets.extra"})
KNOWN_FILES = frozenset({GRAPH_FILE, "fingerprint.pb", "keras_metadata.pb", "saved_model.pbtxt"})
SERVING_SIGNATURE = "serving_default"

# Field numbers of saved_model.proto, meta_graph.proto, graph.proto, function.proto and tensor_shape.proto.
META_GRAPHS, META_GRAPH_GRAPH, META_GRAPH_SIGNATURES = 2, 2, 5
GRAPH_NODES, GRAPH_LIBRARY, LIBRARY_FUNCTIONS, FUNCTION_NODES, NODE_OPERATION = 1, 2, 1, 3, 2
MAP_KEY, MAP_VALUE, SIGNATURE_INPUTS, SIGNATURE_OUTPUTS = 1, 2, 1, 2
INFO_TYPE, INFO_SHAPE, SHAPE_SIZES, SHAPE_UNKNOWN_RANK, SIZE_VALUE = 2, 3, 2, 3, 1

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
    """Serving signature and operations of a SavedModel zip. Raises InspectionError."""
    with archive.opened(path, "a SavedModel") as opened:
        root = _root(opened.infolist())
        graph = memoryview(archive.read_member(opened, str(root / GRAPH_FILE), MAX_GRAPH_BYTES))
        members = len(opened.infolist())
    operations = allowed_operations(graph)
    inputs, outputs = _signature(_message(graph))
    details = {"operations": operations, "members": members, "root": str(root)}
    return SourceInspection("saved_model", inputs, outputs, path.stat().st_size, details)


def allowed_operations(saved_model: memoryview) -> list[str]:
    """Names of the operations in saved_model.pb, sorted. Raises InspectionError for one that is not allowed."""
    operations = sorted(set(_operations(_message(saved_model))))
    refused = [operation for operation in operations if operation not in ALLOWED_OPERATIONS]
    if refused:
        raise InspectionError(
            "tensorflow_operation", "operations a phone's runtime can express", ", ".join(refused[:20])
        )
    return operations


def _message(saved_model: memoryview) -> wire.Message:
    return wire.Message(saved_model, Budget(MAX_FIELDS, "damaged_protobuf"))


def _root(members: list[zipfile.ZipInfo]) -> PurePosixPath:
    """The folder of the one saved_model.pb; every other member must belong to it."""
    files = [PurePosixPath(member.filename) for member in members if not member.is_dir()]
    graphs = [file for file in files if file.name == GRAPH_FILE]
    if len(graphs) != 1 or len(graphs[0].parts) > MAX_FOLDERS:
        raise InspectionError("not_saved_model", f"one {GRAPH_FILE} in the archive", f"{len(graphs)}")
    root = graphs[0].parent
    strangers = [str(file) for file in files if not _belongs(file, root)]
    if strangers:
        raise InspectionError("saved_model_members", "only the files of a SavedModel", ", ".join(strangers[:5]))
    return root


def _belongs(file: PurePosixPath, root: PurePosixPath) -> bool:
    if not file.is_relative_to(root):
        return False
    inner = file.relative_to(root).parts
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


def _signature(saved_model: wire.Message) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    found: list[str] = []
    for meta_graph in saved_model.messages(META_GRAPHS):
        for entry in meta_graph.messages(META_GRAPH_SIGNATURES):
            key = entry.text(MAP_KEY)
            found.append(key)
            if key == SERVING_SIGNATURE:
                values = list(entry.messages(MAP_VALUE))
                if len(values) != 1:
                    raise InspectionError("no_signature", f"one value of {key!r}", f"{len(values)}")
                return _tensors(values[0], SIGNATURE_INPUTS), _tensors(values[0], SIGNATURE_OUTPUTS)
    raise InspectionError("no_signature", f"a signature {SERVING_SIGNATURE!r}", ", ".join(found[:20]) or "none")


def _tensors(signature: wire.Message, side: int) -> tuple[TensorInfo, ...]:
    tensors = [
        _tensor(entry.text(MAP_KEY), info) for entry in signature.messages(side) for info in entry.messages(MAP_VALUE)
    ]
    if not tensors:
        raise InspectionError("no_signature", "a signature with inputs and outputs", "none")
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
