"""`.keras` files: a zip of exactly three members, whose architecture is JSON and is read as nothing else."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from registry.inspection import archive
from registry.inspection.errors import InspectionError
from registry.inspection.keras_layers import (
    ALLOWED_HELPER_MODULES,
    ALLOWED_HELPERS,
    ALLOWED_LAYERS,
    ALLOWED_MODELS,
    ALLOWED_VALUES,
)
from registry.inspection.source import SourceInspection, TensorInfo

MEMBERS = frozenset({"metadata.json", "config.json", "model.weights.h5"})
MAX_CONFIG_BYTES = 8 * 1024**2
MAX_METADATA_BYTES = 64 * 1024
MAX_DEPTH = 100
MAX_NODES = 2_000_000
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ADVICE = (
    "replace it by built-in layers, or register the model as a SavedModel zip (model.export) or as a ready .tflite file"
)


def inspect_keras(path: Path) -> SourceInspection:
    """Inputs, output names and layers of a Keras 3 file. Raises InspectionError."""
    with archive.opened(path, "a .keras file") as opened:
        names = set(opened.namelist())
        if names != MEMBERS:
            raise InspectionError("keras_members", ", ".join(sorted(MEMBERS)), ", ".join(sorted(names))[:500])
        config = _json_object(archive.read_member(opened, "config.json", MAX_CONFIG_BYTES), "config.json")
        metadata = _json_object(archive.read_member(opened, "metadata.json", MAX_METADATA_BYTES), "metadata.json")
        with opened.open("model.weights.h5") as weights:
            if weights.read(len(HDF5_MAGIC)) != HDF5_MAGIC:
                raise InspectionError("keras_weights", "HDF5 data in model.weights.h5", "something else")
    layers = _checked_layers(config)
    inputs, outputs = _inputs(config), _outputs(config)
    details = {"keras_version": str(metadata.get("keras_version", "")), "layers": dict(sorted(layers.items()))}
    return SourceInspection("keras", inputs, outputs, path.stat().st_size, details)


def _json_object(data: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InspectionError("keras_json", f"JSON in {name}", str(error)) from error
    if not isinstance(document, dict):
        raise InspectionError("keras_json", f"a JSON object in {name}", type(document).__name__)
    return document


def serialised_objects(config: Any) -> Iterator[Mapping[str, Any]]:
    """Every `{"class_name": …}` at any depth; `compile_config` is left out, for it is never loaded."""
    stack: list[tuple[Any, int]] = [(config, 0)]
    visited = 0
    while stack:
        node, depth = stack.pop()
        visited += 1
        if depth > MAX_DEPTH or visited > MAX_NODES:
            raise InspectionError("keras_json", f"at most {MAX_DEPTH} levels and {MAX_NODES} values", "more")
        if isinstance(node, dict):
            if "class_name" in node:
                yield node
            stack.extend((value, depth + 1) for key, value in node.items() if key != "compile_config")
        elif isinstance(node, list):
            stack.extend((value, depth + 1) for value in node)


def _checked_layers(config: Mapping[str, Any]) -> Counter[str]:
    layers: Counter[str] = Counter()
    for node in serialised_objects(config):
        name, module = str(node["class_name"]), str(node.get("module"))
        _require_built_in(name, module, node.get("registered_name"))
        if name in ALLOWED_LAYERS:
            layers[name] += 1
    if not layers:
        raise InspectionError("keras_config", "a model of built-in layers in config.json", "none")
    return layers


def _require_built_in(name: str, module: str, registered_name: Any) -> None:
    if name in {"Lambda", "__lambda__"}:
        raise InspectionError("lambda_layer", f"no Lambda layer, which would run the file's own code ({ADVICE})", name)
    if registered_name is not None and registered_name != name:
        raise InspectionError("custom_object", f"built-in Keras classes only ({ADVICE})", repr(registered_name))
    if module == "keras.layers" or module.startswith("keras.src.layers"):
        allowed = name in ALLOWED_LAYERS
    elif name in ALLOWED_MODELS:
        allowed = module == "keras" or module.startswith(("keras.src.models", "keras.models"))
    elif name in ALLOWED_VALUES:
        allowed = True
    else:
        allowed = module.startswith(ALLOWED_HELPER_MODULES) or (module.startswith("keras") and name in ALLOWED_HELPERS)
    if not allowed:
        raise InspectionError("custom_object", f"built-in Keras classes only ({ADVICE})", f"{module}.{name}")


def _model_layers(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise InspectionError("keras_config", "a list of layers in config.json", type(layers).__name__)
    return layers


def _inputs(config: Mapping[str, Any]) -> tuple[TensorInfo, ...]:
    settings = [
        layer["config"]
        for layer in _model_layers(config)
        if layer.get("class_name") == "InputLayer" and isinstance(layer.get("config"), dict)
    ]
    if not settings:
        raise InspectionError("keras_inputs", "a model with known inputs (call it once before saving)", "no InputLayer")
    return tuple(_input(setting) for setting in settings)


def _input(settings: Mapping[str, Any]) -> TensorInfo:
    shape = settings.get("batch_shape")
    if not isinstance(shape, list) or not all(size is None or (type(size) is int and size > 0) for size in shape):
        raise InspectionError("keras_inputs", "a list of sizes as batch_shape", repr(shape)[:100])
    return TensorInfo(str(settings.get("name", "")), tuple(shape), str(settings.get("dtype", "float32")))


def _outputs(config: Mapping[str, Any]) -> tuple[TensorInfo, ...]:
    """Names are those of the output layers; the file does not tell their shapes."""
    names = list(_names(config["config"].get("output_layers")))
    if not names:
        last = _model_layers(config)[-1].get("config")
        names = [str(last.get("name", "")) if isinstance(last, dict) else ""]
    return tuple(TensorInfo(name, None, "") for name in names)


def _names(node: Any, depth: int = 0) -> Iterator[str]:
    """Layer names of `[name, node, tensor]`, however these triples are nested."""
    if isinstance(node, list) and node and isinstance(node[0], str):
        yield node[0]
    elif isinstance(node, list | dict) and depth < MAX_DEPTH:
        for child in node.values() if isinstance(node, dict) else node:
            yield from _names(child, depth + 1)
