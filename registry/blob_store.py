"""Content-addressed, write-once bytes, over Django's storage interface.

Layout below the storage root:
    staging/<uuid>                      an upload on its way; removed when it is kept or refused
    sha256/<first two>/<digest>         private: sources, evaluation sets, traces, variants
    tree/<application>/…                public: the signed tree, the only thing the device plane reads

Nothing here is ever overwritten but `timestamp.json`, the tree's one pointer, and that by an atomic rename.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from django.core.files.storage import FileSystemStorage, storages

from registry import errors
from registry.digests import read_chunks, sha256_of_chunks

PARTIAL = ".partial"
LEFTOVER_AGE = timedelta(days=1)  # no upload takes so long


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


@dataclass(frozen=True)
class StagedBlob:
    """Bytes that arrived whole and were hashed, but are not kept yet."""

    key: str
    sha256: str
    size_bytes: int


def blob_key(sha256: str) -> str:
    return f"sha256/{sha256[:2]}/{sha256}"


class BlobStore:
    """Bytes by their SHA-256. Writing the same bytes twice keeps one copy."""

    def __init__(self, storage: LocalBlobStorage) -> None:
        self.storage = storage

    def stage(self, chunks: Iterable[bytes], *, max_bytes: int, expected_sha256: str | None = None) -> StagedBlob:
        """Stream `chunks` to a staging key, hashing on the way; at most one chunk is in memory.

        Raises `UploadTooLarge`, `UploadEmpty` or `UploadDigestMismatch`; then nothing is left behind.
        """
        key = f"staging/{uuid.uuid4().hex}"
        try:
            self.storage.write_new(key, _bounded(chunks, max_bytes))
            # Hashed from what was stored, not from what came: a full disk or a bad one shows here.
            sha256, size_bytes = sha256_of_chunks(read_chunks(Path(self.storage.path(key))))
            _require_arrived(sha256, size_bytes, expected_sha256)
        except BaseException:
            self.storage.delete(key)
            raise
        return StagedBlob(key, sha256, size_bytes)

    def keep(self, staged: StagedBlob) -> None:
        """Move staged bytes to their content key; the same bytes already there are as good."""
        self.storage.link(staged.key, blob_key(staged.sha256))
        self.discard(staged)

    def discard(self, staged: StagedBlob) -> None:
        self.storage.delete(staged.key)

    def put_file(self, path: Path, *, on_chunk: Callable[[], None] = lambda: None) -> StagedBlob:
        """Stage and keep one local file, calling `on_chunk` on the way. Returns its digest and size."""
        staged = self.stage(_counted(read_chunks(path), on_chunk), max_bytes=path.stat().st_size)
        self.keep(staged)
        return staged

    def exists(self, sha256: str) -> bool:
        return self.storage.exists(blob_key(sha256))

    def path(self, sha256: str) -> Path:
        """The blob as a file to read from. Raises `BlobMissing`."""
        path = Path(self.storage.path(blob_key(sha256)))
        if not path.exists():
            raise errors.BlobMissing(f"expected blob {sha256} in the store, found nothing there")
        return path

    def open(self, sha256: str) -> BinaryIO:
        """Raises `BlobMissing`."""
        return self.path(sha256).open("rb")

    def copy_to(self, sha256: str, destination: Path, *, on_chunk: Callable[[], None] = lambda: None) -> None:
        """Write a private copy of the blob to `destination`, whose folders are made. Raises `BlobMissing`."""
        source = self.path(sha256)
        destination.parent.mkdir(parents=True, exist_ok=True)
        with destination.open("wb") as target:
            target.writelines(_counted(read_chunks(source), on_chunk))
        # Its folder keeps others out; the worker it is given to may be another user, whatever our umask says.
        destination.chmod(0o644)

    def remove_leftovers(self, *, now: datetime) -> int:
        """Remove what writers that were killed left half done, once it is a day old. Returns how many files."""
        root = Path(self.storage.path(""))
        removed = 0
        for path in chain(root.glob("staging/*"), root.rglob(f".*{PARTIAL}")):
            with suppress(FileNotFoundError):
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < now - LEFTOVER_AGE:
                    path.unlink()
                    removed += 1
        return removed


def _counted(chunks: Iterable[bytes], on_chunk: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        on_chunk()
        yield chunk


def _bounded(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    seen_bytes = 0
    for chunk in chunks:
        seen_bytes += len(chunk)
        if seen_bytes > max_bytes:
            raise errors.UploadTooLarge(f"expected at most {max_bytes} bytes, got more")
        yield chunk


def _require_arrived(sha256: str, size_bytes: int, expected_sha256: str | None) -> None:
    if size_bytes == 0:
        raise errors.UploadEmpty("expected a file with content, got 0 bytes")
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise errors.UploadDigestMismatch(f"expected sha256 {expected_sha256}, got {sha256}")


def blob_store() -> BlobStore:
    """The store that the settings name."""
    storage = storages["blobs"]
    assert isinstance(storage, LocalBlobStorage)
    return BlobStore(storage)
