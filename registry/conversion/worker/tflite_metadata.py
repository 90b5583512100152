"""Writes labels and normalisation into a `.tflite` file as TensorFlow Lite's own tools read them.

A block of new tables is put between the file's first eight bytes and all that follows: a new root table that points
at the old one's parts, and the metadata. Offsets within the old part stay what they were, weights keep their bytes
and their alignment. The labels follow the model as an ordinary zip, which readers find from the end of the file.
"""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import tflite

from registry.conversion.metadata import (
    InputMetadata,
    Metadata,
    OutputMetadata,
    gives_class_numbers,
    labelled_output,
)
from registry.conversion.report import Signature, TensorSpec
from registry.conversion.worker.job import WorkerError
from registry.inspection.tflite_metadata import IDENTIFIER, METADATA_NAME

LABELS_FILE = "labels.txt"
MODEL_IDENTIFIER = b"TFL3"
HEADER_BYTES = 8
MARK = struct.Struct("<16sII")  # what this block is, its length, where the root was
MARK_WORD = b"aerogram metadat"
ALIGNMENT = 64  # buffers ask for 16
MODEL_FIELDS = 8
VERSION, BUFFERS, METADATA = 0, 4, 6
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
AXIS_LABELS, VALUE_LABELS = 2, 3
CONTENTS: Mapping[str, int] = MappingProxyType({"feature": 1, "image": 2, "audio": 4})
COLOURS: Mapping[str, int] = MappingProxyType({"": 0, "rgb": 1, "grayscale": 2})
NORMALISATION = 1
MIN_PARSER_VERSION = "1.3.0"  # the schema's version that brought audio; the rest is older


def embed(data: bytes, metadata: Metadata, signature: Signature) -> bytes:
    """The file with `metadata` in it, in place of what it held; the same for the same input, however often.

    Raises MetadataError where it does not fit `signature`, WorkerError where the file is none to write into.
    """
    metadata.require_fits(signature)
    model = _bare(data)
    document = _document(model, metadata, signature)
    spliced = _spliced(model, document)
    return spliced + _archive(metadata) if metadata.labels else spliced


def _bare(data: bytes) -> bytes:
    """The model as it was before its metadata and labels."""
    if data[4:8] != MODEL_IDENTIFIER:
        raise WorkerError("not_tflite", f"expected a .tflite file; got {data[:8]!r}")
    data = _without_archive(data)
    if not data.startswith(MARK_WORD, HEADER_BYTES):
        return data
    _, length, root = MARK.unpack_from(data, HEADER_BYTES)
    return struct.pack("<I", root) + data[4:HEADER_BYTES] + data[HEADER_BYTES + length :]


def _without_archive(data: bytes) -> bytes:
    stream = io.BytesIO(data)
    if not zipfile.is_zipfile(stream):
        return data
    with zipfile.ZipFile(stream) as archive:
        return data[: min((member.header_offset for member in archive.infolist()), default=archive.start_dir)]


# ---- the file --------------------------------------------------------------------------------------------------------


def _spliced(model: bytes, document: bytes) -> bytes:
    # Where the old parts go depends on the block's length, which does not depend on where they go.
    length = len(_Block(model, 0).built(document))
    block = _Block(model, length)
    content = block.built(document)
    return struct.pack("<I", block.root) + model[4:HEADER_BYTES] + content + model[HEADER_BYTES:]


