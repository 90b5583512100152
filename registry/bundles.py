"""What may stand in one bundle beside the files that a conversion makes: names, roles and sizes. Pure.

A bundle is what one variant's manifest lists: all of it switches together. Beside the model's own files it holds the
version's extra files, at their paths, and the files of its parts (other models' versions), each below its name.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from registry.conversion.recipes.recipe import ENTRY_OF_FAMILY
from registry.inspection.archive import require_data

LABELS = "labels"
FILE_ROLES = (LABELS, "graph", "vocabulary", "config", "data")
MOST_FILES = 64
MOST_PARTS = 8
MOST_FILE_BYTES = 256 << 20
MOST_PATH_CHARACTERS = 200
MOST_PATH_PARTS = 8
LABELS_FILE, SANITY_FILE = "labels.txt", "sanity.json"

# A file system that ignores case, forbids a dot at the end or reads a leading one as hidden takes all of these alike.
_PATH_PART = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_PART_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_WINDOWS_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_MODEL_SUFFIXES = frozenset(
    {".tflite", ".lite", ".mlmodel", ".mlpackage", ".mlmodelc", ".onnx", ".ort", ".pte", ".keras", ".h5"}
)
_TFLITE_MAGIC, _TFLITE_MAGIC_AT = b"TFL3", 4
# Whatever family a recipe belongs to, its bundle has no file of these names but its own.
_RESERVED = frozenset({SANITY_FILE, *ENTRY_OF_FAMILY.values(), *(f"{entry}.zip" for entry in ENTRY_OF_FAMILY.values())})


class BundleError(ValueError):
    """Files that cannot stand in one bundle; the message says what was expected and what was got."""


def require_extras(files: Sequence[tuple[str, str]], parts: Sequence[str], *, has_labels: bool) -> None:
    """Raises BundleError unless `files`, pairs of (path, role), and parts of these names may join any variant.

    `has_labels`: the version has labels of its own, which every variant gets as LABELS_FILE.
    """
    require_parts(parts)
    if len(files) > MOST_FILES:
        raise BundleError(f"expected at most {MOST_FILES} files, got {len(files)}")
    for path, role in files:
        require_path(path)
        if role not in FILE_ROLES:
            raise BundleError(f"expected a role among {', '.join(FILE_ROLES)} for {path}, got {role!r}")
    _require_one_list_of_labels([path for path, role in files if role == LABELS], has_labels=has_labels)
    _require_free([path for path, _ in files], parts, has_labels=has_labels)
    require_apart(path for path, _ in files)


def require_parts(names: Sequence[str]) -> None:
    """Raises BundleError unless these can be the names of parts."""
    if len(names) > MOST_PARTS:
        raise BundleError(f"expected at most {MOST_PARTS} parts, got {len(names)}")
    if len(set(names)) != len(names):
        raise BundleError(f"expected each part once, got {', '.join(names)}")
    for name in names:
        if not _PART_NAME.fullmatch(name) or _WINDOWS_DEVICES.fullmatch(name):
            raise BundleError(f"expected the name of a part like {_PART_NAME.pattern}, got {name!r}")


def require_path(path: str) -> None:
    """Raises BundleError unless a phone of any system can write the path below a folder of its own."""
    parts = path.split("/")
    if len(path) > MOST_PATH_CHARACTERS or len(parts) > MOST_PATH_PARTS:
        expected = f"at most {MOST_PATH_CHARACTERS} characters and {MOST_PATH_PARTS} parts"
        raise BundleError(f"expected a path of {expected}, got {path[:MOST_PATH_CHARACTERS]!r}")
    if not all(_PATH_PART.fullmatch(part) and not _WINDOWS_DEVICES.fullmatch(part) for part in parts):
        raise BundleError(f"expected a relative path like {_PATH_PART.pattern} between slashes, got {path!r}")


def require_apart(paths: Iterable[str]) -> None:
    """Raises BundleError for paths that some file system takes for one another, or for a file within a file."""
    known: dict[str, tuple[str, bool]] = {}
    for path in paths:
        names = path.split("/")
        for depth in range(1, len(names) + 1):
            name, is_file = "/".join(names[:depth]), depth == len(names)
            before = known.get(name.casefold())
            if before is not None and (is_file or before != (name, is_file)):
                raise BundleError(f"expected paths that differ on every file system, got {before[0]} and {path}")
            known[name.casefold()] = (name, is_file)


def require_content(path: str, size_bytes: int, start: bytes) -> None:
    """`start`: at least the first KiB. Raises BundleError, and InspectionError for a program or an archive."""
    if size_bytes > MOST_FILE_BYTES:
        raise BundleError(f"expected at most {MOST_FILE_BYTES} bytes in {path}, got {size_bytes}")
    require_data(path, start)
    is_tflite = start[_TFLITE_MAGIC_AT:].startswith(_TFLITE_MAGIC)
    if is_tflite or _MODEL_SUFFIXES & {suffix.lower() for suffix in PurePosixPath(path).suffixes}:
        raise BundleError(
            f"expected a file that is no model, got {path}: register it as a model and name that version as a part"
        )


def _require_one_list_of_labels(paths: Sequence[str], *, has_labels: bool) -> None:
    if len(paths) + has_labels > 1:
        got = ", ".join([*paths, *([f"{LABELS_FILE} of the version's labels"] if has_labels else [])])
        raise BundleError(f"expected one list of labels, got {got}")


def _require_free(paths: Sequence[str], parts: Sequence[str], *, has_labels: bool) -> None:
    """No extra file within what a conversion makes, nor within a part; no part named like one of those."""
    taken = {name.casefold() for name in (*_RESERVED, *([LABELS_FILE] if has_labels else []))}
    for path in paths:
        first = path.split("/")[0].casefold()
        if first in taken:
            raise BundleError(f"expected a path beside what conversions make, got {path}: {first} is theirs")
        if first in parts:
            raise BundleError(f"expected a path beside the part {first}, whose files stand there, got {path}")
