"""More than 200 files that somebody might send to see what breaks. Made by code from one seed, the same every time."""

import bz2
import io
import json
import lzma
import random
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite

from tests.registry.inspection import builders
from tests.registry.inspection.builders import ModelPlan, TensorPlan, keras_config, keras_file, layer, zipped

SEED = 20261122
DENSE = layer("Dense", units=2, name="y")


@dataclass(frozen=True)
class Hostile:
    """`code`: how it is refused, or None where any named refusal will do."""

    name: str
    file_name: str
    content: bytes
    code: str | None = None
    evaluation_set: bool = False


def sound() -> dict[str, bytes]:
    """What the damage is done to, by file name."""
    arrays = io.BytesIO()
    np.savez(arrays, x=np.ones((4, 2), np.float32), labels=np.zeros(4, np.int64))
    return {
        "model.keras": keras_file(keras_config(DENSE)),
        "model.tflite": ModelPlan().build(),
        "model.zip": zipped({"saved_model.pb": builders.saved_model(), "variables/variables.index": b"x" * 64}),
        "set.npz": arrays.getvalue(),
    }


def all_files() -> Iterator[Hostile]:
    chance = random.Random(SEED)
    for makers in (truncated, noise, damaged_headers, wrong_extensions):
        yield from makers(chance)
    for plain in (archives, keras_files, tflite_files, saved_models, evaluation_sets):
        yield from plain()


def past_inspection() -> Iterator[Hostile]:
    """Of a right form, and yet no model: what only a runtime finds out."""
    yield _of("weights that are no HDF5 inside", "model.keras", sound()["model.keras"])
    vast = keras_config(layer("Dense", units=2_000_000_000, name="y"))
    yield _of("a layer of two thousand million units", "model.keras", keras_file(vast))
    convolution = ModelPlan(operator_codes=[(3, 3)])
    yield _of("a convolution of flat tensors without options", "model.tflite", convolution.build())
    plan = ModelPlan(tensors=[TensorPlan("x", (2**15, 2**15)), *ModelPlan().tensors[1:]])
    yield _of("an input that does not fit its operator", "model.tflite", plan.build())
    yield _of("a graph without nodes behind its signature", "model.zip", sound()["model.zip"])


def _of(name: str, file_name: str, content: bytes, **more: Any) -> Hostile:
    return Hostile(name, file_name, content, evaluation_set=file_name.endswith(".npz"), **more)


def truncated(chance: random.Random) -> Iterator[Hostile]:
    for file_name, content in sound().items():
        for length in sorted(chance.sample(range(1, len(content) - 1), 12)):
            yield _of(f"truncated {file_name} {length}", file_name, content[:length])


def noise(chance: random.Random) -> Iterator[Hostile]:
    """Random bytes, with and without the format's own beginning."""
    magic = {
        "model.keras": b"PK\x03\x04",
        "model.tflite": b"\x1c\0\0\0TFL3",
        "model.zip": b"PK\x05\x06",
        "set.npz": b"PK",
    }
    for file_name, start in magic.items():
        for number in range(10):
            content = chance.randbytes(chance.randint(1, 4096))
            yield _of(f"noise {file_name} {number}", file_name, (start if number % 2 else b"") + content)


def damaged_headers(chance: random.Random) -> Iterator[Hostile]:
    """Numbers of the end of an archive and of a flatbuffer's beginning, set to what they cannot be."""
    for file_name, content in sound().items():
        for number in range(6):
            at = chance.randint(0, 3) if file_name.endswith(".tflite") else len(content) - 22 + chance.choice((12, 16))
            broken = bytearray(content)
            broken[at : at + 4] = struct.pack("<I", chance.randint(1 << 28, (1 << 32) - 1))
            yield _of(f"header {file_name} {number}", file_name, bytes(broken))


def wrong_extensions(_chance: random.Random) -> Iterator[Hostile]:
    for file_name, content in sound().items():
        for claimed in (".keras", ".tflite", ".zip", ".onnx", ".mlmodel"):
            if not file_name.endswith(claimed):
                yield Hostile(f"{file_name} as {claimed}", f"model{claimed}", content)
        for claimed in ("model", "model.h5", "model.pt", "model.pb", "model.exe", "model.keras.gz"):
            yield Hostile(f"{file_name} as {claimed}", claimed, content, "unknown_format")


# ---- archives -------------------------------------------------------------------------------------------------------


