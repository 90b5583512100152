"""What the blob store and the signed tree ask of a storage."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable


@runtime_checkable
class BlobStorage(Protocol):
    """Write-once storage. Keys are relative paths with slashes; a write is whole or did not happen."""

    def write_new(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write `key` whole or not at all. Raises `FileExistsError` when it is there already."""

    def replace(self, key: str, content: bytes) -> None:
        """Make `key` hold `content`; a reader sees the old bytes or the new ones."""

    def link(self, source_key: str, key: str) -> None:
        """Give the bytes of `source_key` a second name. An existing `key` is left as it is."""

    def chunks(self, key: str) -> Iterator[bytes]:
        """The bytes in pieces of at most one MiB. Raises `FileNotFoundError`, at the latest at the first piece."""

    def open_blob(self, key: str) -> BinaryIO:
        """A stream to read from, perhaps only forwards. Raises `FileNotFoundError`."""

    def local_file(self, key: str) -> AbstractContextManager[Path]:
        """A file of this machine with the bytes, for reading, until the end of the context. `FileNotFoundError`."""

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """Nothing happens when there is nothing."""

    def listdir(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of folders and of files. Empty or `FileNotFoundError` when there is nothing."""

    def remove_leftovers(self, before: datetime) -> int:
        """Remove what killed writers left half done before then. Returns how many there were."""
