"""Evaluation sets of pictures or sounds: a zip with `evaluation.json`. No picture and no sound is decoded here."""

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

from registry.inspection.archive import opened, read_member
from registry.inspection.errors import InspectionError

DOCUMENT = "evaluation.json"
MAX_DOCUMENT_BYTES = 16 * 1024**2
MAX_SAMPLE_BYTES = 32 * 1024**2
MAX_SIDE = 8_192
MAX_SOUND_SAMPLES = 16_000_000
MAX_TOTAL_VALUES = 1024**3
MAX_VALUES_OF_A_LABEL = 1_000_000
BAD = "bad_evaluation_document"

Kind = Literal["image", "sound"]
# What a file of that name must begin with; RIFF also holds other things, which the reader of sounds refuses.
STARTS: Mapping[str, tuple[Kind, bytes]] = MappingProxyType(
    {
        ".png": ("image", b"\x89PNG\r\n\x1a\n"),
        ".bmp": ("image", b"BM"),
        ".jpg": ("image", b"\xff\xd8\xff"),
        ".jpeg": ("image", b"\xff\xd8\xff"),
        ".wav": ("sound", b"RIFF"),
    }
)
DTYPES = ("float32", "uint8", "int8", "int16")
COLORS: Mapping[str, int] = MappingProxyType({"grayscale": 1, "rgb": 3})
LAYOUTS = ("channels_last", "channels_first")

Label = int | float | tuple[Any, ...]


@dataclass(frozen=True)
class ImageInput:
    """Pixels become (pixel - mean) / std, of 0..255; `mean` and `std` have one value, or one a channel."""

    name: str
    width: int
    height: int
    color: str
    layout: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str
    kind: Literal["image"] = "image"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        channels = COLORS[self.color]
        if self.layout == "channels_first":
            return channels, self.height, self.width
        return self.height, self.width, channels


@dataclass(frozen=True)
class SoundInput:
    """One channel at `rate` Hz, -1..1, cut or filled with silence to `samples`; then (value - mean) / std."""

    name: str
    rate: int
    samples: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str
    kind: Literal["sound"] = "sound"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.samples,)


@dataclass(frozen=True)
class Sample:
    """`labels` maps an output's name, or "" where none is named, to a class number, a value or nested values."""

    file: str
    labels: Mapping[str, Label]


@dataclass(frozen=True)
class SampleSet:
    """`folder` is where the document lies in the zip, and what `file` of a sample is relative to: empty, or "name/"."""

    folder: str
    input: ImageInput | SoundInput
    samples: tuple[Sample, ...]
    metrics: Mapping[str, str]


def document_of(archive: zipfile.ZipFile) -> str | None:
    """The member that describes a set of samples: at the top, or in the only folder there."""
    names = [name for name in archive.namelist() if PurePosixPath(name).name == DOCUMENT]
    return next((name for name in names if len(PurePosixPath(name).parts) <= 2), None)  # noqa: PLR2004


def read_sample_set(path: Path) -> SampleSet:
    """The document, checked, and its files by name, size and first bytes. Raises InspectionError."""
    with opened(path, "an evaluation set") as archive:
        name = document_of(archive)
        if name is None:
            raise InspectionError(BAD, f"a member {DOCUMENT}", "none")
        found = sample_set(_parsed(read_member(archive, name, MAX_DOCUMENT_BYTES)), name.removesuffix(DOCUMENT))
        for sample in found.samples:
            _require_sample(archive, found, sample.file)
        return found


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InspectionError(BAD, f"JSON in {DOCUMENT}", str(error)[:200]) from error


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _require_sample(archive: zipfile.ZipFile, found: SampleSet, file: str) -> None:
    try:
        member = archive.getinfo(found.folder + file)
    except KeyError:
        raise InspectionError(BAD, f"a member {found.folder + file!r}", "none") from None
    if not 0 < member.file_size <= MAX_SAMPLE_BYTES:
        raise InspectionError("too_large", f"1 to {MAX_SAMPLE_BYTES} bytes in {file!r}", f"{member.file_size}")
    start = STARTS[_suffix(file)][1]
    with archive.open(member) as stream:
        got = stream.read(len(start))
    if got != start:
        raise InspectionError("not_a_sample", f"{file!r} to begin with {start!r}", repr(got))


def _suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def sample_set(data: Any, folder: str = "") -> SampleSet:
    """The document's content, checked by itself. Raises InspectionError with the member at fault."""
    _members(data, DOCUMENT, {"input", "samples"}, {"metric"})
    if not isinstance(data["samples"], list) or not data["samples"]:
        raise InspectionError(BAD, "samples: a list of at least one", _told(data["samples"]))
    samples = tuple(_sample(sample, index) for index, sample in enumerate(data["samples"]))
    kinds = {STARTS[_suffix(sample.file)][0] for sample in samples}
    if len(kinds) != 1:
        raise InspectionError(BAD, "either pictures or sounds", "both")
    declared = _image(data["input"]) if kinds == {"image"} else _sound(data["input"])
    if len(samples) * math.prod(declared.sample_shape) > MAX_TOTAL_VALUES:
        raise InspectionError(
            "too_large", f"at most {MAX_TOTAL_VALUES} values in all samples", f"{len(samples)} samples"
        )
    _require_same_labels(samples)
    return SampleSet(folder, declared, samples, _metrics(data.get("metric", {})))


