"""What a `.tflite` file says of itself: TensorFlow Lite's metadata and the files appended to it as a zip.

Field numbers of metadata_schema.fbs (identifier M001). Labels are lines of an appended text file.
"""

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
from flatbuffers.table import Table  # type: ignore[import-untyped]

from registry.inspection.archive import DAMAGE, ENCRYPTED, KNOWN_COMPRESSION, require_data
from registry.inspection.budget import Budget
from registry.inspection.errors import InspectionError

METADATA_NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
MAX_METADATA_BYTES = 16 * 1024**2
MAX_ASSOCIATED_FILES = 64
MAX_ASSOCIATED_BYTES = 16 * 1024**2
MAX_PARTS = 20_000
MAX_LABELS = 10_000
MAX_TEXT = 10_000

MODEL_TEXTS: Mapping[str, int] = MappingProxyType(
    {"name": 0, "description": 1, "version": 2, "author": 4, "license": 5, "min_parser_version": 7}
)
MODEL_SUBGRAPHS, SUBGRAPH_INPUTS, SUBGRAPH_OUTPUTS = 3, 2, 3
TENSOR_NAME, TENSOR_DESCRIPTION, TENSOR_CONTENT, TENSOR_UNITS, TENSOR_FILES = 0, 1, 3, 4, 6
CONTENT_TYPE, CONTENT_PROPERTIES, IMAGE_COLOURS, AUDIO_RATE = 0, 1, 0, 0
UNIT_TYPE, UNIT_OPTIONS, NORMALISATION, MEAN, STD = 0, 1, 1, 0, 1
FILE_NAME, FILE_TYPE = 0, 2
CONTENTS: Mapping[int, str] = MappingProxyType({1: "feature", 2: "image", 3: "bounding_box", 4: "audio"})
COLOURS: Mapping[int, str] = MappingProxyType({1: "rgb", 2: "grayscale"})
LABEL_TYPES = frozenset({2, 3})  # TENSOR_AXIS_LABELS, TENSOR_VALUE_LABELS


def associated_files(data: Any) -> dict[str, bytes]:
    """The files appended to a model, none where there is no zip. `data` is the whole file, as bytes or a map of it.

    Raises InspectionError for members that are no text, too many or too large, and for a damaged archive.
    """
    stream = io.BytesIO(_tail(data))
    if not zipfile.is_zipfile(stream):
        return {}
    try:
        with zipfile.ZipFile(stream) as archive:
            return dict(_texts(archive))
    except InspectionError:
        raise
    except DAMAGE as error:
        raise InspectionError("associated_files", "an intact zip of labels after the model", f"{error}") from error


def _tail(data: Any) -> bytes:
    """The end of the file, where an archive of bounded size must lie whole."""
    return bytes(data[-2 * MAX_ASSOCIATED_BYTES :])


