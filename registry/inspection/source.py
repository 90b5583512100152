"""What inspection finds out about a source model, for every format alike."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Format = Literal["keras", "saved_model", "tflite", "coreml", "onnx"]

MAX_TEXT = 2_000
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output. A size is None where the model leaves it open; `shape` is None where the file does not tell.

    `scale` and `zero_point` are set for a tensor quantised as a whole: real = scale * (stored - zero_point).
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Operator:
    """An operation and how many times the model holds it; `version` as its format counts, empty where it does not."""

    name: str
    version: str
    count: int


@dataclass(frozen=True)
class SourceInspection:
    """`parameters` is the number of weights, None where the file does not tell. `min_runtime_version` is what the
    format counts in, empty where unknown. `metadata` is what the file says of itself: name, labels, normalisation.

    `details` are plain JSON values and depend on the format; docs/conversion.md lists them.
    """

    format: Format
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    size_bytes: int
    details: Mapping[str, Any] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    parameters: int | None = None
    min_runtime_version: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Values any database takes: texts are cut, and neither NUL, half a character nor an infinity is left."""
        document: dict[str, Any] = plain(asdict(self))
        return document


def storable(text: str) -> str:
    """The text with U+FFFD for what no database takes: NUL, and half a surrogate pair."""
    return _NOT_STORABLE.sub("\ufffd", text)


def plain(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value[:MAX_TEXT])
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
