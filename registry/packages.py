"""Package directories (`.mlpackage`) as a whole: one digest of their content, one zip of their files. Pure.

The manifest of a Core ML package names its items by identifiers that coremltools draws at random at every save. They
say nothing, so the digest leaves them out; every other byte of the package counts.
"""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from registry.digests import sha256_of_chunks, tree_digest
from registry.inspection.coreml_package import MANIFEST, MAX_MANIFEST_BYTES

__all__ = ["MANIFEST", "MAX_MANIFEST_BYTES", "named_by_content", "package_digest", "write_zip"]

ITEMS, ROOT = "itemInfoEntries", "rootModelIdentifier"
ARCHIVE_SUFFIX = ".zip"
# What an archive says of itself; `zipfile` would write the clock, the umask and the system it runs on.
EPOCH = (1980, 1, 1, 0, 0, 0)
UNIX, PLAIN_FILE = 3, 0o100644

Open = Callable[[], IO[bytes]]


def package_digest(files: Mapping[str, str], manifest: bytes) -> str:
    """The tree digest of a package: of `files` (path below the package -> hex SHA-256), `manifest` by its content.

    `manifest` holds the bytes of MANIFEST. Two saves of one model have the same digest.
    """
    told, _ = sha256_of_chunks([named_by_content(manifest)])
    return tree_digest({**files, MANIFEST: told})


def named_by_content(manifest: bytes) -> bytes:
    """A package's manifest as canonical JSON in which items stand in order of their content instead of having names.

    A manifest of another form comes back as it is, so that all of its bytes count.

    >>> named_by_content(b'{"itemInfoEntries": {"5F2C": {"path": "a"}}, "rootModelIdentifier": "5F2C"}')
    b'{"itemInfoEntries":[{"path":"a"}],"rootModelIdentifier":[0]}'
    """
    try:
        document = json.loads(manifest, object_pairs_hook=_without_repetition)
        items, root = document[ITEMS], document[ROOT]
        ordered = sorted(_canonical(item) for item in items.values())
        document[ITEMS] = list(map(json.loads, ordered))
        document[ROOT] = [ordered.index(_canonical(items[root]))]
        return _canonical(document).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return manifest


def write_zip(target: Path, members: Iterable[tuple[str, int, Open]]) -> None:
    """Write `target`, a zip of (path, length in bytes, how to open it), the same bytes for the same files everywhere.

    Members stand in order of their paths, stored and not deflated, since what deflate writes depends on its library;
    dated 1980-01-01, with mode 0644, without folders or comments. `path` is ASCII with `/` between its parts.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path, size_bytes, open_member in sorted(members, key=lambda member: member[0]):
            about = zipfile.ZipInfo(path, EPOCH)
            about.create_system, about.external_attr = UNIX, PLAIN_FILE << 16
            about.file_size = size_bytes
            with open_member() as source, archive.open(about, "w") as entry:
                shutil.copyfileobj(source, entry)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that stands twice, another parser might take the other value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("expected each member once")
    return found
