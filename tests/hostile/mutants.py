"""Damage done to sound files of every format: to bytes, to structure through the schema, to the archive around it.

Everything comes from one generator of random numbers, so that a seed names the same files for ever.
"""

import copy
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from registry.conversion.metadata import Metadata
from registry.conversion.report import Signature, TensorSpec
from tests.hostile.files import lying_member, members, special
from tests.registry.inspection import builders
from tests.registry.inspection.builders import ModelPlan, keras_config, keras_file, layer, varint, zipped

SUFFIXES: Mapping[str, str] = {
    "tflite": ".tflite",
    "keras": ".keras",
    "saved_model": ".zip",
    "mlpackage": ".mlpackage.zip",
    "mlmodel": ".mlmodel",
    "onnx": ".onnx",
}
INTEGERS = (-(2**63), -(2**31), -1000, -1, 0, 1, 7, 127, 255, 65536, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)


@dataclass(frozen=True)
class Mutant:
    name: str
    content: bytes


def sound(file_format: str) -> bytes:
    """A small sound file, for where no real one is given."""
    if file_format == "tflite":
        from registry.conversion.worker.tflite_metadata import embed

        plan = ModelPlan(signature=("serving_default", {"x": 0}, {"y": 2}, 0), metadata_buffer=0)
        signature = Signature((TensorSpec("x", (1, 2), "float32"),), (TensorSpec("y", (1, 2), "float32"),))
        return embed(plan.build(), Metadata(name="m", labels=("a", "b")), signature)
    if file_format == "keras":
        return keras_file(keras_config(layer("Dense", units=2, name="y")))
    if file_format == "saved_model":
        return zipped({"m/saved_model.pb": builders.saved_model(), "m/variables/variables.index": b"x" * 64})
    if file_format == "mlpackage":
        return zipped(builders.coreml_package())
    return PLAIN[file_format]()


def _lone_mlmodel() -> bytes:
    weights = builders.message((1, b"\0" * 16))
    inner = builders.message((1, 2), (2, 2), (20, weights))
    return builders.coreml_model(builders.message((1, builders.message((1, "y"), (140, inner)))), kind=500)


PLAIN: Mapping[str, Callable[[], bytes]] = {"mlmodel": _lone_mlmodel, "onnx": builders.onnx_model}


def mutants(file_format: str, seeds: Sequence[bytes], seed: int) -> Iterator[Mutant]:
    """Endless; a third of each kind, and two halves for formats that are no archive."""
    chance = random.Random(f"{seed} {file_format}")
    makers = cycle(MAKERS[file_format])
    for number, maker in enumerate(makers):
        content = chance.choice(seeds)
        name, mutated = maker(chance, content)
        yield Mutant(f"{file_format} {number} {name}", mutated)


def first(file_format: str, count: int, seed: int, seeds: Sequence[bytes] = ()) -> list[Mutant]:
    return list(islice(mutants(file_format, seeds or [sound(file_format)], seed), count))


# ---- bytes ----------------------------------------------------------------------------------------------------------

Named = tuple[str, bytes]