def _metrics(data: Any) -> Mapping[str, str]:
    named = {"": data} if isinstance(data, str) else data
    if not isinstance(named, dict) or not all(isinstance(metric, str) for metric in named.values()):
        raise InspectionError(BAD, "metric: a name, or a name for each output", _told(data))
    return MappingProxyType(dict(named))


def _sample(data: Any, index: int) -> Sample:
    where = f"samples[{index}]"
    _members(data, where, {"file"}, {"label"})
    file = data["file"]
    if not isinstance(file, str) or _suffix(file) not in STARTS:
        raise InspectionError(BAD, f"{where}.file to end in {', '.join(STARTS)}", _told(file))
    label = data.get("label")
    named = label if isinstance(label, dict) else {} if label is None else {"": label}
    return Sample(file, MappingProxyType({output: _label(value, where) for output, value in named.items()}))


def _label(value: Any, where: str) -> Label:
    """A number, or nested lists of numbers (at most eight deep, as arrays are)."""
    left = [MAX_VALUES_OF_A_LABEL]

    def plain(part: Any, depth: int) -> Label:
        left[0] -= 1
        if left[0] >= 0 and isinstance(part, list) and depth and part:
            return tuple(plain(inner, depth - 1) for inner in part)
        if left[0] < 0 or isinstance(part, bool) or not isinstance(part, int | float) or not _is_finite(part):
            raise InspectionError(BAD, f"{where}.label: a number, or lists of numbers", _told(part))
        return part

    return plain(value, 8)


def _is_finite(value: float) -> bool:
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def label_shape(label: Label) -> tuple[int, ...]:
    """Lengths of the nested lists; () of a number. Raises InspectionError where lists of one level differ."""
    if not isinstance(label, tuple):
        return ()
    inner = {label_shape(part) for part in label}
    if len(inner) != 1:
        raise InspectionError(BAD, "a label of lists of equal lengths", _told(label))
    return len(label), *inner.pop()


def _require_same_labels(samples: tuple[Sample, ...]) -> None:
    first = _shapes(samples[0])
    for index, sample in enumerate(samples):
        if _shapes(sample) != first:
            expected = f"labels of the same outputs and shapes in every sample ({_told(first)})"
            raise InspectionError(BAD, expected, f"{_told(_shapes(sample))} in samples[{index}]")


def _shapes(sample: Sample) -> dict[str, tuple[int, ...]]:
    return {output: label_shape(label) for output, label in sample.labels.items()}


def _image(data: Any) -> ImageInput:
    _members(data, "input", {"name", "width", "height"}, {"color", "layout", "mean", "std", "dtype"})
    color = _one_of(data, "color", tuple(COLORS), "rgb")
    return ImageInput(
        name=_name(data),
        width=_count(data, "width", MAX_SIDE),
        height=_count(data, "height", MAX_SIDE),
        color=color,
        layout=_one_of(data, "layout", LAYOUTS, LAYOUTS[0]),
        mean=_numbers(data, "mean", 0.0, COLORS[color]),
        std=_std(data, COLORS[color]),
        dtype=_one_of(data, "dtype", DTYPES, "float32"),
    )


def _sound(data: Any) -> SoundInput:
    _members(data, "input", {"name", "rate", "samples"}, {"mean", "std", "dtype"})
    return SoundInput(
        name=_name(data),
        rate=_count(data, "rate", 384_000),
        samples=_count(data, "samples", MAX_SOUND_SAMPLES),
        mean=_numbers(data, "mean", 0.0, 1),
        std=_std(data, 1),
        dtype=_one_of(data, "dtype", DTYPES, "float32"),
    )


def _members(data: Any, where: str, required: set[str], optional: set[str]) -> None:
    if not isinstance(data, dict):
        raise InspectionError(BAD, f"{where}: an object", _told(data))
    missing, unknown = required - set(data), set(data) - required - optional
    if missing or unknown:
        told = f"without {', '.join(sorted(missing))}" if missing else f"with {', '.join(sorted(unknown))}"
        expected = f"{where} of {', '.join(sorted(required))} and optionally {', '.join(sorted(optional))}"
        raise InspectionError(BAD, expected, told[:200])


def _name(data: Mapping[str, Any]) -> str:
    if not isinstance(data["name"], str) or not data["name"]:
        raise InspectionError(BAD, "input.name: the model's input", _told(data["name"]))
    return data["name"]


def _count(data: Mapping[str, Any], key: str, most: int) -> int:
    value = data[key]
    if type(value) is not int or not 1 <= value <= most:
        raise InspectionError(BAD, f"input.{key}: 1 to {most}", _told(value))
    return value


def _one_of(data: Mapping[str, Any], key: str, known: tuple[str, ...], default: str) -> str:
    value = data.get(key, default)
    if value not in known:
        raise InspectionError(BAD, f"input.{key} among {', '.join(known)}", _told(value))
    return str(value)


def _std(data: Mapping[str, Any], channels: int) -> tuple[float, ...]:
    found = _numbers(data, "std", 1.0, channels)
    if not all(value > 0 for value in found):
        raise InspectionError(BAD, "input.std above 0", _told(data["std"]))
    return found


def _numbers(data: Mapping[str, Any], key: str, default: float, channels: int) -> tuple[float, ...]:
    """One number, or one a channel."""
    given = data.get(key, default)
    values = given if isinstance(given, list) else [given]
    fine = all(type(value) in (int, float) and _is_finite(value) for value in values)
    if len(values) not in {1, channels} or not fine:
        raise InspectionError(BAD, f"input.{key}: one number, or {channels}", _told(given))
    return tuple(float(value) for value in values)


def _told(value: Any) -> str:
    return repr(value)[:80]