def _texts(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    members = archive.infolist()
    total = sum(member.file_size for member in members)
    if len(members) > MAX_ASSOCIATED_FILES or total > MAX_ASSOCIATED_BYTES:
        expected = f"at most {MAX_ASSOCIATED_FILES} files of {MAX_ASSOCIATED_BYTES} bytes after the model"
        raise InspectionError("associated_files", expected, f"{len(members)} of {total}")
    if len({member.filename for member in members}) != len(members):
        raise InspectionError("duplicate_member", "associated files of different names", "duplicates")
    for member in members:
        if member.compress_type not in KNOWN_COMPRESSION or member.flag_bits & ENCRYPTED:
            raise InspectionError("compression", "files stored or deflated, not encrypted", repr(member.filename)[:200])
        with archive.open(member) as stream:
            content = stream.read(member.file_size + 1)
        require_data(member.filename, content)
        if b"\0" in content or not _is_text(content):
            raise InspectionError("nested_archive", "text files after the model", repr(member.filename)[:200])
        yield member.filename, content


def _is_text(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def read_metadata(buffer: bytes, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The members of docs/conversion.md that are there. Raises InspectionError for another identifier, and what
    flatbuffers raises for damage.
    """
    if len(buffer) > MAX_METADATA_BYTES or buffer[4:8] != IDENTIFIER:
        raise InspectionError("damaged_metadata", f"metadata of at most {MAX_METADATA_BYTES} bytes, M001", "others")
    try:
        return _Reader(buffer, files).read()
    except (struct.error, IndexError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, InspectionError):
            raise
        raise InspectionError("damaged_metadata", "an intact flatbuffer", f"{type(error).__name__}") from error


class _Reader:
    """Tables by field number; the generated readers of this schema come with no package of ours."""

    def __init__(self, buffer: bytes, files: Mapping[str, bytes]) -> None:
        self.buffer = buffer
        self.files = files
        self.budget = Budget(MAX_PARTS, "damaged_metadata")
        self.labels: list[str] = []

    def read(self) -> dict[str, Any]:
        (root,) = struct.unpack_from("<I", self.buffer)
        model = Table(self.buffer, root)
        found: dict[str, Any] = {key: self.text(model, number) for key, number in MODEL_TEXTS.items()}
        for subgraph in islice(self.tables(model, MODEL_SUBGRAPHS), 1):
            for side, number in (("inputs", SUBGRAPH_INPUTS), ("outputs", SUBGRAPH_OUTPUTS)):
                found[side] = [self.tensor(tensor) for tensor in self.tables(subgraph, number)]
        found["labels"] = self.labels
        return {key: value for key, value in found.items() if value}

    def tensor(self, tensor: Table) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.text(tensor, TENSOR_NAME),
            "description": self.text(tensor, TENSOR_DESCRIPTION),
        }
        content = self.table(tensor, TENSOR_CONTENT)
        if content is not None:
            found |= self.content(content)
        for unit in self.tables(tensor, TENSOR_UNITS):
            options = self.union(unit, UNIT_OPTIONS)
            if self.byte(unit, UNIT_TYPE) == NORMALISATION and options is not None:
                found |= {"mean": self.floats(options, MEAN), "std": self.floats(options, STD)}
        for file in self.tables(tensor, TENSOR_FILES):
            lines = self.files.get(self.text(file, FILE_NAME), b"").decode("utf-8").splitlines()
            if self.byte(file, FILE_TYPE) in LABEL_TYPES and not self.labels:
                self.labels = [line[:500] for line in lines[:MAX_LABELS]]
        return {key: value for key, value in found.items() if value}

    def content(self, content: Table) -> dict[str, Any]:
        kind = CONTENTS.get(self.byte(content, CONTENT_TYPE), "")
        properties = self.union(content, CONTENT_PROPERTIES)
        found: dict[str, Any] = {"content": kind}
        if kind == "image" and properties is not None:
            found["color_space"] = COLOURS.get(self.byte(properties, IMAGE_COLOURS), "")
        if kind == "audio" and properties is not None:
            found["sample_rate"] = self.number(properties, AUDIO_RATE, flatbuffers.number_types.Uint32Flags)
        return found

    def at(self, table: Table, field: int) -> int:
        self.budget.spend()
        offset = table.Offset(4 + 2 * field)
        return int(table.Pos + offset) if offset else 0

    def number(self, table: Table, field: int, flags: Any) -> int:
        position = self.at(table, field)
        return int(table.Get(flags, position)) if position else 0

    def byte(self, table: Table, field: int) -> int:
        return self.number(table, field, flatbuffers.number_types.Uint8Flags)

    def text(self, table: Table, field: int) -> str:
        position = self.at(table, field)
        if not position:
            return ""
        start, length = self.vector(table, field)
        return self.buffer[start : start + min(length, MAX_TEXT)].decode("utf-8", "replace")

    def vector(self, table: Table, field: int) -> tuple[int, int]:
        """(start, entries); nothing where the field is absent."""
        position = self.at(table, field)
        if not position:
            return 0, 0
        start = position + struct.unpack_from("<I", self.buffer, position)[0]
        (length,) = struct.unpack_from("<I", self.buffer, start)
        if length > len(self.buffer):
            raise InspectionError("damaged_metadata", "lists within the metadata", f"{length} entries")
        return start + 4, length

    def table(self, table: Table, field: int) -> Table | None:
        position = self.at(table, field)
        return Table(self.buffer, position + struct.unpack_from("<I", self.buffer, position)[0]) if position else None

    union = table

    def tables(self, table: Table, field: int) -> Iterator[Table]:
        start, length = self.vector(table, field)
        for position in range(start, start + 4 * self.budget.spend(length), 4):
            yield Table(self.buffer, position + struct.unpack_from("<I", self.buffer, position)[0])

    def floats(self, table: Table, field: int) -> list[float]:
        start, length = self.vector(table, field)
        return list(struct.unpack_from(f"<{self.budget.spend(length)}f", self.buffer, start))
