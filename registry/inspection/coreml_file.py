"""Core ML models: `.mlmodel` files and `.mlpackage` packages, read by the field numbers of Model.proto."""

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from registry.inspection.budget import Budget
from registry.inspection.coreml_layers import LAYER_WEIGHTS, LAYERS, MODEL_TYPES
from registry.inspection.coreml_package import Package, opened_package, require_blobs, specification_path
from registry.inspection.coreml_program import Program, read_program
from registry.inspection.errors import InspectionError
from registry.inspection.source import Operator, SourceInspection, TensorInfo
from registry.inspection.wire import Message, Parts

MAX_SPECIFICATION_BYTES = 256 * 1024**2  # of a package, whose weights lie elsewhere
MAX_FIELDS = 2_000_000
MAX_PIPELINE_DEPTH = 4
MAX_FEATURES = 1_000
MAX_LABELS = 10_000

SPECIFICATION_VERSION, DESCRIPTION, IS_UPDATABLE = 1, 2, 10
INPUTS, OUTPUTS, STATES, FUNCTIONS, DEFAULT_FUNCTION, METADATA = 1, 10, 13, 20, 21, 100
FEATURE_NAME, FEATURE_TEXT, FEATURE_TYPE = 1, 2, 3
FUNCTION_NAME, FUNCTION_INPUTS, FUNCTION_OUTPUTS, FUNCTION_STATES = 1, 2, 3, 6
INT64, DOUBLE, STRING, IMAGE, MULTI_ARRAY, DICTIONARY, SEQUENCE, STATE = 1, 2, 3, 4, 5, 6, 7, 8
ARRAY_SHAPE, ARRAY_TYPE, ARRAY_SHAPES, ARRAY_RANGE, STATE_ARRAY = 1, 2, 21, 31, 1
IMAGE_WIDTH, IMAGE_HEIGHT, IMAGE_COLOURS, IMAGE_SIZES, IMAGE_RANGE = 1, 2, 3, 21, 31
USER_DEFINED, MAP_KEY, MAP_VALUE = 100, 1, 2
CUSTOM_MODEL, LINKED_MODEL, ML_PROGRAM, CUSTOM_LAYER = 555, 556, 502, 500
PIPELINES: Mapping[int, bool] = MappingProxyType({200: True, 201: True, 202: False})  # whether one lies inside it
PIPELINE_MODELS = 1
NEURAL_NETWORKS = frozenset({303, 403, 500})
CLASSIFIERS = frozenset({400, 401, 402, 403, 404})
STRING_LABELS, INTEGER_LABELS, LABEL_VALUES = 100, 101, 1
NETWORK_LAYERS, LAYER_NAME = 1, 1
WEIGHT_FLOAT32, WEIGHT_FLOAT16, WEIGHT_INT8, WEIGHT_QUANTISED = 1, 2, 31, 30
MAX_RANK = 8

# The first iOS that reads each version of the specification.
IOS_BY_VERSION: Mapping[int, str] = MappingProxyType(
    {
        1: "11.0",
        2: "11.2",
        3: "12.0",
        4: "13.0",
        5: "14.0",
        6: "15.0",
        7: "16.0",
        8: "17.0",
        9: "18.0",
        10: "26.0",
    }
)
ARRAY_TYPES: Mapping[int, str] = MappingProxyType(
    {65552: "float16", 65568: "float32", 65600: "float64", 131080: "int8", 131104: "int32"}
)
COLOURS: Mapping[int, str] = MappingProxyType({10: "grayscale", 20: "rgb", 30: "bgr", 40: "grayscale_float16"})
METADATA_TEXTS: Mapping[int, str] = MappingProxyType({1: "description", 2: "version", 3: "author", 4: "license"})


@dataclass
class Found:
    """What the models of a file hold, those inside pipelines too."""

    folder: PurePosixPath | None
    operators: Counter[tuple[str, str]] = field(default_factory=Counter)
    programs: list[Program] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    weights: int = 0
    labels: list[str] = field(default_factory=list)


def inspect_coreml(path: Path) -> SourceInspection:
    """Inputs, outputs, operations, labels and weights of a `.mlmodel`, a zipped `.mlpackage` or such a folder.

    Raises InspectionError.
    """
    if path.is_dir() or _is_zip(path):
        with opened_package(path) as package:
            return _inspect_package(package)
    with path.open("rb") as stream:
        # Closed when the last reader lets go of it; weights of old models lie inside, gigabytes of them.
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return _inspect(memoryview(data), None, None, len(data))


def _is_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"


def _inspect_package(package: Package) -> SourceInspection:
    path = specification_path(package)
    specification = memoryview(package.read(path, MAX_SPECIFICATION_BYTES))
    return _inspect(specification, PurePosixPath(path).parent, package, sum(package.sizes().values()))


