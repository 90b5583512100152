"""The oldest runtime that runs a file, read from the file. Pure.

Each number is a lower bound, in the numbering in which phones name their runtime:

| runtime     | numbering                                                                                            |
|-------------|------------------------------------------------------------------------------------------------------|
| litert      | LiteRT's releases. TensorFlow Lite 2.9, which came before, is 0.2.9: so it sorts before LiteRT 1.0     |
| onnxruntime | ONNX Runtime's releases                                                                              |
| coreml      | iOS                                                                                                  |
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.device_classes import compare_versions
from registry.inspection.onnx_file import inspect_onnx
from registry.inspection.tflite_file import inspect_tflite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.inspection.source import Operator

# TensorFlow Lite 2.17 was its last release, moved in Maven to LiteRT 1.0.1; what is newer is LiteRT's.
FIRST_LITERT, LAST_TENSORFLOW_LITE = "1.0.1", 16
_RELEASE = re.compile(r"([12])\.([0-9]{1,2})(?:\.|$)")
# From ONNX Runtime's compatibility table: the first release that implements the operator set.
FIRST_OF_OPSET = {
    8: "0.1.4", 9: "0.3", 10: "0.4", 11: "1.0", 12: "1.3", 13: "1.6", 14: "1.8", 15: "1.9", 16: "1.11", 17: "1.12",
    18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21", 23: "1.22",
}  # fmt: skip
AFTER_THE_TABLE = "1.23"


def needed_runtime(path: Path, runtime: str) -> str:
    """Of a `.tflite` or `.onnx` file; empty for others and where nothing is known. Raises InspectionError."""
    if runtime == "litert":
        read = inspect_tflite(path)
        return litert_needed(read.operators, read.min_runtime_version)
    if runtime == "onnxruntime":
        return onnxruntime_needed(inspect_onnx(path).details["opsets"].get("", 0))
    return ""


def litert_needed(operators: Iterable[Operator], written: str = "") -> str:
    """`written` is the file's own `min_runtime_version`: optimisers leave it behind when they raise an operator.

    >>> from registry.inspection.source import Operator
    >>> litert_needed([Operator("ADD", "1", 2), Operator("CONV_2D", "6", 1)]), litert_needed([], "2.18.0")
    ('0.2.9', '1.0.1')
    """
    releases = [written, *(_release_of(operator.name, operator.version) for operator in operators)]
    needed = ""
    for found in (litert_number(release) for release in releases):
        if compare_versions(found, needed) > 0:
            needed = found
    return needed


def litert_number(release: str) -> str:
    """A release of TensorFlow among LiteRT's; empty for what is none.

    >>> litert_number("1.14.0"), litert_number("2.16.1"), litert_number("2.17.0"), litert_number("")
    ('0.1.14', '0.2.16', '1.0.1', '')
    """
    found = _RELEASE.match(release)
    if found is None:
        return ""
    major, minor = found.groups()
    return FIRST_LITERT if major == "2" and int(minor) > LAST_TENSORFLOW_LITE else f"0.{major}.{int(minor)}"


def onnxruntime_needed(opset: int) -> str:
    """ONNX Runtime runs every operator set from 7 on, up to the one that it implements.

    >>> onnxruntime_needed(7), onnxruntime_needed(17), onnxruntime_needed(99)
    ('', '1.12', '1.23')
    """
    return AFTER_THE_TABLE if opset > max(FIRST_OF_OPSET) else FIRST_OF_OPSET.get(opset, "")


def _release_of(name: str, version: str) -> str:
    """The first TensorFlow release with that version of the operator. One that is not listed came later."""
    table = _table()
    known = table["first"].get(name, "").split()
    number = int(version) if version.isdigit() else 0
    if 1 <= number <= len(known):
        return str(known[number - 1])
    major, minor = table["newest"].split(".")
    return f"{major}.{int(minor) + 1}"


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "litert_operators.json").read_text())
    return found
