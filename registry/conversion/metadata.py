"""What an app must know of a model beside its shapes: labels, normalisation, who made it. Written into the variants.

The JSON form has these members, each optional:

    {"name", "description", "version", "author", "license": text,
     "inputs": {name: {"description": text, "content": "image" | "audio" | "feature",
                       "color_space": "rgb" | "grayscale" (images), "sample_rate": samples a second (audio),
                       "mean": [numbers], "std": [numbers above 0]}},
     "outputs": {name: {"description": text}},
     "labels": [text, one per class]}

Normalisation is (value - mean) / std, with one number for all channels or one for each; a channel is an index of the
input's last axis.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry.conversion.report import Signature, TensorSpec

MAX_TEXT = 10_000
MAX_LABELS = 100_000
MAX_LABEL = 500
MAX_TENSORS = 64
MAX_CHANNELS = 10_000
TEXTS = ("name", "description", "version", "author", "license")
CONTENTS = ("image", "audio", "feature")
COLOR_SPACES = ("rgb", "grayscale")
MAX_SAMPLE_RATE = 1_000_000
FLOAT32_END = 2.0**128 - 2.0**103  # from here on a number rounds to infinity
FLOAT32_SMALLEST = 2.0**-126


class MetadataError(ValueError):
    """Metadata that cannot be written into a model: `expected` and `got` are for people."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}; got {got}")
        self.expected = expected
        self.got = got


@dataclass(frozen=True)
class InputMetadata:
    """`content` and `color_space` are empty where unknown, `sample_rate` is 0; `mean` and `std` are equally long."""

    description: str = ""
    content: str = ""
    color_space: str = ""
    sample_rate: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class OutputMetadata:
    description: str = ""


@dataclass(frozen=True)
class Metadata:
    """Empty members are unknown ones. Tensors are named as in the model's signature."""

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: Mapping[str, InputMetadata] = field(default_factory=dict)
    outputs: Mapping[str, OutputMetadata] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Any, signature: Signature | None = None) -> "Metadata":
        """Raises MetadataError; names, channels and the number of labels are checked where a signature is given."""
        members = _object(data, {*TEXTS, "inputs", "outputs", "labels"}, "metadata")
        made = cls(
            **{key: _text(members, key, "metadata") for key in TEXTS},
            inputs={name: _input(name, value) for name, value in _tensors(members, "inputs")},
            outputs={name: _output(name, value) for name, value in _tensors(members, "outputs")},
            labels=_labels(members.get("labels", [])),
        )
        if signature is not None:
            made.require_fits(signature)
        return made

    def to_json(self) -> dict[str, Any]:
        """Without the members that are empty."""
        inputs = {name: _without_empty(vars(value)) for name, value in self.inputs.items()}
        outputs = {name: _without_empty(vars(value)) for name, value in self.outputs.items()}
        texts = {key: getattr(self, key) for key in TEXTS}
        return _without_empty({**texts, "inputs": inputs, "outputs": outputs, "labels": self.labels})

    def require_fits(self, signature: Signature) -> None:
        """Raises MetadataError for tensors the model does not have, and for lengths that are not its own."""
        for side, given, specs in (
            ("input", self.inputs, signature.inputs),
            ("output", self.outputs, signature.outputs),
        ):
            known = [spec.name for spec in specs]
            if strangers := sorted(set(given) - set(known)):
                raise MetadataError(f"{side}s of the model, {', '.join(known)}", ", ".join(strangers))
        for spec in signature.inputs:
            _require_channels(spec, self.inputs.get(spec.name, InputMetadata()))
        if self.labels and labelled_output(signature, len(self.labels)) is None:
            raise MetadataError(
                f"as many labels as an output has classes ({_classes(signature)})", f"{len(self.labels)}"
            )


def labelled_output(signature: Signature, labels: int) -> TensorSpec | None:
    """The first output whose last axis has `labels` entries, else the first that gives class numbers; None without."""
    axes = (spec for spec in signature.outputs if spec.shape and spec.shape[-1] == labels)
    return next(axes, next(filter(gives_class_numbers, signature.outputs), None))


def gives_class_numbers(spec: TensorSpec) -> bool:
    """Whether an output's values are integers as such, as an arg-max gives, and no quantised numbers."""
    return spec.dtype in {"int32", "int64"} and spec.quantization is None


