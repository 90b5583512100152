"""Opening a zip of unknown origin: what its directory promises is checked before a member is read."""

import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from registry.inspection.errors import InspectionError

MAX_MEMBERS = 10_000
MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_RATIO = 200
RATIO_FREE_BYTES = 1024**2
ENCRYPTED = 0x1
# What the standard library lets out, by what is damaged: the directory, a name, a length, the compressed data.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    OSError,
)


@contextmanager
def opened(path: Path, what: str) -> Iterator[zipfile.ZipFile]:
    """A zip whose members have safe names, are no links and unpack to a bounded size. Raises InspectionError."""
    try:
        with zipfile.ZipFile(path) as archive:
            _require_safe(archive.infolist(), path.stat().st_size)
            yield archive
    except InspectionError:
        raise
    except DAMAGE as error:
        raise InspectionError("not_zip", f"{what}, a zip archive", str(error)) from error


def _require_safe(members: Sequence[zipfile.ZipInfo], archive_bytes: int) -> None:
    if not 1 <= len(members) <= MAX_MEMBERS:
        raise InspectionError("member_count", f"1 to {MAX_MEMBERS} members", f"{len(members)}")
    for member in members:
        _require_safe_member(member)
    folded = {member.filename.casefold() for member in members}
    if len(folded) != len(members):
        raise InspectionError("duplicate_member", "members that differ in more than upper and lower case", "duplicates")
    total = sum(member.file_size for member in members)
    if total > min(MAX_UNPACKED_BYTES, RATIO_FREE_BYTES + MAX_RATIO * archive_bytes):
        raise InspectionError(
            "too_large", f"at most {MAX_UNPACKED_BYTES} bytes and {MAX_RATIO} times the archive unpacked", f"{total}"
        )


def _require_safe_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not name.isprintable():
        raise InspectionError("unsafe_path", "member names below the archive's own folder", repr(name))
    mode = member.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        raise InspectionError("unsafe_member", "plain files and folders", f"{name!r} with mode {mode:o}")
    if member.flag_bits & ENCRYPTED:
        raise InspectionError("encrypted", "members without encryption", repr(name))


def read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """The bytes of one member. Raises InspectionError when it promises more than `max_bytes`."""
    member = archive.getinfo(name)
    if member.file_size > max_bytes:
        raise InspectionError("too_large", f"at most {max_bytes} bytes in {name!r}", f"{member.file_size}")
    return archive.read(member)
