"""Opening a zip of unknown origin: what its directory promises is checked before a member is read."""

import io
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from registry.inspection.errors import InspectionError

MAX_MEMBERS = 10_000
MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_RATIO = 200
MAX_DIRECTORY_BYTES = 4 * 1024**2  # 10 000 members with names of 400 bytes
# bzip2 and LZMA are let out: the standard library unpacks their blocks whole, 700 kB of zeros from one byte.
KNOWN_COMPRESSION = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
RATIO_FREE_BYTES = 1024**2
NATIVE_SUFFIXES = frozenset({".so", ".dex", ".jar", ".apk", ".aar", ".dylib", ".dll", ".exe"})
MAGIC_BYTES = 1024
NATIVE_MAGICS = (
    b"\x7fELF",
    b"dex\n0",
    b"\xfe\xed\xfa\xce",  # Mach-O, in both byte orders and widths
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",  # Mach-O for several processors, and Java classes
)
ARCHIVE_MAGICS = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x1f\x8b\x08",  # gzip
    b"BZh91AY&SY",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x28\xb5\x2f\xfd",  # zstd
)
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
PE_OFFSET_AT = 0x3C
LOCAL_HEADER_BYTES = 30
MAX_FOLDERS = 4  # above the file that marks a package
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


class BoundedDirectory(io.FileIO):
    """A file of which nothing long is read before its directory has been looked at.

    The standard library reads a directory of any length at once and makes an object of each entry, before it tells
    how many there are: a gigabyte of entries would take twenty of memory.
    """

    is_bounded = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self.is_bounded:
            rest = os.fstat(self.fileno()).st_size - self.tell()
            wanted = rest if size is None or size < 0 else size
            if wanted > MAX_DIRECTORY_BYTES:
                expected = f"a directory of at most {MAX_DIRECTORY_BYTES} bytes"
                raise InspectionError("directory_size", expected, f"{wanted}")
        return super().read(-1 if size is None else size) or b""


@contextmanager
def opened(path: Path, what: str, code: str = "not_zip") -> Iterator[zipfile.ZipFile]:
    """A zip whose members have safe names, are no links and unpack to a bounded size. Raises InspectionError."""
    try:
        with BoundedDirectory(path) as stream, zipfile.ZipFile(stream) as archive:
            stream.is_bounded = False
            _require_safe(archive.infolist(), path.stat().st_size)
            _require_apart(archive)
            _require_harmless(archive)
            yield archive
    except InspectionError:
        raise
    except DAMAGE as error:
        raise InspectionError(code, f"{what}, a zip archive", str(error)) from error


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


def _require_apart(archive: zipfile.ZipFile) -> None:
    """Members one after the other, from the first byte on: nothing hides before, and no bytes serve two members."""
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < end or (end == 0 and member.header_offset):
            raise InspectionError("overlapping_members", "members one after the other", repr(member.filename)[:200])
        end = member.header_offset + LOCAL_HEADER_BYTES + member.compress_size
    if end > archive.start_dir:
        raise InspectionError("overlapping_members", "members before the archive's directory", "members inside it")


def _require_harmless(archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        with archive.open(member) as stream:
            require_data(member.filename, stream.read(MAGIC_BYTES))


def require_data(name: str, start: bytes) -> None:
    """Raises InspectionError for a file that is a program or an archive, by its name or its first bytes."""
    if NATIVE_SUFFIXES & set(PurePosixPath(name.lower()).suffixes) or is_native(start):
        raise InspectionError("native_code", "data only, no programs or libraries", repr(name)[:200])
    if start.startswith(ARCHIVE_MAGICS) or start[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
        raise InspectionError("nested_archive", "files as they are, no archives in one another", repr(name)[:200])


def is_native(start: bytes) -> bool:
    """Whether a file's first MAGIC_BYTES are those of a program or library of some system."""
    if start.startswith(NATIVE_MAGICS):
        return True
    # Two letters alone may begin any array of weights.
    if not start.startswith(b"MZ") or len(start) < PE_OFFSET_AT + 4:
        return False
    (offset,) = struct.unpack_from("<I", start, PE_OFFSET_AT)
    return start[offset : offset + 4] == b"PE\0\0"


def _require_safe_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or not name.isprintable():
        raise InspectionError("unsafe_path", "member names below the archive's own folder", repr(name))
    mode = member.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        raise InspectionError("unsafe_member", "plain files and folders", f"{name!r} with mode {mode:o}")
    if member.compress_type not in KNOWN_COMPRESSION:
        raise InspectionError("compression", "members stored or deflated", f"{name!r} by method {member.compress_type}")
    if member.flag_bits & ENCRYPTED:
        raise InspectionError("encrypted", "members without encryption", repr(name))


def root_of(
    members: Sequence[zipfile.ZipInfo], marker: str, belongs: Callable[[tuple[str, ...]], bool], *, otherwise: str
) -> tuple[PurePosixPath, list[str]]:
    """The folder of the one file named `marker`, and the files that do not belong to it.

    `belongs` is asked about the parts of each path below that folder. Raises InspectionError with the code `otherwise`
    where there is not exactly one `marker`, or where it lies deeper than MAX_FOLDERS.
    """
    files = [PurePosixPath(member.filename) for member in members if not member.is_dir()]
    marked = [file for file in files if file.name == marker]
    if len(marked) != 1 or len(marked[0].parts) > MAX_FOLDERS:
        raise InspectionError(otherwise, f"one {marker} in the archive", f"{len(marked)}")
    root = marked[0].parent
    below = {file: file.relative_to(root).parts for file in files if file.is_relative_to(root)}
    return root, [str(file) for file in files if not (below.get(file) and belongs(below[file]))]


def read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """The bytes of one member. Raises InspectionError when it promises more than `max_bytes` or keeps no promise."""
    member = archive.getinfo(name)
    if member.file_size > max_bytes:
        raise InspectionError("too_large", f"at most {max_bytes} bytes in {name!r}", f"{member.file_size}")
    with archive.open(member) as stream:
        # Asked for a number of bytes, it inflates no more than that; asked for all, up to 2 GiB before it compares.
        data = stream.read(max_bytes + 1)
    if len(data) != member.file_size:
        raise InspectionError("member_size", f"{member.file_size} bytes in {name!r}, as promised", f"{len(data)}")
    return data
