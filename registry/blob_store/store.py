"""Bytes by their SHA-256, wherever they lie."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from django.core.files.storage import storages

from registry import errors
from registry.blob_store.keys import blob_key, new_staging_key
from registry.blob_store.storage import BlobStorage
from registry.digests import read_chunks, sha256_of_chunks

LEFTOVER_AGE = timedelta(days=1)  # no upload takes so long


@dataclass(frozen=True)
class StagedBlob:
    """Bytes that arrived whole and were hashed, but are not kept yet."""

    key: str
    sha256: str
    size_bytes: int


class BlobStore:
    """Bytes by their SHA-256. Writing the same bytes twice keeps one copy."""

    def __init__(self, storage: BlobStorage) -> None:
        self.storage = storage

    def stage(self, chunks: Iterable[bytes], *, max_bytes: int, expected_sha256: str | None = None) -> StagedBlob:
        """Stream `chunks` to a staging key, hashing on the way; a few MiB are in memory at most.

        Raises `UploadTooLarge`, `UploadEmpty` or `UploadDigestMismatch`; then nothing is left behind.
        """
        key = new_staging_key()
        try:
            self.storage.write_new(key, _bounded(chunks, max_bytes))
            # Hashed from what was stored, not from what came: a full disk or a bad one shows here.
            sha256, size_bytes = sha256_of_chunks(self.storage.chunks(key))
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

    @contextmanager
    def local_file(self, sha256: str) -> Iterator[Path]:
        """The blob as a file of this machine to read from, until the context ends. Raises `BlobMissing`."""
        with ExitStack() as held:
            with _missing(sha256):
                path = held.enter_context(self.storage.local_file(blob_key(sha256)))
            yield path

    def open(self, sha256: str) -> BinaryIO:
        """A stream to read once. Raises `BlobMissing`."""
        with _missing(sha256):
            return self.storage.open_blob(blob_key(sha256))

    def copy_to(self, sha256: str, destination: Path, *, on_chunk: Callable[[], None] = lambda: None) -> None:
        """Write a private copy of the blob to `destination`, whose folders are made. Raises `BlobMissing`."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _missing(sha256), destination.open("wb") as target:
            target.writelines(_counted(self.storage.chunks(blob_key(sha256)), on_chunk))
        # Its folder keeps others out; the worker it is given to may be another user, whatever our umask says.
        destination.chmod(0o644)

    def remove_leftovers(self, *, now: datetime) -> int:
        """Remove what writers that were killed left half done, once it is a day old. Returns how many files."""
        return self.storage.remove_leftovers(now - LEFTOVER_AGE)


@contextmanager
def _missing(sha256: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise errors.BlobMissing(f"expected blob {sha256} in the store, found nothing there") from error


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
    assert isinstance(storage, BlobStorage)
    return BlobStore(storage)