class _Block:
    """The new tables. Positions are those in the finished file; what the model had lies `shift` further than before."""

    def __init__(self, model: bytes, shift: int) -> None:
        self.model = model
        self.shift = shift
        (self.old_root,) = struct.unpack_from("<I", model)
        self.table: Any = tflite.Model.GetRootAs(model, 0)._tab  # noqa: SLF001 - its parts' positions
        self.content = bytearray()
        self.root = 0

    def built(self, document: bytes) -> bytes:
        self.add("<16sII", MARK_WORD, self.shift, self.old_root)
        fields = self.add_root()
        buffers = [self.old_target(entry) + self.shift for entry in self.old_entries(BUFFERS)]
        tables = [self.old_target(entry) for entry in self.old_entries(METADATA)]
        kept = [table + self.shift for table in tables if _entry_name(self.model, table) != METADATA_NAME.encode()]
        # Offsets lead forwards only, so each list stands before the new table that it ends with.
        new_buffer = self.add_list(fields[BUFFERS], buffers)
        new_entry = self.add_list(fields[METADATA], kept)
        self.point(new_entry, self.add_entry(len(buffers)))
        self.point(new_buffer, self.add_buffer(document))
        self.content += bytes(-len(self.content) % ALIGNMENT)
        return bytes(self.content)

    def add(self, layout: str, *values: Any) -> int:
        at = HEADER_BYTES + len(self.content)
        self.content += struct.pack(layout, *values)
        return at

    def align(self, alignment: int, ahead: int = 0) -> None:
        """Pad so that what comes `ahead` bytes from here stands at a multiple of `alignment`."""
        self.content += bytes(-(HEADER_BYTES + len(self.content) + ahead) % alignment)

    def point(self, field: int, target: int) -> None:
        struct.pack_into("<I", self.content, field - HEADER_BYTES, (target - field) & 0xFFFFFFFF)

    def old_field(self, number: int) -> int:
        """Position in the old file of a field of its root table, 0 when absent."""
        offset = self.table.Offset(4 + 2 * number)
        return int(self.table.Pos + offset) if offset else 0

    def old_target(self, field: int) -> int:
        return int(field + struct.unpack_from("<I", self.model, field)[0])

    def old_entries(self, number: int) -> range:
        """Positions of the offsets in a list of tables."""
        field = self.old_field(number)
        if not field:
            return range(0)
        start = self.old_target(field)
        (length,) = struct.unpack_from("<I", self.model, start)
        return range(start + 4, start + 4 + 4 * length, 4)

    def add_table(self, fields: int) -> list[int]:
        """A table of so many fields of four bytes each, zero so far: their positions."""
        self.align(4, ahead=4 + 2 * fields)
        layout = self.add(f"<{2 + fields}H", 4 + 2 * fields, 4 + 4 * fields, *range(4, 4 + 4 * fields, 4))
        at = HEADER_BYTES + len(self.content)
        self.add("<i", at - layout)
        return [self.add("<I", 0) for _ in range(fields)]

    def add_root(self) -> list[int]:
        """The model's own fields again, leading to where they lie now; those that were absent stay so."""
        fields = self.add_table(MODEL_FIELDS)
        self.root = fields[0] - 4
        for number, field in enumerate(fields):
            old = self.old_field(number)
            if number == VERSION:
                (version,) = struct.unpack_from("<I", self.model, old)
                struct.pack_into("<I", self.content, field - HEADER_BYTES, version)
            elif old:
                self.point(field, self.old_target(old) + self.shift)
            elif number not in {BUFFERS, METADATA}:
                layout = self.root - (4 + 2 * MODEL_FIELDS) - HEADER_BYTES
                struct.pack_into("<H", self.content, layout + 4 + 2 * number, 0)
        return fields

    def add_list(self, field: int, targets: Sequence[int]) -> int:
        """A list of the tables at `targets` and one more, whose offset is still to be set: its position."""
        self.align(4)
        self.point(field, self.add("<I", len(targets) + 1))
        for target in targets:
            self.point(self.add("<I", 0), target)
        return self.add("<I", 0)

    def add_buffer(self, document: bytes) -> int:
        (data,) = self.add_table(1)
        self.align(ALIGNMENT, ahead=4)
        self.point(data, self.add("<I", len(document)))
        self.content += document
        return data - 4

    def add_entry(self, buffer: int) -> int:
        name, index = self.add_table(2)
        text = METADATA_NAME.encode()
        self.point(name, self.add("<I", len(text)))
        self.add(f"<{len(text) + 1}s", text)
        struct.pack_into("<I", self.content, index - HEADER_BYTES, buffer)
        return name - 4


def _entry_name(model: bytes, position: int) -> bytes:
    entry = tflite.Metadata()
    entry.Init(model, position)
    return entry.Name() or b""


def _archive(metadata: Metadata) -> bytes:
    stream = io.BytesIO()
    member = zipfile.ZipInfo(LABELS_FILE, FIXED_DATE)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(member, "".join(f"{label}\n" for label in metadata.labels))
    return stream.getvalue()


# ---- the metadata ----------------------------------------------------------------------------------------------------


