"""A stand-in for Core ML on a machine that has none: evaluates the package's own program with numpy.

What it cannot show: the Neural Engine's rounding and what it leaves to the CPU. Good enough to see that the bytes a
phone verified are a working model.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerogram_sdk import SignatureSchema
from numpy.typing import NDArray

COREML_SPECIFICATION_OF_IOS16 = 7


class CoreMlOnLinux:
    """An SDK runtime for `.mlpackage` folders."""

    version = "18.1"

    def load(self, entry: Path, schema: SignatureSchema | None, delegate_order: Sequence[str]) -> "CoreMlModel":  # noqa: ARG002
        return CoreMlModel(entry, schema)


class CoreMlModel:
    def __init__(self, entry: Path, schema: SignatureSchema | None) -> None:
        # coremltools imports TensorFlow when it can, for four seconds and half a gigabyte that nothing here uses.
        sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]
        from registry.conversion.report import Signature, TensorSpec  # noqa: PLC0415
        from registry.conversion.worker.mil_interpreter import CoreMlModel as Interpreter  # noqa: PLC0415

        if schema is None:
            raise ValueError("expected a signature schema for a Core ML package, got none")
        sides = [
            tuple(TensorSpec(spec.name, tuple(spec.shape), spec.dtype) for spec in side)
            for side in (schema.inputs, schema.outputs)
        ]
        self._model = Interpreter(entry, Signature(*sides), COREML_SPECIFICATION_OF_IOS16)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self._model.infer(inputs)

    def close(self) -> None:
        pass
