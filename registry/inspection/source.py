"""What inspection finds out about a source model, for every format alike."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Format = Literal["keras", "saved_model", "tflite"]


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
class SourceInspection:
    """`details` are plain JSON values and depend on the format; docs/conversion.md lists them."""

    format: Format
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    size_bytes: int
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
