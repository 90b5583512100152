"""A new file out of the active one and a patch, where the server lists one (protocol, section 6)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Self

from aerogram_sdk.errors import AerogramError, PatchFailed
from aerogram_sdk.fetcher import DevicePlane
from aerogram_sdk.manifest import ManifestFile
from aerogram_sdk.trust import TrustedTree
from aerogram_sdk.weightdiff import PatchError, apply_patch

ALGORITHM = "weightdiff-1"


@dataclass(frozen=True, slots=True)
class ListedPatch:
    base: str
    length: int
    sha256: str

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        base, length, sha256 = document["from"], document["length"], document["sha256"]
        if not (isinstance(base, str) and isinstance(length, int) and length > 0 and _is_digest(sha256)):
            raise ValueError(f"expected digests and a length, got {document!r}"[:200])
        return cls(base, length, sha256)


class PatchSource:
    """Lists and patches of one server, as one refreshed tree trusts them."""

    def __init__(self, plane: DevicePlane, tree: TrustedTree) -> None:
        self._plane, self._tree = plane, tree

    def make(self, file: ManifestFile, bases: Mapping[str, Path], result: Path) -> bool:
        """Write the whole file to `result` if a patch of one of `bases` leads to it. False when none is listed.

        Raises PatchFailed, whatever went wrong; nothing is left behind then, and the file can be fetched whole.
        """
        partial = result.with_name(f"{file.sha256}.patched")
        try:
            patch = self._listed(file, bases)
            if patch is None:
                return False
            self._apply(patch, bases[patch.base], file, partial)
            partial.rename(result)
        except (AerogramError, PatchError, OSError, ValueError, KeyError, TypeError) as error:
            raise PatchFailed(f"patch: expected it to make {file.path}, got: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _listed(self, file: ManifestFile, bases: Mapping[str, Path]) -> ListedPatch | None:
        """The smallest patch of a base that is here."""
        content = self._plane.patch_list(file.sha256)
        if content is None:
            return None
        listed = self._tree.verify_patches(json.loads(content), file.sha256)
        usable = [ListedPatch.from_json(each) for each in listed if each.get("algorithm") == ALGORITHM]
        fitting = [each for each in usable if each.base in bases and each.length < file.length]
        return min(fitting, key=lambda each: each.length, default=None)

    def _apply(self, patch: ListedPatch, base: Path, file: ManifestFile, partial: Path) -> None:
        path = partial.with_name(f"{patch.sha256}.part")
        self._plane.download(patch.sha256, patch.length, path)
        try:
            with path.open("rb") as changes, base.open("rb") as old, partial.open("wb") as made:
                if file_digest(changes, "sha256").hexdigest() != patch.sha256:
                    raise ValueError(f"expected a patch of SHA-256 {patch.sha256}, got another")
                changes.seek(0)
                apply_patch(changes, old, made, sha256=file.sha256, length=file.length)
        finally:
            for leftover in path.parent.glob(f"{patch.sha256}*"):
                leftover.unlink(missing_ok=True)


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")  # noqa: PLR2004
