"""Evaluation sets: of an `.npz` only the array headers are read, of a zip of samples its document."""

import ast
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from registry.inspection.archive import DAMAGE, opened
from registry.inspection.errors import InspectionError
from registry.inspection.sample_set import SampleSet, document_of, read_sample_set

MAX_ARRAYS = 64
MAX_ARRAY_BYTES = 2 * 1024**3
MAX_TOTAL_BYTES = 4 * 1024**3
MAX_HEADER_BYTES = 10_000
MAX_DIMENSIONS = 8
NUMERIC_KINDS = "biuf"
METRIC = "metric"
MAX_METRIC_CHARACTERS = 64
NPY_MAGIC = b"\x93NUMPY"
LENGTH_FORMATS: Mapping[int, str] = {1: "<H", 2: "<I", 3: "<I"}


def inspect_evaluation_set(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Array name -> (shape, dtype name) of every array of an `.npz`, or of those a zip of samples will become.

    Reads headers only; what they declare is checked against the bytes that are there, so that loading the set later
    allocates no more than its file says. Raises InspectionError.
    """
    if is_sample_set(path):
        return _arrays_of(read_sample_set(path))
    try:
        with opened(path, "an .npz file", "not_npz") as archive:
            members = archive.infolist()
            _require_bounds(members)
            return {member.filename.removesuffix(".npy"): _header(archive, member) for member in members}
    except InspectionError:
        raise
    except DAMAGE as error:
        raise InspectionError("not_npz", "an .npz archive of arrays", str(error)) from error


def is_sample_set(path: Path) -> bool:
    """Whether the file is a zip of samples with a document, and not an `.npz`. Raises InspectionError."""
    with opened(path, "an evaluation set", "not_npz") as archive:
        return document_of(archive) is not None


def _arrays_of(found: SampleSet) -> dict[str, tuple[tuple[int, ...], str]]:
    arrays = {found.input.name: ((len(found.samples), *found.input.sample_shape), found.input.dtype)}
    for output in found.samples[0].labels:
        values = np.asarray([sample.labels[output] for sample in found.samples])
        arrays[f"labels/{output}" if output else "labels"] = values.shape, values.dtype.name
    return arrays


def _require_bounds(members: list[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    if not 1 <= len(members) <= MAX_ARRAYS or len(set(names)) != len(names):
        raise InspectionError("array_count", f"1 to {MAX_ARRAYS} arrays of different names", f"{len(members)}")
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL_BYTES or max(member.file_size for member in members) > MAX_ARRAY_BYTES:
        raise InspectionError("too_large", f"at most {MAX_TOTAL_BYTES} bytes unpacked", f"{total}")


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], str]:
    name = member.filename
    if not name.endswith(".npy"):
        raise InspectionError("not_npy", "members ending in .npy", repr(name))
    with archive.open(member) as stream:
        start = stream.read(8)
        length_format = LENGTH_FORMATS.get(start[6]) if len(start) == 8 and start.startswith(NPY_MAGIC) else None  # noqa: PLR2004
        if length_format is None:
            raise InspectionError("not_npy", f"a NumPy array header in {name!r}", repr(start))
        length_bytes = stream.read(struct.calcsize(length_format))
        if len(length_bytes) != struct.calcsize(length_format):
            raise InspectionError("not_npy", f"a NumPy array header in {name!r}", "a file that ends inside it")
        (length,) = struct.unpack(length_format, length_bytes)
        if length > MAX_HEADER_BYTES:
            raise InspectionError("not_npy", f"an array header of at most {MAX_HEADER_BYTES} bytes", str(length))
        text = stream.read(length).decode("latin-1")
    return _shape_and_dtype(name, text, member.file_size - 8 - len(length_bytes) - length)


def _shape_and_dtype(name: str, text: str, stored_bytes: int) -> tuple[tuple[int, ...], str]:
    try:
        header = ast.literal_eval(text)
        shape, dtype = tuple(header["shape"]), np.dtype(header["descr"])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise InspectionError("not_npy", f"a NumPy array header in {name!r}", text[:80]) from error
    if name.partition("/")[0].removesuffix(".npy") == METRIC:
        _require_text(name, shape, dtype)
    elif dtype.kind not in NUMERIC_KINDS or dtype.names is not None:
        raise InspectionError("not_numeric", f"a numeric array in {name!r}", str(dtype))
    elif not 1 <= len(shape) <= MAX_DIMENSIONS or any(type(size) is not int or size < 0 for size in shape):
        raise InspectionError("bad_shape", f"1 to {MAX_DIMENSIONS} dimensions in {name!r}", str(shape))
    if math.prod(shape) * dtype.itemsize != stored_bytes:
        declared = math.prod(shape) * dtype.itemsize
        raise InspectionError("size_mismatch", f"{declared} bytes of data in {name!r}", f"{stored_bytes}")
    return shape, dtype.name


def _require_text(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    if dtype.kind != "U" or shape != () or dtype.itemsize > 4 * MAX_METRIC_CHARACTERS:
        expected = f"one text of at most {MAX_METRIC_CHARACTERS} characters in {name!r}"
        raise InspectionError("bad_metric", expected, f"{dtype} {shape}")