def _inspect(
    data: memoryview, folder: PurePosixPath | None, package: Package | None, size_bytes: int
) -> SourceInspection:
    model = Message(data, Budget(MAX_FIELDS, "damaged_protobuf")).parts()
    version = model.integer(SPECIFICATION_VERSION)
    if version not in IOS_BY_VERSION or DESCRIPTION not in model:
        got = f"version {version}" if version in range(1, 1000) else "something else"
        raise InspectionError("not_coreml", f"a Core ML model of version 1 to {max(IOS_BY_VERSION)}", got)
    found = Found(folder)
    _read_model(found, model, 0)
    blobs = [blob for program in found.programs for blob in program.blobs]
    weight_files = require_blobs(package, blobs) if package is not None else {}
    inputs, outputs, details = _described(model.last(DESCRIPTION).parts())
    details |= {
        "specification_version": version,
        "model_type": found.types[0],
        "model_types": found.types,
        "operators": dict(sorted(_by_name(found.operators).items())),
        "updatable": bool(model.integer(IS_UPDATABLE)),
        "functions": [name for program in found.programs for name in program.functions],
        "opsets": sorted({opset for program in found.programs for opset in program.opsets}),
        "weight_files": [
            {"path": path, "size_bytes": size, "offsets": sorted({blob.offset for blob in blobs if blob.file == path})}
            for path, size in weight_files.items()
        ],
    }
    operators = tuple(Operator(*key, count) for key, count in sorted(found.operators.items()))
    parameters = found.weights + sum(program.parameters for program in found.programs)
    return SourceInspection(
        "coreml",
        inputs,
        outputs,
        size_bytes,
        details,
        operators,
        parameters,
        IOS_BY_VERSION[version],
        _metadata(model, found.labels),
    )


def _by_name(operators: Mapping[tuple[str, str], int]) -> Counter[str]:
    names: Counter[str] = Counter()
    for (name, _), count in operators.items():
        names[name] += count
    return names


def _read_model(found: Found, model: Parts, depth: int) -> None:
    if depth > MAX_PIPELINE_DEPTH:
        raise InspectionError("damaged_coreml", f"at most {MAX_PIPELINE_DEPTH} pipelines in one another", "more")
    kind = _kind(model)
    found.types.append(MODEL_TYPES[kind])
    if kind in PIPELINES:
        for step in _steps(model, kind):
            _read_model(found, step.parts(), depth + 1)
    elif kind == ML_PROGRAM:
        found.programs.append(read_program(model.last(kind), found.folder))
        found.operators.update(found.programs[-1].operations)
        found.labels = found.programs[-1].classes or found.labels
    elif kind in NEURAL_NETWORKS:
        _read_layers(found, model.last(kind), kind)
    if kind in CLASSIFIERS:
        found.labels = list(_labels(model.last(kind))) or found.labels


def _kind(model: Parts) -> int:
    kinds = [number for number in MODEL_TYPES if number in model]
    if len(kinds) != 1:
        raise InspectionError("coreml_type", "a model of one known type", ", ".join(map(str, kinds)) or "none")
    if kinds[0] == CUSTOM_MODEL:
        raise InspectionError("custom_layer", "a model that Core ML itself can run", "a custom model")
    if kinds[0] == LINKED_MODEL:
        raise InspectionError("linked_model", "a model that is whole", "a link to another file")
    return kinds[0]


def _steps(model: Parts, kind: int) -> Iterator[Message]:
    for outer in model.messages(kind):
        for pipeline in outer.messages(PIPELINE_MODELS) if PIPELINES[kind] else [outer]:
            yield from pipeline.messages(PIPELINE_MODELS)


def _labels(classifier: Message) -> Iterator[str]:
    for vector in classifier.messages(STRING_LABELS):
        yield from vector.parts().texts(LABEL_VALUES)
    for vector in classifier.messages(INTEGER_LABELS):
        yield from map(str, vector.parts().integers(LABEL_VALUES))


def _read_layers(found: Found, network: Message, kind: int) -> None:
    for layer in network.messages(NETWORK_LAYERS):
        parts = layer.parts()
        if CUSTOM_LAYER in parts:
            name = parts.text(LAYER_NAME)
            raise InspectionError("custom_layer", "layers that Core ML itself has", repr(name)[:100])
        for number in LAYERS:
            if number in parts:
                found.operators[LAYERS[number], ""] += 1
                found.weights += _layer_weights(parts.last(number), LAYER_WEIGHTS.get(number, ()))
    if not found.operators:
        raise InspectionError("coreml_type", f"layers in the {MODEL_TYPES[kind]}", "none")


def _layer_weights(settings: Message, fields: tuple[int, ...]) -> int:
    if not fields:
        return 0
    parts = settings.parts()
    return sum(_weight_count(weights) for number in fields for weights in parts.messages(number))


