"""The application's trust tree, by the stock TUF client, and what it says about manifests and files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from securesystemslib.exceptions import StorageError
from securesystemslib.signer import Signature
from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.ngclient.updater import Updater

from aerogram_sdk.errors import (
    FileNotAsPublished,
    FileNotPublished,
    FileOfAnotherRelease,
    ManifestExpired,
    ManifestMalformed,
    ManifestNotCurrent,
    ManifestReplayed,
    ManifestUnsigned,
    ManifestWrongApplication,
    ManifestWrongChannel,
    ManifestWrongModel,
    MetadataExpired,
    MetadataInvalid,
    MetadataRolledBack,
    MetadataUnsigned,
    ReleaseWithdrawn,
    TrustUnavailable,
)
from aerogram_sdk.fetcher import DevicePlane, TufFetcher
from aerogram_sdk.manifest import Manifest, ManifestFile, canonical_bytes

MOST_SIGNATURES = 32


class Trust:
    """Refreshes the tree into `folder`. One process at a time may do so: call it under the store's install lock."""

    def __init__(self, plane: DevicePlane, fetcher: TufFetcher, folder: Path, root: bytes) -> None:
        self._plane, self._fetcher, self._folder, self._root = plane, fetcher, folder, root

    def refresh(self, channel: str, now: datetime) -> "TrustedTree":
        """N+1 roots, timestamp, snapshot, targets, releases-<channel>. Raises an Untrusted or TrustUnavailable.

        `now` is checked besides the TUF client's own clock: it never runs backwards, the device's clock may.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with tuf_errors_translated():
            updater = Updater(str(self._folder), self._plane.trust_url, fetcher=self._fetcher, bootstrap=self._root)
            updater.refresh()
            tree = TrustedTree(updater, self._folder, channel)
            tree.refuse_expired(now)
        return tree


class TrustedTree:
    """One refreshed, consistent state of the tree."""

    def __init__(self, updater: Updater, folder: Path, channel: str) -> None:
        self._updater, self._folder, self._channel = updater, folder, channel
        self._role = f"releases-{channel}"
        self._index = self._read_index()
        self._targets = self._read_targets()

    @property
    def timestamp_version(self) -> int:
        return int(self._read("timestamp").signed.version)

    @property
    def scope(self) -> str:
        """The channel and the ids of its keys: versions seen under a key that was replaced bind nobody any more."""
        delegated = self._targets.get_delegated_role(self._role)
        return f"{self._channel} {' '.join(sorted(delegated.keyids))}"

    def refuse_expired(self, now: datetime) -> None:
        for role in ("root", "timestamp", "snapshot", "targets", self._role):
            self._refuse_expired_role(role, now)

    def _refuse_expired_role(self, role: str, now: datetime) -> None:
        signed = self._read(role).signed
        if signed.is_expired(now):
            raise MetadataExpired(
                f"{role}: expected to be valid at {now:%Y-%m-%dT%H:%M:%SZ}, got expiry {signed.expires}"
            )

    def verify_manifest(self, envelope: Any) -> Manifest:
        """Check keys and threshold of releases-<channel>, then parse. Raises ManifestUnsigned or ManifestMalformed."""
        signed, signatures = _open_envelope(envelope)
        try:
            self._targets.verify_delegate(self._role, canonical_bytes(signed), signatures)
        except (tuf_errors.UnsignedMetadataError, ValueError) as error:
            raise ManifestUnsigned(f"manifest: expected the signature of {self._role}, got: {error}") from error
        return Manifest.from_signed(signed)

    def verify_patches(self, envelope: Any, target: str) -> list[Mapping[str, Any]]:
        """The patches that lead to `target`, signed with the snapshot key. Raises an Untrusted or ValueError."""
        signed, signatures = _open_envelope(envelope)
        root = self._read("root").signed
        assert isinstance(root, Root)
        with tuf_errors_translated():
            root.verify_delegate("snapshot", canonical_bytes(signed), signatures)
        if signed.get("_type") != "aerogram-patches" or signed.get("target") != target:
            raise ValueError(f"expected the patches of {target}, got {str(signed)[:200]}")
        return [each for each in signed["patches"] if isinstance(each, dict)]

    def catalog_bytes(self, kept: Path, targets_url: str) -> bytes:
        """The channel's catalog: what is kept, if that is the one that is signed now; fetched otherwise."""
        with tuf_errors_translated():
            target = self._updater.get_targetinfo(f"catalogs/{self._channel}.json")
            if target is None:
                raise MetadataInvalid(f"{self._role}: expected its catalog among its targets, got none")
            if self._updater.find_cached_target(target, str(kept)) is None:
                self._updater.download_target(target, str(kept), targets_url)
        return kept.read_bytes()

    def refuse_not_current(self, manifest: Manifest) -> None:
        current = self._index.get(manifest.model)
        if current is None or manifest.version < current:
            raise ManifestNotCurrent(
                f"manifest: expected version {current or 'in the release index'} or newer, got {manifest.version}"
            )

    def refuse_unpublished(self, manifest: Manifest, *, now: datetime, minimum: int) -> None:
        """Every file must be listed by the publisher just as the manifest lists it, in a release not withdrawn.

        The TUF client follows his delegation of a model. `minimum`: the release counter that the app itself asks for.
        """
        if manifest.release_counter < minimum:
            raise ReleaseWithdrawn(
                f"manifest: expected release counter {minimum} or more, as the app embeds, "
                f"got {manifest.release_counter}"
            )
        for file in manifest.files.values():
            with tuf_errors_translated():
                target = self._updater.get_targetinfo(file.target)
            if target is None:
                raise FileNotPublished(f"{file.target}: expected in the publisher's targets, got nothing")
            refuse_other_target(manifest, file, target)
        if f"models-{manifest.model}" in ((self._targets.delegations and self._targets.delegations.roles) or {}):
            self._refuse_expired_role(f"models-{manifest.model}", now)

    def _read_index(self) -> Mapping[str, int]:
        """Manifest versions by model from the channel's release index, which the releases role signs."""
        target = self._updater.get_targetinfo(f"catalogs/{self._channel}.json")
        versions = (
            None if target is None or not isinstance(target.custom, dict) else target.custom.get("manifest_versions")
        )
        if not isinstance(versions, dict) or not all(isinstance(version, int) for version in versions.values()):
            raise MetadataInvalid(f"{self._role}: expected custom.manifest_versions of its catalog, got {versions!r}")
        return versions

    def _read_targets(self) -> Targets:
        """The publisher's targets as the TUF client stored them; verified again, for they lay on disk in between."""
        root, targets = self._read("root"), self._read("targets")
        assert isinstance(root.signed, Root)
        assert isinstance(targets.signed, Targets)
        root.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)
        return targets.signed

    def _read(self, role: str) -> Metadata[Any]:
        try:
            return Metadata.from_file(str(self._folder / f"{quote(role, safe='')}.json"))
        except StorageError as error:
            raise MetadataInvalid(f"{role}: expected in the trust tree, got: {error}") from error


