"""Running an ONNX file on ONNX Runtime, one sample at a time on the processor."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from registry.conversion.report import Signature, TensorSpec
from registry.conversion.worker.job import WorkerError

Array = npt.NDArray[np.generic]

PROVIDERS = ["CPUExecutionProvider"]
ERRORS_ONLY = 3
DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class OnnxModel:
    """A loaded `.onnx`. A size the file leaves open is taken as `names` gives it, or as 1 where it is the first."""

    # ONNX Runtime's processor provider has no delegate to switch.
    xnnpack_choices = (False,)

    def __init__(self, path: Path, names: Signature | None = None) -> None:
        self._path = path
        self._session = session(path)
        known = {spec.name: spec for spec in (*names.inputs, *names.outputs)} if names else {}
        self.signature = Signature(
            tuple(_spec(value, known) for value in self._session.get_inputs()),
            tuple(sorted((_spec(value, known) for value in self._session.get_outputs()), key=lambda spec: spec.name)),
        )

    def stored(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs in the file's own types."""
        return {spec.name: inputs[spec.name].reshape(spec.shape).astype(spec.dtype) for spec in self.signature.inputs}

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> float32 of one sample. Raises WorkerError for a file that does not run."""
        names = [spec.name for spec in self.signature.outputs]
        try:
            values = self._session.run(names, self.stored(inputs))
        except Exception as error:  # onnxruntime's own errors share no base but this
            raise WorkerError("does_not_run", f"expected a file ONNX Runtime runs; got {error}"[:2000]) from error
        return {name: np.asarray(value, np.float32) for name, value in zip(names, values, strict=True)}

    def invoke_at(self, inputs: Mapping[str, Array], *, threads: int, xnnpack: bool) -> Callable[[], None]:  # noqa: ARG002
        """One inference of a fresh session, fed and ready."""
        fresh, fed = session(self._path, threads=threads), self.stored(inputs)

        def invoke() -> None:
            fresh.run(None, fed)

        return invoke


def session(path: Path, *, threads: int = 1) -> Any:
    """Raises WorkerError for a file ONNX Runtime does not load."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS)
    except Exception as error:  # onnxruntime's own errors share no base but this
        raise WorkerError("not_loadable", f"expected a file ONNX Runtime loads; got {error}"[:2000]) from error


def _spec(value: Any, known: Mapping[str, TensorSpec]) -> TensorSpec:
    if value.type not in DTYPES:
        raise WorkerError("input_type", f"expected {value.name!r} to be a tensor of numbers; got {value.type}")
    if value.name in known and len(known[value.name].shape) == len(value.shape):
        shape = tuple(
            size if isinstance(size, int) else wanted
            for size, wanted in zip(value.shape, known[value.name].shape, strict=True)
        )
        return TensorSpec(value.name, shape, DTYPES[value.type])
    first, *others = value.shape or (1,)
    if any(not isinstance(size, int) for size in others):
        raise WorkerError(
            "unknown_shape", f"expected known sizes after the batch for {value.name!r}; got {list(value.shape)}"
        )
    shape = () if not value.shape else (first if isinstance(first, int) else 1, *others)
    return TensorSpec(value.name, shape, DTYPES[value.type])
