"""The store in a folder of this machine, or a volume that all machines mount."""

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from django.core.files.storage import FileSystemStorage

from registry.blob_store.keys import STAGING
from registry.digests import read_chunks

PARTIAL = ".partial"


class LocalBlobStorage(FileSystemStorage):
    """Django's local storage with the three writes that Aerogram needs: new, link, replace. All survive a power cut."""

    def write_new(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write `key` whole or not at all. Raises `FileExistsError` when it is there already."""
        target = Path(self.path(key))
        temporary = self._write_temporary(target, chunks)
        try:
            os.link(temporary, target)  # link, unlike rename, refuses to overwrite
        finally:
            temporary.unlink()
        _sync_folder(target.parent)

    def replace(self, key: str, content: bytes) -> None:
        """Make `key` hold `content`; a reader sees the old bytes or the new ones."""
        target = Path(self.path(key))
        self._write_temporary(target, [content]).replace(target)
        _sync_folder(target.parent)

    def link(self, source_key: str, key: str) -> None:
        """Give the bytes of `source_key` a second name. An existing `key` is left as it is."""
        target = Path(self.path(key))
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.link(self.path(source_key), target)
        _sync_folder(target.parent)

    def chunks(self, key: str) -> Iterator[bytes]:
        return read_chunks(Path(self.path(key)))

    def open_blob(self, key: str) -> BinaryIO:
        return Path(self.path(key)).open("rb")

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        """The file itself: whoever reads it must not write."""
        path = Path(self.path(key))
        if not path.is_file():
            raise FileNotFoundError(str(path))
        yield path

    def remove_leftovers(self, before: datetime) -> int:
        root = Path(self.path(""))
        removed = 0
        for path in chain(root.glob(f"{STAGING}/*"), root.rglob(f".*{PARTIAL}")):
            with suppress(FileNotFoundError):
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                    path.unlink()
                    removed += 1
        return removed

    def _write_temporary(self, target: Path, chunks: Iterable[bytes]) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{uuid.uuid4().hex}{PARTIAL}"
        try:
            with temporary.open("xb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
                stream.flush()
                os.fsync(stream.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
