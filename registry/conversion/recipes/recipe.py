"""What each variant of a model version is made of, as data.

A recipe names one step of the worker and its parameters; the worker holds one function per step. Changing any member
of a recipe changes its digest, so that a variant built by an older recipe is never taken for one built by a newer.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Family = Literal["tflite", "coreml", "onnx", "executorch"]

RUNTIME_OF_FAMILY: Mapping[str, str] = MappingProxyType(
    {"tflite": "litert", "coreml": "coreml", "onnx": "onnxruntime", "executorch": "executorch"}
)
ENTRY_OF_FAMILY: Mapping[str, str] = MappingProxyType(
    {"tflite": "model.tflite", "coreml": "model.mlpackage", "onnx": "model.onnx", "executorch": "model.pte"}
)
TRACE = "trace"


@dataclass(frozen=True)
class ParityLimits:
    """How far a variant's outputs may lie from its source's before it is `parity_missed`.

    `max_abs_error` and `mean_abs_error` are in units of the output, and scaled by the largest absolute reference
    value of that output when it exceeds 1 (probabilities are compared as they are, raw scores relative to their size).
    `min_top1_agreement` is a share in 0..1 and counts only on an evaluation set: on random inputs the two best classes
    lie so close that their order says nothing.
    """

    max_abs_error: float
    mean_abs_error: float
    min_top1_agreement: float


@dataclass(frozen=True)
class Trace:
    """What the heavy room makes of a source once, for recipes to start from.

    `trace` itself holds the float32 `.tflite`, the float16 Core ML package, golden inputs and the source's outputs.
    Any other one, made on request, takes those and replaces or adds files: its recipes see the main trace's folder
    with its own files laid over it. `step` is the function of the worker that makes it.
    """

    slug: str
    step: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    needs_training_set: bool = False

    @property
    def digest(self) -> str:
        return _digest(self)


@dataclass(frozen=True)
class Recipe:
    """One way to build a variant.

    `step` is the function of its family's module in `worker.steps` that builds it, `parameters` are data for it. `base`
    is the trace it starts from. `expected_size_ratio` is the variant's size over the float32 `.tflite`'s, for models of
    more than a few layers. `min_runtime_version` is dotted; for Core ML it is the iOS version, for LiteRT it is empty
    (see docs/conversion.md). A recipe that is not `on_request` belongs to the default profile. `io_dtype` is the
    integer type that inputs and outputs of real values take; empty for one that leaves them as the source has them.
    """

    slug: str
    family: Family
    step: str
    parity: ParityLimits
    parameters: Mapping[str, Any] = field(default_factory=dict)
    min_runtime_version: str = ""
    needs_calibration: bool = False
    expected_size_ratio: float = 1.0
    base: str = TRACE
    on_request: bool = False
    io_dtype: str = ""

    @property
    def runtime(self) -> str:
        return RUNTIME_OF_FAMILY[self.family]

    @property
    def entry(self) -> str:
        """Path, relative to the output directory, of the file or directory a runtime loads."""
        return ENTRY_OF_FAMILY[self.family]

    @property
    def digest(self) -> str:
        return _digest(self)


def _digest(entry: Trace | Recipe) -> str:
    """SHA-256 (hex) of its data as canonical JSON: sorted keys, no spaces, ASCII."""
    text = json.dumps(asdict(entry), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