def damaged_bytes(chance: random.Random, content: bytes) -> Named:
    data = bytearray(content)
    kind = chance.choice(("byte", "bytes", "head", "cut", "zeros", "repeat", "insert", "number", "noise", "extend"))
    at = chance.randrange(len(data))
    size = chance.randint(1, max(1, len(data) // 4))
    if kind in {"byte", "bytes", "head"}:
        for _ in range(1 if kind == "byte" else 20):
            data[chance.randrange(min(len(data), 256) if kind == "head" else len(data))] = chance.randrange(256)
    elif kind == "cut":
        del data[at:]
    elif kind == "zeros":
        data[at : at + size] = bytes(len(data[at : at + size]))
    elif kind == "repeat":
        data[at:at] = data[at : at + size]
    elif kind == "insert":
        data[at:at] = chance.randbytes(chance.randint(1, 64))
    elif kind == "number":
        at -= at % 4
        data[at : at + 4] = struct.pack("<I", chance.choice(INTEGERS) & 0xFFFFFFFF)
    elif kind == "noise":
        data[8:] = chance.randbytes(len(data))
    else:
        data += chance.randbytes(chance.randint(1, 4096))
    return kind, bytes(data)


# ---- .tflite --------------------------------------------------------------------------------------------------------


def damaged_tables(chance: random.Random, content: bytes) -> Named:
    """One to three edits through the schema's own object interface; the file is well formed again afterwards."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    names = []
    for _ in range(chance.randint(1, 3)):
        table = chance.choice(list(_tables(model)))
        names.append(_edit(chance, table))
    builder = flatbuffers.Builder(1024)
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except Exception:  # noqa: BLE001 - a value of a kind the schema has no room for
        return damaged_bytes(chance, content)
    return " ".join(names), bytes(builder.Output())


def _tables(node: Any, depth: int = 0) -> Iterator[Any]:
    if isinstance(node, list):
        for inner in node[:50]:
            yield from _tables(inner, depth)
    elif hasattr(node, "__dict__") and type(node).__name__.endswith("T") and depth < 8:
        yield node
        for inner in vars(node).values():
            yield from _tables(inner, depth + 1)


def _edit(chance: random.Random, table: Any) -> str:
    member = chance.choice(sorted(vars(table)))
    value = getattr(table, member)
    if isinstance(value, bool) or value is None:
        new: Any = None if value is None else not value
    elif isinstance(value, int):
        new = chance.choice([value + 1, value - 1, *INTEGERS])
    elif isinstance(value, float):
        new = chance.choice([float("nan"), float("inf"), -1.0, 0.0, 1e38])
    elif isinstance(value, bytes | str):
        new = chance.choice([b"", b"serving_default", b"\0", b"x" * 5000, b"../../x"])
    else:
        new = _edited_list(chance, value)
    setattr(table, member, new)
    return f"{type(table).__name__}.{member}"


def _edited_list(chance: random.Random, value: Any) -> Any:
    items = list(value) if hasattr(value, "__len__") else None
    if items is None:
        return None
    kind = chance.choice(("none", "empty", "twice", "shorter", "entry", "longer"))
    numbers = bool(items) and not hasattr(items[0], "__dict__") and not isinstance(items[0], bytes | str)
    if kind == "none":
        return None
    if kind == "entry" and numbers:
        items[chance.randrange(len(items))] = chance.choice((-1, 0, 1, 255, 2**20, 2**31 - 1, -(2**31)))
    elif kind == "twice" and len(items) < 5000:
        items += items
    elif kind == "longer" and items and len(items) < 5000:
        items += [copy.copy(chance.choice(items)) for _ in range(chance.randint(1, 8))]
    elif kind == "shorter" and items:
        del items[chance.randrange(len(items))]
    elif kind == "empty":
        items = []
    if not numbers or not hasattr(value, "dtype"):
        return items
    import numpy as np

    return np.asarray(items).astype(value.dtype)


def damaged_appendix(chance: random.Random, content: bytes) -> Named:
    """Something else appended where labels are."""
    inner = chance.choice(
        (
            members(("x.so", b"\x7fELF")),
            members(("labels.txt", b"\0" * 1000)),
            members(("labels.txt", chance.randbytes(200))),
            members(*((f"{i}.txt", b"x") for i in range(100))),
            members(("labels.txt", b" " * (20 << 20))),
            members(("inner.zip", members(("a", b"b")))),
            members(("a", b"x"), ("a", b"y")),
            lying_member("labels.txt", 40, b" " * (4 << 20)),
            members(("labels.txt", "ä\n".encode() * 10)),
            b"PK\x05\x06" + chance.randbytes(18),
        )
    )
    return "appendix", content + inner


# ---- protocol buffers -----------------------------------------------------------------------------------------------

Field = tuple[int, int, Any]  # number, wire type, value


def fields_of(data: bytes) -> list[Field] | None:
    """The fields of a message, None where the bytes are none."""
    found: list[Field] = []
    at = 0
    try:
        while at < len(data):
            key, at = _read_varint(data, at)
            kind, number = key & 7, key >> 3
            if number == 0 or kind not in {0, 1, 2, 5}:
                return None
            if kind == 0:
                value, at = _read_varint(data, at)
                found.append((number, kind, value))
                continue
            length = {1: 8, 5: 4}.get(kind)
            if length is None:
                length, at = _read_varint(data, at)
            if at + length > len(data):
                return None
            found.append((number, kind, data[at : at + length]))
            at += length
    except IndexError:
        return None
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def encoded(fields: Sequence[Field]) -> bytes:
    out = []
    for number, kind, value in fields:
        out.append(varint(number << 3 | kind))
        if kind == 2:
            out.append(varint(len(value)))
        out.append(varint(value) if kind == 0 else value)
    return b"".join(out)


def damaged_fields(chance: random.Random, content: bytes) -> Named:
    names: list[str] = []
    for _ in range(chance.randint(1, 3)):
        if len(content) < 4 << 20:
            content = _edited_message(chance, content, names, 0)
    return " ".join(names), content


def _edited_message(chance: random.Random, data: bytes, names: list[str], depth: int) -> bytes:
    fields = fields_of(data)
    if not fields:
        names.append("bytes")
        return chance.randbytes(chance.randint(0, 40))
    index = chance.randrange(len(fields))
    number, kind, value = fields[index]
    inner = fields_of(value) if kind == 2 and len(value) > 1 else None
    if inner and depth < 12 and chance.random() < 0.8:
        fields[index] = number, kind, _edited_message(chance, value, names, depth + 1)
        return encoded(fields)
    how = chance.choice([*FIELD_DAMAGE, "value"])
    names.append(f"{number}:{how}")
    FIELD_DAMAGE[how](chance, fields, index)
    return encoded(fields)


def _nested(chance: random.Random, fields: list[Field], index: int) -> None:
    deep, number = encoded(fields), fields[index][0]
    for _ in range(chance.choice((2, 30, 300))):
        deep = varint(number << 3 | 2) + varint(len(deep)) + deep if len(deep) < 1 << 20 else deep
    fields[index] = number, 2, deep


def _repeated(chance: random.Random, fields: list[Field], index: int) -> None:
    most = (4 << 20) // (len(encoded([fields[index]])) + 1) + 1
    fields[index:index] = [fields[index]] * min(chance.choice((10, 1000, 20_000)), most)


def _renumbered(chance: random.Random, fields: list[Field], index: int) -> None:
    fields[index] = chance.choice((1, 2, 3, 5, 7, 25, 100, 500, 502, 555, 2**28)), *fields[index][1:]


def _of_another_kind(chance: random.Random, fields: list[Field], index: int) -> None:
    number, kind, _ = fields[index]
    fields[index] = (number, 0, chance.choice(INTEGERS)) if kind == 2 else (number, 2, chance.randbytes(9))


def _valued(chance: random.Random, fields: list[Field], index: int) -> None:
    number, kind, value = fields[index]
    fields[index] = number, kind, _other_value(chance, kind, value)


def _swapped(chance: random.Random, fields: list[Field], index: int) -> None:
    other = chance.randrange(len(fields))
    fields[index], fields[other] = fields[other], fields[index]


FIELD_DAMAGE: Mapping[str, Callable[[random.Random, list[Field], int], None]] = {
    "delete": lambda _chance, fields, index: fields.pop(index) and None,
    "twice": lambda _chance, fields, index: fields.insert(index, fields[index]),
    "number": _renumbered,
    "value": _valued,
    "kind": _of_another_kind,
    "nest": _nested,
    "many": _repeated,
    "swap": _swapped,
}


def _other_value(chance: random.Random, kind: int, value: Any) -> Any:
    if kind == 0:
        return chance.choice([value + 1, max(0, value - 1), *INTEGERS])
    if kind != 2:
        return chance.randbytes(len(value))
    texts = (b"", b"\0", b"\xff\xfe", b"../../../etc/passwd", b"/etc/passwd", b"x" * 100_000, b"custom_layer", b"Py")
    return chance.choice([*texts, value[: len(value) // 2], value + value, chance.randbytes(len(value) % 1000)])


def damaged_member(name_ends: str, damage: Callable[[random.Random, bytes], Named]) -> Callable[..., Named]:
    """Damage to one member of a zip, which is packed again without a fault of its own."""

    def maker(chance: random.Random, content: bytes) -> Named:
        parts = _members(content)
        name = next(name for name in parts if name.endswith(name_ends))
        what, parts[name] = damage(chance, parts[name])
        return f"{name_ends} {what}", zipped(parts)

    return maker


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


# ---- JSON -----------------------------------------------------------------------------------------------------------


def damaged_json(chance: random.Random, content: bytes) -> Named:
    document = json.loads(content)
    names = []
    for _ in range(chance.randint(1, 3)):
        places = [place for place in _places(document) if place[0] is not None]
        holder, key = chance.choice(places)
        what, value = _json_value(chance, holder[key])
        holder[key] = value
        names.append(f"{key}:{what}"[:60])
    return " ".join(names), json.dumps(document).encode()


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _places(node[key])


def _json_value(chance: random.Random, value: Any) -> tuple[str, Any]:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    values = {
        "null": None,
        "negative": -1,
        "huge": 2**70,
        "nan": float("nan"),
        "text": "x" * 1000,
        "half": "\ud800",
        "nul": "\0",
        "list": [value, value],
        "object": {"class_name": "Lambda", "module": "keras.layers", "config": {}},
        "other": {"class_name": "Dense", "module": "keras.layers", "config": {"units": 2**31}},
        "empty": {},
        "deep": deep,
        "path": "/etc/passwd",
        "dense": "Dense",
        "true": True,
        "shape": [None, 2**31, 2**31],
    }
    what = chance.choice(list(values))
    return what, values[what]


# ---- archives -------------------------------------------------------------------------------------------------------


def damaged_archive(chance: random.Random, content: bytes) -> Named:
    kind = chance.choice(sorted(ARCHIVE_DAMAGE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about names that come twice
        return kind, ARCHIVE_DAMAGE[kind](chance, content)


def _with(content: bytes, *more: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    return members(*_members(content).items(), *more)


def _directory_entry(chance: random.Random, content: bytes, offset: int, value: bytes) -> bytes:
    """One of the directory's entries changed at `offset`."""
    starts = [at for at in range(len(content) - 46) if content[at : at + 4] == b"PK\x01\x02"]
    at = chance.choice(starts) + offset if starts else 0
    return content[:at] + value + content[at + len(value) :]


def _renamed(chance: random.Random, content: bytes) -> bytes:
    parts = list(_members(content).items())
    index = chance.randrange(len(parts))
    names = ("../x", "/x", "a\\b", "C:x", "x/../../y", "\x01", "x" * 5000, "é.pb", "x.so", "con", ".", "x/")
    parts[index] = chance.choice(names), parts[index][1]
    return members(*parts)


def _overlapping(_chance: random.Random, content: bytes) -> bytes:
    """Two directory entries of one local header."""
    starts = [at for at in range(len(content) - 46) if content[at : at + 4] == b"PK\x01\x02"]
    data = bytearray(content)
    if len(starts) > 1:
        data[starts[1] + 42 : starts[1] + 46] = data[starts[0] + 42 : starts[0] + 46]
    return bytes(data)


ARCHIVE_DAMAGE: Mapping[str, Callable[[random.Random, bytes], bytes]] = {
    "twice": lambda c, z: _with(z, c.choice(list(_members(z).items()))),
    "renamed": _renamed,
    "left out": lambda c, z: members(*c.sample(list(_members(z).items()), len(_members(z)) - 1)),
    "bomb": lambda c, z: _with(z, ("variables/zeros", b"\0" * (8 << 20))),
    "inside": lambda c, z: _with(z, (c.choice(("assets/a", "Data/a", "variables/b")), z)),
    "native": lambda c, z: _with(z, (c.choice(("assets/a.so", "Data/x.dylib", "a.exe")), b"\x7fELF" + bytes(60))),
    "link": lambda c, z: _with(z, (special("assets/link", 0o120777), b"/etc/passwd")),
    "device": lambda c, z: _with(z, (special("assets/null", 0o020666), b"")),
    "encrypted": lambda c, z: _directory_entry(c, z, 8, b"\x01\0"),
    "method": lambda c, z: _directory_entry(c, z, 10, struct.pack("<H", c.choice((0, 1, 9, 12, 14, 93, 99)))),
    "crc": lambda c, z: _directory_entry(c, z, 16, c.randbytes(4)),
    "packed size": lambda c, z: _directory_entry(c, z, 20, struct.pack("<I", c.choice(INTEGERS) & 0xFFFFFFFF)),
    "size": lambda c, z: _directory_entry(c, z, 24, struct.pack("<I", c.choice(INTEGERS) & 0xFFFFFFFF)),
    "name length": lambda c, z: _directory_entry(c, z, 28, struct.pack("<H", c.choice((0, 1, 999, 65535)))),
    "offset": lambda c, z: _directory_entry(c, z, 42, struct.pack("<I", c.choice(INTEGERS) & 0xFFFFFFFF)),
    "overlap": _overlapping,
    "before": lambda c, z: c.randbytes(c.randint(1, 200)) + z,
    "after": lambda c, z: z + c.randbytes(c.randint(1, 200)),
    "gzip": lambda c, z: zlib.compress(z),
    "empty": lambda c, z: members(),
}

MAKERS: Mapping[str, Sequence[Callable[[random.Random, bytes], Named]]] = {
    "tflite": (damaged_bytes, damaged_tables, damaged_tables, damaged_appendix),
    "keras": (damaged_bytes, damaged_member("config.json", damaged_json), damaged_archive),
    "saved_model": (damaged_bytes, damaged_member("saved_model.pb", damaged_fields), damaged_archive),
    "mlpackage": (
        damaged_bytes,
        damaged_member("model.mlmodel", damaged_fields),
        damaged_archive,
        damaged_member("Manifest.json", damaged_json),
        damaged_member("weight.bin", damaged_bytes),
    ),
    "mlmodel": (damaged_bytes, damaged_fields),
    "onnx": (damaged_bytes, damaged_fields),
}