def _document(model: bytes, metadata: Metadata, signature: Signature) -> bytes:
    """The flatbuffer M001. Its tensors stand in the order of the first subgraph's, whatever order names are in."""
    labelled = labelled_output(signature, len(metadata.labels)) if metadata.labels else None
    input_names, output_names = _names(model, signature)
    b = flatbuffers.Builder(1024)
    inputs = [_tensor(b, name, metadata.inputs.get(name, InputMetadata()), 0) for name in input_names]
    outputs = [
        _tensor(b, name, metadata.outputs.get(name, OutputMetadata()), _label_type(labelled, name))
        for name in output_names
    ]
    subgraph = _table(b, {2: _list(b, inputs), 3: _list(b, outputs)}, 10)
    texts = {0: metadata.name, 1: metadata.description, 2: metadata.version, 4: metadata.author, 5: metadata.license}
    strings = {number: b.CreateString(text) for number, text in texts.items() if text}
    version = b.CreateString(MIN_PARSER_VERSION)
    b.Finish(_table(b, {**strings, 3: _list(b, [subgraph]), 7: version}, 8), IDENTIFIER)
    return bytes(b.Output())


def _names(model: bytes, signature: Signature) -> tuple[list[str], list[str]]:
    """Names of the first subgraph's inputs and outputs: its signature's, or, without one, those given by position."""
    root: Any = tflite.Model.GetRootAs(model, 0)
    graph = root.Subgraphs(0)
    indices = (
        [graph.Inputs(i) for i in range(graph.InputsLength())],
        [graph.Outputs(i) for i in range(graph.OutputsLength())],
    )
    found = [root.SignatureDefs(i) for i in range(root.SignatureDefsLength())]
    own = [one for one in found if one.SubgraphIndex() == 0]
    if not own:
        given = [spec.name for spec in signature.inputs], [spec.name for spec in signature.outputs]
        if tuple(map(len, given)) != tuple(map(len, indices)):
            got = f"{len(indices[0])} and {len(indices[1])}"
            raise WorkerError("no_signature", f"expected {len(given[0])} inputs and {len(given[1])} outputs; got {got}")
        return given
    chosen = next((one for one in own if one.SignatureKey() == b"serving_default"), own[0])
    sides = (
        {(m := chosen.Inputs(i)).TensorIndex(): m.Name().decode() for i in range(chosen.InputsLength())},
        {(m := chosen.Outputs(i)).TensorIndex(): m.Name().decode() for i in range(chosen.OutputsLength())},
    )
    inputs, outputs = (
        [names.get(i, (graph.Tensors(i).Name() or b"").decode("utf-8", "replace")) for i in side]
        for names, side in zip(sides, indices, strict=True)
    )
    return inputs, outputs


def _label_type(labelled: TensorSpec | None, name: str) -> int:
    """0 for an output without labels; whether they name its last axis or the values it gives."""
    if labelled is None or labelled.name != name:
        return 0
    return VALUE_LABELS if gives_class_numbers(labelled) else AXIS_LABELS


def _tensor(b: Any, name: str, given: InputMetadata | OutputMetadata, label_type: int) -> int:
    fields = {0: b.CreateString(name)}
    if given.description:
        fields[1] = b.CreateString(given.description)
    if isinstance(given, InputMetadata):
        if given.content:
            fields[3] = _content(b, given)
        if given.mean:
            options = _table(b, {0: _floats(b, given.mean), 1: _floats(b, given.std)}, 2)
            fields[4] = _list(b, [_table(b, {1: options}, 2, kinds={0: NORMALISATION})])
    if label_type:
        file = _table(b, {0: b.CreateString(LABELS_FILE)}, 5, kinds={2: label_type})
        fields[6] = _list(b, [file])
    return _table(b, fields, 7)


def _content(b: Any, given: InputMetadata) -> int:
    if given.content == "audio":
        b.StartObject(2)
        b.PrependUint32Slot(0, given.sample_rate, 0)
        properties = b.EndObject()
    else:
        properties = _table(b, {}, 2, kinds={0: COLOURS[given.color_space]} if given.content == "image" else {})
    return _table(b, {1: properties}, 3, kinds={0: CONTENTS[given.content]})


def _table(b: Any, offsets: Mapping[int, int], fields: int, kinds: Mapping[int, int] | None = None) -> int:
    """A table of offsets and of enumerations of one byte."""
    b.StartObject(fields)
    for number, offset in offsets.items():
        b.PrependUOffsetTRelativeSlot(number, offset, 0)
    for number, kind in (kinds or {}).items():
        b.PrependUint8Slot(number, kind, 0)
    return int(b.EndObject())


def _list(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _floats(b: Any, values: Sequence[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return int(b.EndVector())
