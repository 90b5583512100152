"""SHA-256 over streams, files and package directories. Pure: no Django, no storage."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CHUNK_BYTES = 1 << 20
SHA256_HEX_LENGTH = 64


def is_sha256_hex(text: str) -> bool:
    """True for exactly 64 lower-case hexadecimal digits."""
    return len(text) == SHA256_HEX_LENGTH and all(character in "0123456789abcdef" for character in text)


def read_chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes in pieces of at most one MiB."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def sha256_of_chunks(chunks: Iterable[bytes]) -> tuple[str, int]:
    """(hex digest, length in bytes) of the pieces taken together."""
    digest = hashlib.sha256()
    size_bytes = 0
    for chunk in chunks:
        digest.update(chunk)
        size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def sha256_of_file(path: Path) -> tuple[str, int]:
    """(hex digest, length in bytes) of one file, read in pieces."""
    return sha256_of_chunks(read_chunks(path))


def tree_digest(files: Mapping[str, str]) -> str:
    """One digest for a set of files: SHA-256 over sorted lines in the format of `sha256sum`.

    `files` maps a relative path to its hex digest. Independent of order, modes and times, so that an `.mlpackage`
    keeps its identity wherever it is unpacked.
    """
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
