"""Running a `.tflite` on LiteRT's interpreter, one sample at a time, names instead of indices."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from registry.conversion.evaluation_set import dequantised, quantised
from registry.conversion.report import Quantization, Signature, TensorSpec
from registry.conversion.worker.job import WorkerError

Array = npt.NDArray[np.generic]

DEFAULT_SIGNATURE = "serving_default"


class LiteRtModel:
    """A loaded `.tflite` of batch 1. `signature` holds the file's own types, shapes and quantisation."""

    xnnpack_choices = (True, False)

    def __init__(self, path: Path, names: Signature | None = None) -> None:
        """`names` gives the input and output names, by position, of a file without a signature of its own."""
        require_compiled(path)
        self._path = path
        self._interpreter = allocated(path)
        signatures = self._interpreter.get_signature_list()
        self.signature_key = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else next(iter(signatures), "")
        self._inputs, self._outputs = self._details(names)
        self.signature = Signature(
            tuple(_spec(name, detail) for name, detail in self._inputs.items()),
            tuple(_spec(name, detail) for name, detail in self._outputs.items()),
        )

    def _details(self, names: Signature | None) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.signature_key:
            runner = self._interpreter.get_signature_runner(self.signature_key)
            return runner.get_input_details(), dict(sorted(runner.get_output_details().items()))
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        input_names = [spec.name for spec in names.inputs] if names else [detail["name"] for detail in inputs]
        output_names = [spec.name for spec in names.outputs] if names else [detail["name"] for detail in outputs]
        return dict(zip(input_names, inputs, strict=True)), dict(zip(output_names, outputs, strict=True))

    def stored(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs in the file's own types: real values are quantised, integers of its type pass as they are."""
        given = {}
        for spec in self.signature.inputs:
            array = inputs[spec.name].reshape(spec.shape)
            given[spec.name] = array if array.dtype == np.dtype(spec.dtype) else quantised(array, spec)
        return given

    def _fed(self, inputs: Mapping[str, Array]) -> dict[int, Array]:
        """What an interpreter of this file is fed for one sample, by the index of its tensors."""
        return {self._inputs[name]["index"]: array for name, array in self.stored(inputs).items()}

    def invoke_at(self, inputs: Mapping[str, Array], *, threads: int, xnnpack: bool) -> Callable[[], None]:
        """One inference of a fresh interpreter, fed and ready."""
        interpreter = allocated(self._path, threads=threads, xnnpack=xnnpack)
        for index, array in self._fed(inputs).items():
            interpreter.set_tensor(index, array)
        invoke: Callable[[], None] = interpreter.invoke
        return invoke

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> float32 (dequantised) of one sample. Raises WorkerError for a file that does not run."""
        try:
            for index, array in self._fed(inputs).items():
                self._interpreter.set_tensor(index, array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise WorkerError("does_not_run", f"expected a file LiteRT runs; got {error}"[:2000]) from error
        return {
            spec.name: dequantised(self._interpreter.get_tensor(self._outputs[spec.name]["index"]), spec)
            for spec in self.signature.outputs
        }


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    quantization = Quantization(float(scale), int(zero_point)) if scale else None
    return TensorSpec(name, tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"]).name, quantization)


def require_compiled(path: Path) -> None:
    """LiteRT's second loader refuses damage that the interpreter accepts or crashes on."""
    try:
        CompiledModel.from_file(str(path)).close()
    except (ValueError, RuntimeError) as error:
        raise WorkerError("not_loadable", f"expected a file LiteRT compiles; got {error}"[:2000]) from error


def allocated(path: Path, *, threads: int = 1, xnnpack: bool = True) -> Interpreter:
    """An interpreter ready to run. Raises WorkerError `not_loadable`, `does_not_allocate` or `delegate_refused`."""
    try:
        interpreter = _interpreter(path, threads, xnnpack=xnnpack)
    except (ValueError, RuntimeError) as error:
        raise WorkerError("not_loadable", f"expected a file LiteRT loads; got {error}"[:2000]) from error
    try:
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise WorkerError(_why(path), f"expected a file LiteRT allocates; got {error}"[:2000]) from error
    return interpreter


def _why(path: Path) -> str:
    """Whether it is the default delegate, which phones use too, or the runtime itself that refuses the file."""
    try:
        _interpreter(path, 1, xnnpack=False).allocate_tensors()
    except (ValueError, RuntimeError):
        return "does_not_allocate"
    return "delegate_refused"


def _interpreter(path: Path, threads: int, *, xnnpack: bool) -> Interpreter:
    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_path=str(path), num_threads=threads, experimental_op_resolver_type=resolver)
