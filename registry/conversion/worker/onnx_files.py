"""ONNX files: what is accepted in one, and writing one whose bytes depend on its content only."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx

from registry.conversion.worker.job import WorkerError

TRACED_FILE = "float32.onnx"
STANDARD_DOMAINS = ("", "ai.onnx")
PRODUCER = "aerogram"
NUMBERED = re.compile(r"__\d+")


def read_model(path: Path) -> Any:
    """Raises WorkerError for a file that is no ONNX model, keeps weights elsewhere, or needs operations of others."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own error is of a type that depends on its build
        raise WorkerError("not_onnx", f"expected an ONNX file; got {error}"[:500]) from error
    _require_inside(model)
    require_standard(model)
    return model


def _require_inside(model: Any) -> None:
    """External data names files: beside the model, or anywhere else on this machine."""
    outside = [tensor.name for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise WorkerError("external_data", f"expected weights inside the file; got {', '.join(outside[:5])} outside it")


def _tensors(model: Any) -> list[Any]:
    found = []
    for graph in _graphs(model.graph):
        found += list(graph.initializer)
        for sparse in graph.sparse_initializer:
            found += [sparse.values, sparse.indices]
        for node in graph.node:
            for attribute in node.attribute:
                found += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
    return found


def _graphs(graph: Any) -> list[Any]:
    """The graph and every one inside its branches and loops."""
    found = [graph]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in _graphs_in(attribute):
                found += _graphs(inner)
    return found


def _graphs_in(attribute: Any) -> list[Any]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def require_standard(model: Any) -> None:
    """Raises WorkerError naming the operations that are none of ONNX's own, then for any other fault onnx finds."""
    foreign = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for graph in _graphs(model.graph)
            for node in graph.node
            if node.domain not in STANDARD_DOMAINS
        }
    )
    if foreign:
        raise WorkerError("custom_operator", f"expected ONNX's own operations; got {', '.join(foreign)}"[:500])
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise WorkerError("damaged_onnx", f"expected a model that onnx.checker accepts; got {error}"[:2000]) from error


def canonical(model: Any) -> Any:
    """The same model with its nodes in the order in which its outputs need them, and names numbered in that order.

    tf2onnx keeps sets of objects, so which of two constants is folded first differs from one process to the next.
    """
    graph = model.graph
    order = _in_order_of_need(graph)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    used = dict.fromkeys(name for node in order for name in _read_by(node) if name in tensors)
    initializers = [tensors[name] for name in used]
    del graph.value_info[:], graph.node[:], graph.initializer[:]
    graph.node.extend(order)
    graph.initializer.extend(initializers)
    _rename(graph, _Numbering())
    return model


def _in_order_of_need(graph: Any) -> list[Any]:
    """Depth first from the outputs: a node follows all that it reads, in the order of its inputs."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    order: dict[int, Any] = {}
    waiting = [(makers[output.name], False) for output in reversed(graph.output) if output.name in makers]
    while waiting:
        index, ready = waiting.pop()
        if index in order:
            continue
        if ready:
            order[index] = graph.node[index]
            continue
        needed = [makers[name] for name in _read_by(graph.node[index]) if name in makers]
        waiting += [(index, True), *((maker, False) for maker in reversed(needed) if maker not in order)]
    # Copies: the caller empties the list they lie in.
    return [_copied(node) for node in order.values()]


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _read_by(node: Any) -> Iterator[str]:
    """Names a node reads, those of the graphs inside it included."""
    yield from node.input
    for attribute in node.attribute:
        for graph in _graphs_in(attribute):
            for inner in graph.node:
                yield from _read_by(inner)
            yield from (output.name for output in graph.output)


class _Numbering:
    """`name__17:0` -> `name:0__0`, counted in the order in which names are first asked for."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if not NUMBERED.search(name):
            return name
        return self._given.setdefault(name, f"{NUMBERED.sub('', name)}__{len(self._given)}")


def _rename(graph: Any, renamed: Callable[[str], str]) -> None:
    """Names of all but the model's own inputs and outputs."""
    kept = {value.name for value in (*graph.input, *graph.output)}

    def name_of(name: str) -> str:
        return name if name in kept else renamed(name)

    for number, node in enumerate(graph.node):
        node.input[:] = [name_of(name) for name in node.input]
        node.output[:] = [name_of(name) for name in node.output]
        node.name = f"{node.op_type}_{number}"
        for attribute in node.attribute:
            for inner in _graphs_in(attribute):
                _rename_inside(inner, name_of)
    for tensor in graph.initializer:
        tensor.name = name_of(tensor.name)


def _rename_inside(graph: Any, name_of: Callable[[str], str]) -> None:
    """A graph inside a node: its own interface takes part in the numbering, for it is seen by nobody else."""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = name_of(value.name)
    for node in graph.node:
        node.input[:] = [name_of(name) for name in node.input]
        node.output[:] = [name_of(name) for name in node.output]
        node.name = ""
        for attribute in node.attribute:
            for inner in _graphs_in(attribute):
                _rename_inside(inner, name_of)


def write_model(model: Any, path: Path) -> None:
    """Without the free texts of a converter (the name of a Python function among them), which vary between runs."""
    model.doc_string = ""
    model.producer_name, model.producer_version = PRODUCER, ""
    model.graph.name, model.graph.doc_string = "model", ""
    for node in model.graph.node:
        node.doc_string = ""
    path.write_bytes(model.SerializeToString(deterministic=True))
