"""Running a bundle's entry file. Floats in and out, also of quantised models."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aerogram_sdk.errors import InputInvalid
from aerogram_sdk.manifest import SignatureSchema

Array = NDArray[Any]


class LoadedModel(Protocol):
    """A model in memory. `run` raises InputInvalid for the caller's fault, anything else for the model's."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...

    def close(self) -> None: ...


class Runtime(Protocol):
    """What an app carries to run one kind of model file."""

    @property
    def version(self) -> str: ...

    def load(self, entry: Path, schema: SignatureSchema | None, delegate_order: Sequence[str]) -> LoadedModel:
        """Raises anything if the file cannot be loaded."""
        ...


def quantise(values: Array, scale: float, zero_point: int, dtype: np.dtype[Any]) -> Array:
    """round(values / scale) + zero_point, clipped to the integer type (TFLite's affine quantisation)."""
    limits = np.iinfo(dtype)
    return np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(dtype)


def dequantise(values: Array, scale: float, zero_point: int) -> Array:
    return ((values.astype(np.float32) - zero_point) * np.float32(scale)).astype(np.float32)


class LiteRtRuntime:
    """TensorFlow Lite files by LiteRT (extra `litert`), on the CPU.

    XNNPACK is the one delegate there; it is left out if the manifest's order names delegates and not this one.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._litert = import_module("ai_edge_litert.interpreter")
        self._threads = threads

    @property
    def version(self) -> str:
        return installed_version("ai-edge-litert")

    def load(self, entry: Path, schema: SignatureSchema | None, delegate_order: Sequence[str]) -> "LiteRtModel":
        resolvers = self._litert.OpResolverType
        plain = delegate_order and "xnnpack" not in delegate_order
        interpreter = self._litert.Interpreter(
            model_path=str(entry),
            num_threads=self._threads,
            experimental_op_resolver_type=resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else resolvers.AUTO,
        )
        interpreter.allocate_tensors()
        return LiteRtModel(interpreter, schema)


class LiteRtModel:
    """Tensors are found by the names of the schema, else of the file's signature, else of the file's tensors."""

    def __init__(self, interpreter: Any, schema: SignatureSchema | None) -> None:
        self._interpreter = interpreter
        signature = next(iter(interpreter.get_signature_list()), None)
        runner = interpreter.get_signature_runner(signature) if signature else None
        inputs = runner.get_input_details() if runner else _by_name(interpreter.get_input_details())
        outputs = runner.get_output_details() if runner else _by_name(interpreter.get_output_details())
        self._inputs = _renamed(inputs, [spec.name for spec in schema.inputs] if schema else list(inputs))
        self._outputs = _renamed(outputs, [spec.name for spec in schema.outputs] if schema else list(outputs))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if inputs.keys() != self._inputs.keys():
            raise InputInvalid(f"inputs: expected {sorted(self._inputs)}, got {sorted(inputs)}")
        tensors = {name: _fitted(name, np.asarray(value), self._inputs[name]) for name, value in inputs.items()}
        for name, tensor in tensors.items():
            self._set(self._inputs[name], tensor)
        self._interpreter.invoke()
        return {name: self._get(details) for name, details in self._outputs.items()}

    def close(self) -> None:
        self._interpreter = None

    def _set(self, details: Mapping[str, Any], tensor: Array) -> None:
        current = self._interpreter.get_input_details()
        shape = next(item["shape"] for item in current if item["index"] == details["index"])
        if tuple(shape) != tensor.shape:
            self._interpreter.resize_tensor_input(details["index"], tensor.shape)
            self._interpreter.allocate_tensors()
        self._interpreter.set_tensor(details["index"], tensor)

    def _get(self, details: Mapping[str, Any]) -> Array:
        values: Array = self._interpreter.get_tensor(details["index"])
        scale, zero_point = details["quantization"]
        return dequantise(values, scale, zero_point) if scale and values.dtype.kind in "iu" else values


def _by_name(details: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {item["name"]: item for item in details}


def _renamed(details: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Tensors under the schema's names; a single tensor needs no matching name. Raises LookupError."""
    if set(names) == set(details):
        return {name: details[name] for name in names}
    tensor_names = {item["name"]: item for item in details.values()}
    if set(names) == set(tensor_names):
        return {name: tensor_names[name] for name in names}
    if len(names) == len(details) == 1:
        return {names[0]: next(iter(details.values()))}
    raise LookupError(f"tensors: expected {sorted(names)}, got {sorted(details)}")


def _fitted(name: str, values: Array, details: Mapping[str, Any]) -> Array:
    """`values` in the tensor's type and a shape it takes."""
    _refuse_other_shape(
        name, values, details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    )
    dtype, (scale, zero_point) = np.dtype(details["dtype"]), details["quantization"]
    if values.dtype == dtype:
        return values
    if values.dtype.kind == "f" and dtype.kind in "iu" and scale:
        return quantise(values, scale, zero_point, dtype)
    if values.dtype.kind == dtype.kind == "f":
        return values.astype(dtype)
    raise InputInvalid(f"{name}: expected {dtype}, got {values.dtype}")


def _refuse_other_shape(name: str, values: Array, shape: Sequence[int]) -> None:
    if len(shape) != values.ndim or any(size not in (-1, got) for size, got in zip(shape, values.shape, strict=True)):
        raise InputInvalid(f"{name}: expected shape {[int(size) for size in shape]}, got {list(values.shape)}")
