"""A Core ML package (`.mlpackage`), zipped or as a folder, and the weights beside its specification.

The layout is coremltools' (`libmodelpackage`, `MILBlob/Blob/StorageFormat.hpp`): a manifest names the specification;
`weight.bin` is a row of blobs, each with 64 bytes that tell its length and where its numbers lie.
"""

import json
import os
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from registry.inspection import archive
from registry.inspection.errors import InspectionError

MANIFEST = "Manifest.json"
FORMAT_VERSION = "1.0.0"  # the only one that Apple's tools write; coremltools refuses later ones
ITEM_TEXTS = ("author", "description", "name", "path")
ITEMS_FOLDER = "Data"
MAX_MANIFEST_BYTES = 1024**2
MAX_ITEMS = 100
BLOB = struct.Struct("<IIQQ")  # sentinel, type of number, length in bytes, where the numbers start
BLOB_SENTINEL = 0xDEADBEEF
BLOB_ALIGNMENT = 64


class Package(ABC):
    """The files of a package. Paths are below the folder of its manifest, with `/` between their parts."""

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Path -> bytes, of every file."""

    @abstractmethod
    def open(self, path: str) -> IO[bytes]: ...

    def read(self, path: str, max_bytes: int) -> bytes:
        size = self.sizes()[path]
        if size > max_bytes:
            raise InspectionError("too_large", f"at most {max_bytes} bytes in {path!r}", f"{size}")
        with self.open(path) as stream:
            data = stream.read(size + 1)
        if len(data) != size:
            raise InspectionError("member_size", f"{size} bytes in {path!r}, as promised", f"{len(data)}")
        return data


class ZippedPackage(Package):
    def __init__(self, opened: zipfile.ZipFile) -> None:
        self.opened = opened
        self.root = package_root(opened.infolist())
        files = (member for member in opened.infolist() if not member.is_dir())
        self.found = {str(PurePosixPath(f.filename).relative_to(self.root)): f.file_size for f in files}

    def sizes(self) -> dict[str, int]:
        return self.found

    def open(self, path: str) -> IO[bytes]:
        return self.opened.open(str(self.root / path))


class PackageFolder(Package):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found = {str(path.relative_to(folder)): path.stat().st_size for path in _plain_files(folder)}
        if MANIFEST not in self.found:
            raise InspectionError("not_coreml", f"a {MANIFEST} in the package", "none")

    def sizes(self) -> dict[str, int]:
        return self.found

    def open(self, path: str) -> IO[bytes]:
        return (self.folder / path).open("rb")


def _plain_files(folder: Path) -> Iterator[Path]:
    for count, path in enumerate(sorted(folder.rglob("*"))):
        if count >= archive.MAX_MEMBERS:
            raise InspectionError("member_count", f"1 to {archive.MAX_MEMBERS} members", "more")
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise InspectionError("unsafe_member", "plain files and folders", repr(path.name))
        if path.is_file():
            with path.open("rb") as stream:
                archive.require_data(str(path.relative_to(folder)), stream.read(archive.MAGIC_BYTES))
            yield path


def package_root(members: Sequence[zipfile.ZipInfo]) -> PurePosixPath:
    """The folder of the one manifest; every other member must lie below it. Raises InspectionError."""
    root, strangers = archive.root_of(members, MANIFEST, _belongs, otherwise="not_coreml")
    if strangers:
        raise InspectionError("coreml_members", "only the files of a Core ML package", ", ".join(strangers[:5]))
    return root


def _belongs(inner: tuple[str, ...]) -> bool:
    return inner[0] in {MANIFEST, ITEMS_FOLDER}


@contextmanager
def opened_package(path: Path) -> Iterator[Package]:
    """`path` is a zip or a folder. Raises InspectionError."""
    if path.is_dir():
        try:
            yield PackageFolder(path)
        except OSError as error:
            raise InspectionError("not_coreml", "a readable package folder", str(error)) from error
        return
    with archive.opened(path, "a .mlpackage") as opened:
        yield ZippedPackage(opened)


def specification_path(package: Package) -> str:
    """Where the manifest says the model is."""
    manifest = _manifest(package)
    items, root = manifest.get("itemInfoEntries"), manifest.get("rootModelIdentifier")
    if not isinstance(items, dict) or not isinstance(root, str) or len(items) > MAX_ITEMS:
        raise InspectionError("coreml_manifest", f"at most {MAX_ITEMS} items and a root model in {MANIFEST}", "none")
    paths = [_item_path(item, package) for item in items.values()]
    item = items.get(root)
    if not isinstance(item, dict):
        raise InspectionError("coreml_manifest", "the root model among the items", repr(root)[:100])
    path = _item_path(item, package)
    if path not in package.sizes():
        raise InspectionError("coreml_manifest", "a file as the root model", repr(path))
    strangers = [file for file in package.sizes() if file != MANIFEST and not _is_listed(file, paths)]
    if strangers:
        raise InspectionError("coreml_members", "only files that the manifest lists", ", ".join(sorted(strangers)[:5]))
    return path


def _manifest(package: Package) -> dict[str, Any]:
    try:
        manifest = json.loads(package.read(MANIFEST, MAX_MANIFEST_BYTES))
    except InspectionError:
        raise
    except (ValueError, RecursionError) as error:
        raise InspectionError("coreml_manifest", f"JSON in {MANIFEST}", str(error)[:200]) from error
    if not isinstance(manifest, dict):
        raise InspectionError("coreml_manifest", f"a JSON object in {MANIFEST}", type(manifest).__name__)
    version = manifest.get("fileFormatVersion")
    if version != FORMAT_VERSION:
        raise InspectionError("coreml_manifest", f"fileFormatVersion {FORMAT_VERSION}", repr(version)[:100])
    return manifest


def _item_path(item: Any, package: Package) -> str:
    """A file, or a folder that has files, below the package's data."""
    texts = [item.get(name) if isinstance(item, dict) else None for name in ITEM_TEXTS]
    if not all(isinstance(text, str) for text in texts):
        raise InspectionError("coreml_manifest", f"items with {', '.join(ITEM_TEXTS)} as text", repr(item)[:100])
    path = str(item["path"])
    if ".." in PurePosixPath(path).parts or path.startswith("/") or "\0" in path:
        raise InspectionError("coreml_manifest", "items with a path below the package's data", repr(path)[:100])
    full = str(PurePosixPath(ITEMS_FOLDER) / path)
    if not any(_is_listed(file, [full]) for file in package.sizes()):
        raise InspectionError("coreml_manifest", "items that are there", repr(path)[:100])
    return full


