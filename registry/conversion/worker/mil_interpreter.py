"""Evaluates a Core ML program with NumPy, so that a package can be checked where Core ML does not run.

A package is parsed back into its MIL program; each operation is computed in float32 and its result rounded to the type
the program declares, so that a float16 program loses at every step what it would lose on a device that computes in
float16. What this cannot show: the Neural Engine's own rounding, and operations it hands back to the processor.
Operations and their parameters: the MIL op reference of coremltools.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import numpy.typing as npt
from coremltools.converters.mil.frontend.milproto.load import load as load_program
from coremltools.converters.mil.mil import types

from registry.conversion.recipes.coreml import ios_of
from registry.conversion.report import Signature, TensorSpec
from registry.conversion.worker.job import WorkerError
from registry.conversion.worker.mil_operations import OPERATIONS, Operation
from registry.conversion.worker.mil_weights import CONSTANT_OPERATIONS
from registry.conversion.worker.refusals import first_sentence

Array = npt.NDArray[Any]


class CoreMlModel:
    """A Core ML package of one ML program; called like a runtime."""

    def __init__(self, path: Path, names: Signature | None = None, specification_version: int = 0) -> None:
        """`names` is the signature it must have, `specification_version` the one it must be of; each where given."""
        with translated("not_loadable", "a package that coremltools reads"):
            model = ct.models.MLModel(str(path), skip_model_load=True)
        spec = model.get_spec()
        if specification_version and spec.specificationVersion != specification_version:
            expected = f"expected specification version {specification_version}"
            raise WorkerError("specification_version", f"{expected}; got {spec.specificationVersion}")
        with translated("not_loadable", "a program that coremltools reads"):
            self._function = load_program(spec, spec.specificationVersion, model.weights_dir).functions["main"]
        _require_known(op.op_type for op in self._function.operations)
        self._operations = [op for op in self._function.operations if op.op_type in OPERATIONS]
        with translated("not_loadable", "constants of the shapes and types they are declared with"):
            self._constants = _constants(self._function.operations)
        self.signature = signature_of(spec.description)
        self.min_runtime_version = ios_of(spec.specificationVersion)
        if names is not None:
            _require_same_features(self.signature, names)

    def stored(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs in the package's own types."""
        return {i.name: inputs[i.name].reshape(i.shape).astype(i.dtype) for i in self.signature.inputs}

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> float32 of one sample."""
        given = self.stored(inputs)
        known = {**self._constants, **{self._function.inputs[name]: _wide(array) for name, array in given.items()}}
        with translated("does_not_run", "a program that runs"):
            for op in self._operations:
                known.update(_results(op, OPERATIONS[op.op_type], known))
        return {var.name: known[var].astype(np.float32) for var in self._function.outputs}


@contextmanager
def translated(code: str, expected: str) -> Iterator[None]:
    """Raise WorkerError `code` for whatever coremltools and NumPy raise of a file that inspection let through."""
    try:
        yield
    except (WorkerError, MemoryError):
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {first_sentence(str(error))}"
        raise WorkerError(code, f"expected {expected}; got {got}") from error


def _require_known(op_types: Iterable[str]) -> None:
    unknown = sorted(set(op_types) - set(OPERATIONS) - set(CONSTANT_OPERATIONS) - {"const"})
    if unknown:
        detail = f"expected operations the interpreter knows; got {', '.join(unknown)}"
        raise WorkerError("unknown_operation", detail)


def _constants(operations: Iterable[Any]) -> dict[Any, Any]:
    """Variable -> its value, once for all samples: constants, and compressed weights turned back into numbers."""
    known: dict[Any, Any] = {}
    for op in operations:
        if op.op_type == "const":
            known[op.outputs[0]] = _wide(op.outputs[0].val)
        elif op.op_type in CONSTANT_OPERATIONS:
            known.update(_results(op, CONSTANT_OPERATIONS[op.op_type], known))
    return known


def _results(op: Any, operation: Operation, known: Mapping[Any, Any]) -> dict[Any, Any]:
    arguments = {
        name: tuple(known[part] for part in var) if isinstance(var, list | tuple) else known[var]
        for name, var in op.inputs.items()
        if var is not None
    }
    values = operation(arguments)
    listed = values if isinstance(values, tuple) else (values,)
    return {
        var: _wide(np.asarray(value).astype(_numpy_type(var))) for var, value in zip(op.outputs, listed, strict=True)
    }


def _wide(value: Any) -> Any:
    """Rounded to float16 already, but held in float32, in which the operations compute."""
    halved = isinstance(value, np.ndarray | np.generic) and value.dtype == np.float16
    return np.asarray(value, np.float32) if halved else value


def _numpy_type(var: Any) -> Any:
    return types.nptype_from_builtin(var.dtype)


def signature_of(description: Any) -> Signature:
    inputs, outputs = (
        tuple(sorted((_feature(feature) for feature in side), key=lambda spec: spec.name))
        for side in (description.input, description.output)
    )
    return Signature(inputs, outputs)


def _feature(feature: Any) -> TensorSpec:
    kind = feature.type.WhichOneof("Type")
    if kind == "imageType":
        return TensorSpec(feature.name, (feature.type.imageType.height, feature.type.imageType.width), "image")
    if kind != "multiArrayType":
        return TensorSpec(feature.name, (), kind.removesuffix("Type"))
    array = feature.type.multiArrayType
    names = {array.FLOAT32: "float32", array.FLOAT16: "float16", array.INT32: "int32", array.DOUBLE: "float64"}
    return TensorSpec(feature.name, tuple(array.shape), names.get(array.dataType, "unknown"))


def _require_same_features(found: Signature, expected: Signature) -> None:
    for side in ("inputs", "outputs"):
        got = sorted((spec.name, spec.shape) for spec in getattr(found, side))
        wanted = sorted((spec.name, spec.shape) for spec in getattr(expected, side))
        if got != wanted:
            raise WorkerError("coreml_signature", f"expected {side} {wanted}; got {got}")
        wanted_half = {spec.name for spec in getattr(expected, side) if spec.dtype == "float16"}
        half = [s.name for s in getattr(found, side) if s.dtype == "float16" and s.name not in wanted_half]
        if half:
            raise WorkerError("coreml_signature", f"expected float32 {side}; got float16 for {', '.join(half)}")
