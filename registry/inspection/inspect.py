"""The entry of inspection: which format a file is, and what is in it. Nothing is executed."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from registry.inspection import archive
from registry.inspection.coreml_file import inspect_coreml
from registry.inspection.coreml_package import MANIFEST
from registry.inspection.errors import InspectionError
from registry.inspection.keras_file import inspect_keras
from registry.inspection.onnx_file import inspect_onnx
from registry.inspection.saved_model import GRAPH_FILE, inspect_saved_model
from registry.inspection.source import SourceInspection
from registry.inspection.tflite_file import inspect_tflite

MAX_SOURCE_BYTES = 2 * 1024**3


def inspect_zip(path: Path) -> SourceInspection:
    """A SavedModel or a Core ML package: whichever one's own file the archive holds."""
    with archive.opened(path, "a SavedModel or a .mlpackage") as opened:
        names = {PurePosixPath(name).name for name in opened.namelist()}
    if MANIFEST in names and GRAPH_FILE not in names:
        return inspect_coreml(path)
    return inspect_saved_model(path)


INSPECTORS: Mapping[str, Callable[[Path], SourceInspection]] = MappingProxyType(
    {
        ".keras": inspect_keras,
        ".tflite": inspect_tflite,
        ".zip": inspect_zip,
        ".mlmodel": inspect_coreml,
        ".mlpackage": inspect_coreml,
        ".onnx": inspect_onnx,
    }
)


def inspect_source(path: Path, file_name: str) -> SourceInspection:
    """Read a source model's format, inputs and outputs as data.

    `file_name` is the name it was uploaded under: its suffix says which format is claimed, the bytes must agree.
    Raises InspectionError.
    """
    if path.is_symlink() or not path.is_file():
        raise InspectionError("not_a_file", "a regular file", repr(file_name))
    size_bytes = path.stat().st_size
    if not 0 < size_bytes <= MAX_SOURCE_BYTES:
        raise InspectionError("size", f"1 to {MAX_SOURCE_BYTES} bytes", f"{size_bytes}")
    suffix = Path(file_name).suffix.lower()
    if suffix not in INSPECTORS:
        wanted = "a name ending in .keras, .tflite, .mlmodel, .onnx or .zip (a SavedModel or a .mlpackage)"
        raise InspectionError("unknown_format", wanted, repr(file_name))
    return INSPECTORS[suffix](path)