def _is_listed(file: str, items: Sequence[str]) -> bool:
    return any(file == item or file.startswith(item + "/") for item in items)


@dataclass(frozen=True)
class BlobReference:
    """Where a value lies: `file` below the package, `offset` of its 64 bytes of description, `bits` it needs."""

    file: str
    offset: int
    bits: int


def require_blobs(package: Package, references: Sequence[BlobReference]) -> dict[str, int]:
    """Weight file -> bytes. Raises InspectionError for a value that does not lie within its file."""
    for file in sorted({reference.file for reference in references}):
        if file not in package.sizes():
            raise InspectionError("coreml_weights", "weight files that are there", repr(file)[:200])
        needed: dict[int, int] = {}
        for reference in references:
            if reference.file == file:
                needed[reference.offset] = max(reference.bits, needed.get(reference.offset, 0))
        size = package.sizes()[file]
        with package.open(file) as stream:
            # In ascending order: a deflated member is read forwards only.
            for offset, bits in sorted(needed.items()):
                _require_blob(stream, size, offset, (bits + 7) // 8)
    return {file: package.sizes()[file] for file in sorted({reference.file for reference in references})}


def _require_blob(stream: IO[bytes], size: int, offset: int, needed_bytes: int) -> None:
    if offset % BLOB_ALIGNMENT or not 0 < offset <= size - BLOB_ALIGNMENT:
        raise InspectionError("coreml_weights", f"a blob within {size} bytes, aligned to 64", f"offset {offset}")
    stream.seek(offset, os.SEEK_SET)
    described = stream.read(BLOB.size)
    if len(described) != BLOB.size:
        raise InspectionError("coreml_weights", f"a blob at {offset}", "a file that ends before it")
    sentinel, _, length, start = BLOB.unpack(described)
    if sentinel != BLOB_SENTINEL:
        raise InspectionError("coreml_weights", f"a blob at {offset}", f"other bytes, {sentinel:#x}")
    if start > size or length > size - start:
        raise InspectionError("coreml_weights", f"numbers within {size} bytes", f"{length} bytes at {start}")
    if length != needed_bytes:
        raise InspectionError("coreml_weights", f"{needed_bytes} bytes in the blob at {offset}", f"{length}")
