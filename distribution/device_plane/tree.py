"""The signed tree as plain files. The device plane reads nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from distribution.catalog import NAME, PATH

TIMESTAMP = "trust/timestamp.json"
_SEGMENTS_MOST = 32


class TreeReader(Protocol):
    """Read access to `{application}/…`. Paths are relative, checked by `safe_path`."""

    def applications(self) -> list[str]:
        """Names of the applications that have a folder."""

    def fingerprint(self, application: str) -> object | None:
        """A value that changes whenever timestamp.json is replaced; None if there is none. Reads no content."""

    def read(self, application: str, path: str, most_bytes: int) -> bytes:
        """A whole small file. Raises OSError (FileNotFoundError if absent), ValueError if it is larger."""

    def open(self, application: str, path: str) -> "OpenFile":
        """A file to stream. Raises FileNotFoundError."""

    def url(self, application: str, path: str) -> str | None:
        """Where a client may fetch the file itself for some hours; None if it is sent from here. FileNotFoundError."""


class OpenFile(Protocol):
    """`path` is set where the server may send the file itself."""

    size: int
    path: str | None

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end) piece by piece. Raises OSError if the file is shorter."""

    def close(self) -> None: ...


class LocalTree:
    """The tree in a folder of this machine (or a mounted volume)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def applications(self) -> list[str]:
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if NAME.fullmatch(entry.name) and entry.is_dir())

    def fingerprint(self, application: str) -> object | None:
        try:
            found = (self.root / application / TIMESTAMP).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self, application: str, path: str, most_bytes: int) -> bytes:
        with self._locate(application, path).open("rb") as file:
            data = file.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise ValueError(f"{application}/{path}: expected at most {most_bytes} bytes, got more")
        return data

    def open(self, application: str, path: str) -> "LocalFile":
        return LocalFile(self._locate(application, path))

    def url(self, application: str, path: str) -> str | None:  # noqa: ARG002 - a folder has no address
        return None

    def _locate(self, application: str, path: str) -> Path:
        if not (NAME.fullmatch(application) and safe_path(path)):
            raise FileNotFoundError(f"{application}/{path}")
        return self.root / application / path


class LocalFile:
    """An open file. Reads carry their own offset, so no position is shared."""

    CHUNK_BYTES = 256 * 1024

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(str(path))
        self._file = path.open("rb", buffering=0)
        self.size = path.stat().st_size
        self.path: str | None = str(path)

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        self._file.seek(start)
        while start < end:
            chunk = self._file.read(min(self.CHUNK_BYTES, end - start))
            if not chunk:
                raise OSError(f"{self.path}: expected {end} bytes, got {start}")
            start += len(chunk)
            yield chunk

    def close(self) -> None:
        self._file.close()


def safe_path(path: str) -> bool:
    """True for a relative path of plain names: no empty, hidden or parent segment can leave the tree."""
    return (
        len(path) <= 1024  # noqa: PLR2004
        and path.count("/") < _SEGMENTS_MOST
        and PATH.fullmatch(path) is not None
    )