def _classes(signature: Signature) -> str:
    return ", ".join(f"{spec.name}: {spec.shape[-1] if spec.shape else 1}" for spec in signature.outputs)


def _require_channels(spec: TensorSpec, given: InputMetadata) -> None:
    channels = spec.shape[-1] if spec.shape else 1
    if len(given.mean) not in {0, 1, channels}:
        raise MetadataError(f"1 mean, or {channels} for the channels of {spec.name!r}", f"{len(given.mean)}")


def _object(data: Any, allowed: set[str], what: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise MetadataError(f"an object as {what}", type(data).__name__)
    if strangers := sorted(str(key) for key in set(data) - allowed):
        raise MetadataError(f"members of {what} among {', '.join(sorted(allowed))}", ", ".join(strangers)[:200])
    return data


def _text(data: Mapping[str, Any], key: str, what: str) -> str:
    value = data.get(key, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value or not _is_encodable(value):
        raise MetadataError(f"a text of at most {MAX_TEXT} characters as {key} of {what}", repr(value)[:100])
    return value


def _is_encodable(text: str) -> bool:
    """JSON can spell half of a character, which no file can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _tensors(members: Mapping[str, Any], side: str) -> list[tuple[str, Any]]:
    value = members.get(side, {})
    if not isinstance(value, Mapping) or len(value) > MAX_TENSORS or not all(isinstance(name, str) for name in value):
        raise MetadataError(f"an object of at most {MAX_TENSORS} names as {side}", repr(value)[:100])
    return list(value.items())


def _input(name: str, value: Any) -> InputMetadata:
    what = f"input {name!r}"
    data = _object(value, {"description", "content", "color_space", "sample_rate", "mean", "std"}, what)
    mean, std = _numbers(data, "mean", what), _numbers(data, "std", what)
    if len(mean) != len(std):
        raise MetadataError(f"as many std as mean in {what} ({len(mean)})", f"{len(std)}")
    if any(value < FLOAT32_SMALLEST for value in std):
        raise MetadataError(f"std above 0 in {what}", f"{min(std)}")
    content = _choice(data, "content", CONTENTS, what)
    color_space = _choice(data, "color_space", COLOR_SPACES, what)
    if color_space and content != "image":
        raise MetadataError(f"a color_space with content 'image' only in {what}", repr(content))
    return InputMetadata(
        _text(data, "description", what), content, color_space, _sample_rate(data, content, what), mean, std
    )


def _sample_rate(data: Mapping[str, Any], content: str, what: str) -> int:
    value = data.get("sample_rate", 0)
    if type(value) is not int or not 0 <= value <= MAX_SAMPLE_RATE or (value and content != "audio"):
        raise MetadataError(f"a sample_rate of at most {MAX_SAMPLE_RATE}, with content 'audio', in {what}", repr(value))
    return value


def _output(name: str, value: Any) -> OutputMetadata:
    what = f"output {name!r}"
    return OutputMetadata(_text(_object(value, {"description"}, what), "description", what))


def _choice(data: Mapping[str, Any], key: str, allowed: Sequence[str], what: str) -> str:
    value = data.get(key, "")
    if value not in ("", *allowed):
        raise MetadataError(f"{key} of {what} among {', '.join(allowed)}", repr(value)[:100])
    return str(value)


def _numbers(data: Mapping[str, Any], key: str, what: str) -> tuple[float, ...]:
    value = data.get(key, [])
    expected = f"a list of at most {MAX_CHANNELS} numbers as {key} of {what}"
    if not isinstance(value, list | tuple) or len(value) > MAX_CHANNELS:
        raise MetadataError(expected, repr(value)[:100])
    for number in value:
        # A file holds them in 32 bits.
        if isinstance(number, bool) or not isinstance(number, int | float) or not _is_float32(number):
            raise MetadataError(expected, repr(number)[:100])
    return tuple(float(number) for number in value)


def _is_float32(number: float) -> bool:
    return abs(number) < FLOAT32_END


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_LABELS:
        raise MetadataError(f"a list of at most {MAX_LABELS} labels", repr(value)[:100])
    for label in value:
        # A label is a line of a text file.
        if not isinstance(label, str) or not 0 < len(label) <= MAX_LABEL or not label.isprintable():
            raise MetadataError(f"labels of 1 to {MAX_LABEL} printable characters", repr(label)[:100])
    return tuple(value)


def _without_empty(members: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in members.items() if value}
