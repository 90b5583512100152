"""The catalog of a channel and its manifests as plain files, under names that are the same for every device."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from aerogram_sdk.catalog import Catalog, Reference
from aerogram_sdk.errors import CatalogMalformed, ManifestMalformed, MetadataInvalid
from aerogram_sdk.fetcher import DevicePlane, TufFetcher
from aerogram_sdk.store import write_atomically
from aerogram_sdk.trust import TrustedTree, tuf_errors_translated

MOST_MANIFEST_BYTES = 4 << 20


class CatalogSource:
    """Keeps in `folder` what it fetched, and asks again only for what changed."""

    def __init__(self, plane: DevicePlane, fetcher: TufFetcher, folder: Path, application: str, channel: str) -> None:
        self._plane, self._fetcher, self._folder = plane, fetcher, folder
        self._application, self._channel = application, channel

    def catalog(self, tree: TrustedTree) -> Catalog:
        """As the releases role signed it. Raises an Untrusted or TrustUnavailable."""
        content = tree.catalog_bytes(self._folder / f"{self._channel}.json", self._plane.targets_url)
        catalog = Catalog.from_json(_read_json(content, "catalog", CatalogMalformed))
        if (catalog.application, catalog.channel) != (self._application, self._channel):
            raise CatalogMalformed(
                f"catalog: expected that of {self._application}/{self._channel}, "
                f"got {catalog.application}/{catalog.channel}"
            )
        return catalog

    def manifest(self, model: str, reference: Reference) -> Mapping[str, Any]:
        """The envelope that the catalog names; its signatures are for the tree to verify. Raises as `catalog` does."""
        kept = self._folder / "manifests" / f"{model}.json"
        content = kept.read_bytes() if kept.is_file() else b""
        if sha256(content).hexdigest() != reference.sha256:
            content = self._fetched(reference)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, content)
        envelope: Mapping[str, Any] = _read_json(content, "manifest", ManifestMalformed)
        return envelope

    def _fetched(self, reference: Reference) -> bytes:
        if reference.length > MOST_MANIFEST_BYTES:
            raise MetadataInvalid(f"manifest: expected at most {MOST_MANIFEST_BYTES} bytes, got {reference.length}")
        with tuf_errors_translated():
            content: bytes = self._fetcher.download_bytes(self._plane.file_url(reference.path), reference.length)
        found = sha256(content).hexdigest()
        if found != reference.sha256:
            raise MetadataInvalid(f"{reference.path}: expected sha256 {reference.sha256}, got {found}")
        return content


def _read_json(content: bytes, at: str, error: type[CatalogMalformed | ManifestMalformed]) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise error(f"{at}: expected JSON in UTF-8, got {cause}") from cause