def _weight_count(weights: Message) -> int:
    """Numbers stored as they are; of quantised ones the file tells bytes only, counted as one number each."""
    parts = weights.parts()
    sizes = ((WEIGHT_FLOAT32, 4), (WEIGHT_FLOAT16, 2), (WEIGHT_INT8, 1), (WEIGHT_QUANTISED, 1))
    return sum(len(value.data) // size for number, size in sizes for value in parts.messages(number))


def _described(
    description: Parts,
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...], dict[str, Any]]:
    """The features of the model, or of its default function where it has several."""
    sides: tuple[list[Message], ...] = tuple(description.messages(number) for number in (INPUTS, OUTPUTS, STATES))
    functions = [function.parts() for function in description.messages(FUNCTIONS)]
    if functions:
        default = description.text(DEFAULT_FUNCTION)
        chosen = next((one for one in functions if one.text(FUNCTION_NAME) == default), functions[0])
        sides = tuple(chosen.messages(number) for number in (FUNCTION_INPUTS, FUNCTION_OUTPUTS, FUNCTION_STATES))
    if any(len(side) > MAX_FEATURES for side in sides):
        raise InspectionError("too_many_tensors", f"at most {MAX_FEATURES} inputs", f"{max(map(len, sides))}")
    inputs, outputs, states = (tuple(_feature(feature.parts()) for feature in side) for side in sides)
    if not inputs or not outputs:
        raise InspectionError("no_inputs_or_outputs", "a model with inputs and outputs", "none")
    images = {feature.text(FEATURE_NAME): _colours(feature) for feature in (side.parts() for side in sides[0])}
    found = {name: colours for name, colours in images.items() if colours}
    return inputs, outputs, {"images": found, "states": [state.name for state in states]}


def _feature(feature: Parts) -> TensorInfo:
    name, kind = feature.text(FEATURE_NAME), feature.last(FEATURE_TYPE).parts()
    if MULTI_ARRAY in kind:
        return _array(name, kind.last(MULTI_ARRAY).parts())
    if STATE in kind:
        return _array(name, kind.last(STATE).parts().last(STATE_ARRAY).parts())
    if IMAGE in kind:
        image = kind.last(IMAGE).parts()
        is_open = IMAGE_SIZES in image or IMAGE_RANGE in image
        sizes = [None if is_open else image.integer(number) for number in (IMAGE_HEIGHT, IMAGE_WIDTH)]
        return TensorInfo(name, _checked(name, sizes), "image")
    plain = {INT64: "int64", DOUBLE: "float64", STRING: "string", DICTIONARY: "dictionary", SEQUENCE: "sequence"}
    dtype = next((word for number, word in plain.items() if number in kind), None)
    if dtype is None:
        raise InspectionError("tensor_type", f"a known type of {name!r}"[:200], "none")
    return TensorInfo(name, () if dtype in {"int64", "float64", "string"} else None, dtype)


def _array(name: str, array: Parts) -> TensorInfo:
    sizes: list[int | None] = list(array.integers(ARRAY_SHAPE))
    for shapes in array.messages(ARRAY_SHAPES):
        for shape in shapes.messages(1):
            other = shape.parts().integers(1)
            sizes = [size if size == one else None for size, one in zip(sizes, other, strict=False)]
    for bounds in array.messages(ARRAY_RANGE):
        ranges = [one.parts() for one in bounds.messages(1)]
        sizes = [_fixed(one.integer(1), one.integer(2)) for one in ranges]
    number = array.integer(ARRAY_TYPE)
    if number not in ARRAY_TYPES:
        raise InspectionError("tensor_type", f"a known type of number in {name!r}"[:200], f"{number}")
    return TensorInfo(name, _checked(name, sizes), ARRAY_TYPES[number])


def _fixed(low: int, high: int) -> int | None:
    return low if low == high else None


def _checked(name: str, sizes: list[int | None]) -> tuple[int | None, ...]:
    if len(sizes) > MAX_RANK or any(size is not None and size < 0 for size in sizes):
        raise InspectionError("bad_shape", f"at most {MAX_RANK} sizes of 0 or more in {name!r}"[:200], f"{sizes}"[:100])
    return tuple(sizes)


def _colours(feature: Parts) -> str:
    image = feature.last(FEATURE_TYPE).parts().last(IMAGE).parts()
    return COLOURS.get(image.integer(IMAGE_COLOURS), "")


def _metadata(model: Parts, labels: list[str]) -> dict[str, Any]:
    description = model.last(DESCRIPTION).parts()
    metadata = description.last(METADATA).parts()
    found: dict[str, Any] = {word: metadata.text(number) for number, word in METADATA_TEXTS.items()}
    entries = [entry.parts() for entry in metadata.messages(USER_DEFINED)]
    found["user_defined"] = {entry.text(MAP_KEY): entry.text(MAP_VALUE) for entry in entries}
    for side, number in (("inputs", INPUTS), ("outputs", OUTPUTS)):
        features = [feature.parts() for feature in description.messages(number)]
        texts = {feature.text(FEATURE_NAME): feature.text(FEATURE_TEXT) for feature in features}
        found[side] = {name: {"description": text} for name, text in texts.items() if text}
    found["labels"] = labels[:MAX_LABELS]
    return {key: value for key, value in found.items() if value}