def refuse_unasked(manifest: Manifest, *, application: str, channel: str, model: str) -> None:
    for kind, error, expected in (
        ("application", ManifestWrongApplication, application),
        ("channel", ManifestWrongChannel, channel),
        ("model", ManifestWrongModel, model),
    ):
        got = getattr(manifest, kind)
        if got != expected:
            raise error(f"manifest: expected {kind} {expected!r}, got {got!r}")


def refuse_old(manifest: Manifest, *, now: datetime, seen_version: int) -> None:
    if manifest.expires <= now:
        raise ManifestExpired(
            f"manifest: expected to be valid at {now:%Y-%m-%dT%H:%M:%SZ}, got expiry {manifest.expires}"
        )
    if manifest.version < seen_version:
        raise ManifestReplayed(f"manifest: expected version {seen_version} or newer, got {manifest.version}")


def refuse_other_target(manifest: Manifest, file: ManifestFile, target: TargetFile) -> None:
    """Compare one file with the publisher's entry; the publisher's counters decide, the manifest only repeats them."""
    published = target.hashes.get("sha256")
    if (target.length, published) != (file.length, file.sha256):
        raise FileNotAsPublished(
            f"{file.target}: expected {target.length} bytes {published}, got {file.length} {file.sha256}"
        )
    custom = target.custom if isinstance(target.custom, dict) else {}
    names = ("model", "model_version", "variant", "release_counter")
    expected, got = [custom.get(name) for name in names], [getattr(manifest, name) for name in names]
    if expected != got:
        raise FileOfAnotherRelease(f"{file.target}: expected {dict(zip(names, expected, strict=True))}, got {got}")
    minimum = custom.get("minimum_release_counter")
    if not isinstance(minimum, int) or manifest.release_counter < minimum:
        raise ReleaseWithdrawn(
            f"{file.target}: expected release counter {minimum} or more, got {manifest.release_counter}"
        )


@contextmanager
def tuf_errors_translated() -> Iterator[None]:
    try:
        yield
    except tuf_errors.ExpiredMetadataError as error:
        raise MetadataExpired(f"trust: expected unexpired metadata, got: {error}") from error
    except tuf_errors.BadVersionNumberError as error:
        raise MetadataRolledBack(f"trust: expected no lower version, got: {error}") from error
    except tuf_errors.UnsignedMetadataError as error:
        raise MetadataUnsigned(f"trust: expected a threshold of signatures, got: {error}") from error
    except (tuf_errors.DownloadLengthMismatchError, tuf_errors.RepositoryError) as error:
        raise MetadataInvalid(f"trust: expected valid metadata, got: {error}") from error
    except tuf_errors.DownloadError as error:
        raise TrustUnavailable(f"trust: expected metadata from the server, got: {error}") from error


def _open_envelope(envelope: Any) -> tuple[dict[str, Any], dict[str, Signature]]:
    signed = envelope.get("signed") if isinstance(envelope, dict) else None
    listed = envelope.get("signatures") if isinstance(envelope, dict) else None
    if not isinstance(signed, dict) or not isinstance(listed, list) or len(listed) > MOST_SIGNATURES:
        raise ManifestMalformed("manifest: expected `signed` and `signatures`, got something else")
    try:
        signatures = {item["keyid"]: Signature(item["keyid"], item["sig"]) for item in listed}
    except (KeyError, TypeError) as error:
        raise ManifestMalformed("manifest: expected signatures with keyid and sig, got something else") from error
    return signed, signatures
