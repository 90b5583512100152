"""What a worker left behind, which may be a model's work: read as data, followed nowhere, removed however it is laid.

Pure but for the file system. Everything here runs after the last process of the job is dead.
"""

import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any

from registry.conversion.report import ProducedFile, Report, ReportError

RESULT_BYTES = 16 * 1024**2


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A regular file with one name; never through a link, never a pipe that nobody fills. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(f"expected a regular file with one name at {path.name}; got something else")
        yield stream


def read_report(path: Path, output: Path) -> Report:
    """The report in `path`, whose files are what they say they are. Raises OSError or ValueError (ReportError)."""
    with opened(path) as stream:
        text = stream.read(RESULT_BYTES + 1)
    if len(text) > RESULT_BYTES:
        raise ReportError(f"expected at most {RESULT_BYTES} bytes of result; got more")
    data = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(data, dict):
        raise ReportError(f"expected an object as the result; got {type(data).__name__}")
    _require_storable(data)
    report = Report.from_json(data)
    require_files(report, output)
    return report


def _refuse_constant(name: str) -> None:
    raise ValueError(f"expected finite numbers in the result; got {name}")


def _require_storable(data: dict[str, Any]) -> None:
    """A database's JSON knows neither NUL nor half a surrogate pair."""
    text = json.dumps(data, ensure_ascii=False)
    if "\\u0000" in text:
        raise ReportError("expected text without NUL in the result; got one")
    text.encode("utf-8")  # UnicodeEncodeError is a ValueError


def require_files(report: Report, output: Path) -> None:
    """Raises ReportError unless every file named lies in `output` as a regular file of that size and digest."""
    paths = [produced.path for produced in report.files]
    if len(set(paths)) != len(paths):
        raise ReportError("expected each file once in the result; got one twice")
    for produced in report.files:
        _require_file(produced, output)
    if report.entry and not any(_is_at_or_below(path, report.entry) for path in paths):
        raise ReportError(f"expected the entry among the files of the result; got {report.entry!r}")


def _is_at_or_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _require_file(produced: ProducedFile, output: Path) -> None:
    if not isinstance(produced.path, str) or not is_plain_path(produced.path):
        raise ReportError(f"expected a path below the output folder; got {produced.path!r}")
    path = output
    for part in PurePosixPath(produced.path).parts[:-1]:
        path = path / part
        if not stat.S_ISDIR(_mode(path)):
            raise ReportError(f"expected the folders of {produced.path!r} to be folders; got something else")
    try:
        with opened(output / produced.path) as stream:
            size_bytes = os.fstat(stream.fileno()).st_size
            digest = file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ReportError(f"expected a file at {produced.path!r}; got {error.strerror or error}") from error
    if (size_bytes, digest) != (produced.size_bytes, produced.sha256):
        raise ReportError(f"expected {produced.path!r} to be what the result says; got {size_bytes} bytes, {digest}")


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0


def is_plain_path(text: str) -> bool:
    """True for a relative path of plain names, in its shortest form."""
    parts = text.split("/")
    return "\0" not in text and not any(part in {"", ".", ".."} for part in parts)


def remove_tree(folder: Path) -> None:
    """Remove a folder however deep it is and whatever its modes: subfolders are moved up instead of walked down.

    Leaves what it is not permitted to remove.
    """
    with suppress(OSError):
        folder.chmod(0o700)
        while sum([_remove_or_flatten(path, folder) for path in folder.iterdir()]):
            pass
        folder.rmdir()


def _remove_or_flatten(path: Path, top: Path) -> bool:
    """Remove one file, or a folder whose own folders come to lie in `top`. False when that is not permitted."""
    try:
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return True
        path.chmod(0o700)
        for below in path.iterdir():
            if stat.S_ISDIR(below.lstat().st_mode):
                below.chmod(0o700)  # a folder that is moved has its own entry `..` rewritten
                below.rename(top / f"removed-{uuid.uuid4().hex}")
            else:
                below.unlink()
        path.rmdir()
    except OSError:
        return False
    return True