def members(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # about names that come twice
        for name, data in entries:
            # The time of day would make another file each time.
            member = zipfile.ZipInfo(name) if isinstance(name, str) else name
            archive.writestr(member, data, compress_type=method)
    return stream.getvalue()


def special(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = mode << 16
    return member


def many_members(count: int) -> bytes:
    """A directory of `count` entries of one and the same member, by hand: 47 bytes each."""
    one = members(("a", b""), method=zipfile.ZIP_STORED)
    start = one.index(b"PK\x01\x02")
    directory = one[start : one.index(b"PK\x05\x06")] * count
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(directory), start, 0)
    return one[:start] + directory + end


def lying_member(name: str, promised: int, held: bytes, *others: tuple[str, bytes]) -> bytes:
    """A member that inflates to more than its entry says."""
    content = bytearray(members((name, held), *others))
    local, central = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    content[local + 22 : local + 26] = content[central + 24 : central + 28] = struct.pack("<I", promised)
    return bytes(content)


def archives() -> Iterator[Hostile]:
    config = json.dumps(keras_config(DENSE)).encode()
    parts = [("metadata.json", b"{}"), ("config.json", config), ("model.weights.h5", builders.HDF5)]
    names = ("../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini", "C:\\boot.ini", "a/../../b", "x\x01y", "..")
    for file_name, first in (("model.keras", parts), ("model.zip", [("saved_model.pb", builders.saved_model())])):
        for name in names:
            yield _of(f"path {name!r} in {file_name}", file_name, members(*first, (name, b"x")), code="unsafe_path")
        for what, mode in (("link", stat.S_IFLNK), ("device", stat.S_IFCHR), ("pipe", stat.S_IFIFO)):
            content = members(*first, (special("variables/x", mode | 0o777), b"/etc/passwd"))
            yield _of(f"{what} in {file_name}", file_name, content, code="unsafe_member")
        doubled = members(*first, first[0])
        yield _of(f"duplicate names in {file_name}", file_name, doubled, code="duplicate_member")
        cased = members(*first, (str(first[0][0]).upper(), b"x"))
        yield _of(f"names that differ in case in {file_name}", file_name, cased, code="duplicate_member")
        bomb = members(*first, ("variables/zeros", b"\0" * (300 << 20)))
        yield _of(f"bomb in {file_name}", file_name, bomb, code="too_large")
        for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
            content = members(*first, method=method)
            yield _of(f"compression {method} of {file_name}", file_name, content, code="compression")
        yield _of(f"a million members in {file_name}", file_name, many_members(1_000_000), code="directory_size")
        yield _of(f"20 000 members in {file_name}", file_name, many_members(20_000), code="member_count")
        yield _of(f"no members in {file_name}", file_name, members(), code="member_count")
        yield _of(f"gzip as {file_name}", file_name, b"\x1f\x8b" + b"x" * 100, code="not_zip")
        yield _of(f"bzip2 as {file_name}", file_name, bz2.compress(b"x" * 100), code="not_zip")
        yield _of(f"xz as {file_name}", file_name, lzma.compress(b"x" * 100), code="not_zip")
        yield _of(f"archive in an archive as {file_name}", file_name, members(("inner.zip", members(*first))))


# ---- Keras ----------------------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def keras_files() -> Iterator[Hostile]:
    refused: dict[str, tuple[Any, str]] = {
        "Lambda": (keras_config(layer("Lambda", function={"class_name": "__lambda__"})), "lambda_layer"),
        "Lambda in a nested model": (keras_config({**keras_config(layer("Lambda")), "name": "inner"}), "lambda_layer"),
        "Lambda in a wrapper": (keras_config(layer("TimeDistributed", layer=layer("Lambda"))), "lambda_layer"),
        "lambda as activation": (keras_config(layer("Dense", activation={"class_name": "__lambda__"})), "lambda_layer"),
        "custom class": (keras_config(layer("Dense", module="evil.layers")), "custom_object"),
        "registered class": (keras_config(layer("Dense", registered="evil>Dense")), "custom_object"),
        "os.system": (keras_config(layer("system", module="os")), "custom_object"),
        "a layer that loads a model": (keras_config(layer("TFSMLayer", filepath="/etc")), "custom_object"),
        "a layer that reads a file": (keras_config(layer("StringLookup", vocabulary="/etc/passwd")), "custom_object"),
        "deep": (nested(100_000), "keras_json"),
        "deep inside": (
            b'{"module": "keras", "class_name": "Functional", "config": ' + nested(500) + b"}",
            "keras_json",
        ),
        "a long number": (b'{"x": ' + b"9" * 10_000 + b"}", "keras_json"),
        "a list": (b"[]", "keras_json"),
        "no JSON": (b"\xff\xfe\x00", "keras_json"),
        "no layers": ({"class_name": "Functional", "module": "keras", "config": {}}, "keras_config"),
        "layers of text": ({**keras_config(), "config": {"layers": ["x"]}}, "keras_config"),
        "negative shape": (keras_config(DENSE, layers=[layer("InputLayer", batch_shape=[-1])]), "keras_inputs"),
        "huge": (b'{"x": "' + b" " * (9 << 20) + b'"}', "too_large"),
    }
    for name, (config, code) in refused.items():
        yield _of(f"keras {name}", "model.keras", keras_file(config), code=code)
    without = dict.fromkeys(("metadata.json", "config.json"), b"{}")
    yield _of("keras without weights", "model.keras", zipped(without), code="keras_members")
    more = keras_file(keras_config(DENSE), **{"assets/evil.py": b"import os"})
    yield _of("keras with another member", "model.keras", more, code="keras_members")
    fake = keras_file(keras_config(DENSE), **{"model.weights.h5": b"\x80\x04pickle."})
    yield _of("keras with a pickle for weights", "model.keras", fake, code="keras_weights")
    lying = lying_member(
        "config.json", 40, b" " * (40 << 20), ("metadata.json", b"{}"), ("model.weights.h5", builders.HDF5)
    )
    yield _of("keras with a member that holds more than it says", "model.keras", lying)


# ---- TFLite ---------------------------------------------------------------------------------------------------------


class Repeated(ModelPlan):
    """The same table named many times: a small file that seems to hold millions of parts."""

    counts = {"tensors": 1, "graphs": 1, "operators": 1}

    def _vector(self, b: Any, start: Callable[..., Any], offsets: Any) -> int:
        times = {
            tflite.SubGraphStartTensorsVector: self.counts["tensors"],
            tflite.ModelStartSubgraphsVector: self.counts["graphs"],
            tflite.SubGraphStartOperatorsVector: self.counts["operators"],
        }.get(start, 1)
        return super()._vector(b, start, [*offsets, *[offsets[-1]] * (times - 1)] if offsets else offsets)


def repeated(plan: ModelPlan | None = None, **counts: int) -> bytes:
    made = type("Counted", (Repeated,), {"counts": {**Repeated.counts, **counts}})(**vars(plan or ModelPlan()))
    return bytes(made.build())


def tflite_files() -> Iterator[Hostile]:
    damaged = "damaged_tflite"
    yield _of("a million tensors", "model.tflite", repeated(tensors=1_000_000), code=damaged)
    yield _of("64 graphs of 150 000 tensors", "model.tflite", repeated(tensors=150_000, graphs=64), code=damaged)
    yield _of("a thousand graphs", "model.tflite", repeated(graphs=1000), code=damaged)
    wide = ModelPlan(operators=[(0, [0] * 50_000, [2])])
    yield _of("100 000 operators of 50 000 operands", "model.tflite", repeated(wide, operators=100_000), code=damaged)
    tensors = ModelPlan().tensors
    scaled = ModelPlan(tensors=[*tensors[:2], TensorPlan("y", scales=(0.5,) * 200_000)])
    yield _of("tensors of 200 000 scales each", "model.tflite", repeated(scaled, tensors=150_000), code=damaged)
    plans: dict[str, tuple[ModelPlan, str]] = {
        "rank 1000": (ModelPlan(tensors=[TensorPlan("x", (1,) * 1000), *tensors[1:]]), damaged),
        "negative size": (ModelPlan(tensors=[TensorPlan("x", (-5, 2)), *tensors[1:]]), damaged),
        "constant of the wrong size": (ModelPlan(buffers=[b"", b"1234"]), damaged),
        "buffer that is not there": (ModelPlan(tensors=[TensorPlan("x", buffer=99), *tensors[1:]]), damaged),
        "operand that is not there": (ModelPlan(operators=[(0, [0, 2**30], [2])]), damaged),
        "operator that is not there": (ModelPlan(operators=[(7, [0, 1], [2])]), damaged),
        "read before written": (ModelPlan(operators=[(0, [2, 1], [2])]), damaged),
        "written twice": (ModelPlan(operators=[(0, [0, 1], [2])] * 2), damaged),
        "input that is not there": (ModelPlan(inputs=(2**31 - 1,)), damaged),
        "output that nobody writes": (ModelPlan(operators=[], outputs=(2,)), damaged),
        "custom operator": (ModelPlan(operator_codes=[(32, 32)], custom_code="Evil"), "custom_operator"),
        "unknown operator": (ModelPlan(operator_codes=[(127, 9999)]), "refused_operator"),
        "schema 99": (ModelPlan(version=99), "tflite_version"),
        "another identifier": (ModelPlan(identifier=b"TFL9"), "not_tflite"),
        "weights outside": (ModelPlan(external_buffer=True), "external_buffer"),
        "no inputs": (ModelPlan(inputs=(), outputs=(0,), operators=[]), "damaged_tflite"),
        "metadata that is not there": (ModelPlan(metadata_buffer=2**30), damaged),
        "text as input": (ModelPlan(tensors=[TensorPlan("x", dtype=5), *tensors[1:]]), "tensor_type"),
    }
    for name, (plan, code) in plans.items():
        yield _of(f"tflite {name}", "model.tflite", plan.build(), code=code)


# ---- SavedModel and evaluation sets ---------------------------------------------------------------------------------


def saved_models() -> Iterator[Hostile]:
    for operation in ("ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "LoadDataset", "DebugIdentityV2", "x" * 10_000):
        graph = builders.saved_model(operations=["MatMul", operation])
        yield _of(
            f"operation {operation[:20]}", "model.zip", zipped({"saved_model.pb": graph}), code="tensorflow_operation"
        )
        inner = builders.saved_model(inner=[operation])
        yield _of(
            f"inner {operation[:20]}", "model.zip", zipped({"saved_model.pb": inner}), code="tensorflow_operation"
        )
    graphs = {
        "no signature": (builders.message((1, 1), (2, builders.message((2, b"")))), "no_signature"),
        "no value of the signature": (
            builders.message((2, builders.message((5, builders.message((1, "serving_default")))))),
            "no_signature",
        ),
        "no protocol buffer": (b"\xff" * 100, "damaged_protobuf"),
        "nothing": (b"", "no_signature"),
        "forty million fields": (builders.message((2, b"\x08\x01" * 20_000_000)), None),
        "endless varint": (b"\x80" * 100, "damaged_protobuf"),
    }
    for name, (graph, code) in graphs.items():
        content = members(("saved_model.pb", graph), method=zipfile.ZIP_STORED)
        yield _of(f"saved_model {name}", "model.zip", content, code=code)
    listings = {
        "two graphs": ({"a/saved_model.pb": b"", "b/saved_model.pb": b""}, "not_saved_model"),
        "no graph": ({"variables/x": b""}, "not_saved_model"),
        "deep graph": ({"a/b/c/d/e/saved_model.pb": b""}, "not_saved_model"),
        "stranger": ({"saved_model.pb": builders.saved_model(), "run.sh": b""}, "saved_model_members"),
        "stranger beside": ({"m/saved_model.pb": builders.saved_model(), "n/x": b""}, "saved_model_members"),
    }
    for name, (listing, code) in listings.items():
        yield _of(f"saved_model {name}", "model.zip", zipped(listing), code=code)


def header(text: str, version: int = 1) -> bytes:
    encoded = text.encode("latin-1")
    length = struct.pack("<H" if version == 1 else "<I", len(encoded))
    return b"\x93NUMPY" + bytes([version, 0]) + length + encoded


def evaluation_sets() -> Iterator[Hostile]:
    pickled = io.BytesIO()
    np.lib.format.write_array(pickled, np.array([{"a": 1}], object), allow_pickle=True)
    plain = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
    arrays = {
        "pickle": (pickled.getvalue(), "not_numeric"),
        "code": (header("__import__('os').system('true')"), "not_npy"),
        "deep header": (header("(" * 5000), "not_npy"),
        "long header": (header(" " * 60_000), "not_npy"),
        "text": (header("{'descr': '<U9', 'fortran_order': False, 'shape': (1,)}"), "not_numeric"),
        "record": (header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"), "not_numeric"),
        "a yottabyte": (header(plain % "(10**24,)"), "not_npy"),
        "terabytes": (header(plain % "(1000000, 1000000)"), "size_mismatch"),
        "negative": (header(plain % "(-1, -4)"), "bad_shape"),
        "no dimensions": (header(plain % "()"), "bad_shape"),
        "hundred dimensions": (header(plain % f"({'1,' * 100})"), "bad_shape"),
        "true as size": (header(plain % "(True,)"), "bad_shape"),
        "version 9": (header("{}", 9), "not_npy"),
        "ends in its header": (header(plain % "(1,)")[:20], "not_npy"),
    }
    for name, (data, code) in arrays.items():
        yield _of(f"array {name}", "set.npz", members(("x.npy", data)), code=code)
    bomb = members(("x.npy", header(plain % "(75000000,)") + b"\0" * 300_000_000))
    yield _of("npz bomb", "set.npz", bomb, code="too_large")
    yield _of("npz duplicate names", "set.npz", members(("x.npy", b""), ("x.npy", b"")), code="duplicate_member")
    yield _of("npz path", "set.npz", members(("../x.npy", b"")), code="unsafe_path")
    yield _of("npz link", "set.npz", members((special("x.npy", stat.S_IFLNK | 0o777), b"/etc")), code="unsafe_member")
    yield _of("npz bzip2", "set.npz", members(("x.npy", b"0"), method=zipfile.ZIP_BZIP2), code="compression")
    yield _of("npz of a million", "set.npz", many_members(1_000_000), code="directory_size")
    yield _of("npz of a thousand", "set.npz", members(*((f"{i}.npy", b"") for i in range(1000))), code="array_count")
