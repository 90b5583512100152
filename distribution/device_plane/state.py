"""What the device plane holds in memory of each application, loaded from the signed tree and swapped as a whole.

The chain is timestamp → snapshot → releases-{channel} → catalog → manifests. Every link is checked by hash and
length, so that a half-written or damaged tree is noticed before it is served; signatures are the phone's business.
"""

import gzip
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count

from distribution.catalog import Catalog, Reference
from distribution.device_plane.tree import TIMESTAMP, TreeReader
from registry.json_members import Members

MOST_METADATA_BYTES = 64 * 1024 * 1024
MOST_TIMESTAMP_BYTES = 64 * 1024
MOST_MANIFEST_BYTES = 1024 * 1024
_ROLE_FILE = re.compile(r"releases-(?P<channel>[a-z0-9._-]+)\.json")
_RETRY_AFTER_TICKS = 10

logger = logging.getLogger("aerogram.device_plane")
_serials = count(1)


class DamagedTreeError(Exception):
    """The tree does not hold together; whoever publishes must repair it. The last good state stays in service."""


@dataclass(frozen=True)
class ChannelState:
    """One channel of one revision. `serial` tells states apart in caches; `manifests` are files by their path."""

    catalog: Catalog
    catalog_bytes: bytes
    catalog_gzip: bytes
    catalog_sha256: str
    manifests: Mapping[str, bytes]
    serial: int = field(default_factory=lambda: next(_serials))


@dataclass(frozen=True)
class AppState:
    """One application at one revision, complete and checked: a poll is answered from one of these and no other."""

    application: str
    revision: int
    timestamp_expires: datetime
    timestamp_bytes: bytes
    channels: Mapping[str, ChannelState]


def load_app(tree: TreeReader, application: str, previous: AppState | None = None) -> AppState:
    """Follow the chain from timestamp.json. What `previous` holds under the same hash is not read again.

    Raises DamagedTreeError if anything is missing, does not match its hash, or would lower the revision.
    """
    try:
        return _Loader(tree, application, previous).load()
    except (OSError, ValueError, RecursionError) as error:
        reason = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.strerror else str(error)
        raise DamagedTreeError(f"application {application}: {reason}") from error


class _Loader:
    def __init__(self, tree: TreeReader, application: str, previous: AppState | None) -> None:
        self.tree = tree
        self.application = application
        self.previous = previous

    def load(self) -> AppState:
        timestamp_bytes = self.tree.read(self.application, TIMESTAMP, MOST_TIMESTAMP_BYTES)
        timestamp = _signed(timestamp_bytes, "timestamp")
        revision = timestamp.integer("version", least=1)
        if self.previous is not None and revision < self.previous.revision:
            raise ValueError(f"timestamp: expected version {self.previous.revision} or above, got {revision}")
        snapshot = self._metadata(timestamp.object("meta").object("snapshot.json"), "snapshot")
        return AppState(
            application=self.application,
            revision=revision,
            timestamp_expires=_time(timestamp, "expires"),
            timestamp_bytes=timestamp_bytes,
            channels=dict(self._channels(snapshot.object("meta"))),
        )

    def _channels(self, meta: Members) -> Iterator[tuple[str, ChannelState]]:
        for name in meta.document:
            found = _ROLE_FILE.fullmatch(name)
            if found is None:
                continue
            channel = found["channel"]
            releases = self._metadata(meta.object(name), name.removesuffix(".json"))
            target = releases.object("targets").object_or_none(f"catalogs/{channel}.json")
            if target is not None:
                yield channel, self._channel(channel, target)

    def _metadata(self, meta: Members, role: str) -> Members:
        version = meta.integer("version", least=1)
        data = self.tree.read(self.application, f"trust/{version}.{role}.json", MOST_METADATA_BYTES)
        if meta.has("length") or meta.has("hashes"):
            _check(data, meta, f"{version}.{role}.json")
        signed = _signed(data, role)
        if signed.integer("version") != version:
            raise signed.fail("version", str(version))
        return signed

    def _channel(self, channel: str, target: Members) -> ChannelState:
        digest = target.object("hashes").text("sha256")
        known = self.previous.channels.get(channel) if self.previous else None
        if known is not None and known.catalog_sha256 == digest:
            return known
        path = f"targets/catalogs/{digest}.{channel}.json"
        data = self.tree.read(self.application, path, MOST_METADATA_BYTES)
        _check(data, target, path)
        catalog = Catalog.from_json(json.loads(data))
        if (catalog.application, catalog.channel) != (self.application, channel):
            expected, got = f"{self.application}/{channel}", f"{catalog.application}/{catalog.channel}"
            raise ValueError(f"{path}: expected a catalog of {expected}, got one of {got}")
        manifests = known.manifests if known else {}
        return ChannelState(
            catalog=catalog,
            catalog_bytes=data,
            catalog_gzip=gzip.compress(data, compresslevel=6, mtime=0),
            catalog_sha256=digest,
            manifests={ref.path: self._manifest(ref, manifests) for ref in catalog.references()},
        )

    def _manifest(self, reference: Reference, known: Mapping[str, bytes]) -> bytes:
        data = known.get(reference.path)
        if data is not None and sha256(data).hexdigest() == reference.sha256:
            return data
        data = self.tree.read(self.application, reference.path, MOST_MANIFEST_BYTES)
        if len(data) != reference.length or sha256(data).hexdigest() != reference.sha256:
            raise _mismatch(reference.path, reference.sha256, reference.length, data)
        _signed(data, reference.path)
        return data


class Applications:
    """All applications in service. `by_name` is replaced, never changed, so a request sees one revision throughout."""

    def __init__(self, tree: TreeReader) -> None:
        self.tree = tree
        self.by_name: Mapping[str, AppState] = {}
        self.errors: dict[str, str] = {}
        self._seen: dict[str, object] = {}
        self._wait: dict[str, int] = {}

    def refresh(self) -> None:
        """Look at every timestamp.json and load what changed. Never raises: the last good state stays in service."""
        try:
            names = self.tree.applications()
        except OSError as error:
            self._report("*", f"the tree cannot be listed: {error}")
            return
        self.errors.pop("*", None)
        for name in names:
            self._refresh(name)

    def refresh_named(self, names: Iterable[str]) -> None:
        """As `refresh`, for some applications only."""
        for name in names:
            self._refresh(name)

    def _refresh(self, name: str) -> None:
        try:
            fingerprint = self.tree.fingerprint(name)
        except OSError as error:
            self._report(name, f"application {name}: {error}")
            return
        if fingerprint is None or (fingerprint == self._seen.get(name) and not self._due(name)):
            return
        self._seen[name] = fingerprint
        try:
            state = load_app(self.tree, name, self.by_name.get(name))
        except DamagedTreeError as error:
            self._wait[name] = _RETRY_AFTER_TICKS
            self._report(name, str(error))
            return
        self._wait.pop(name, None)
        self.errors.pop(name, None)
        self.by_name = {**self.by_name, name: state}
        logger.info("application %s: revision %d in service, %d channels", name, state.revision, len(state.channels))

    def _due(self, name: str) -> bool:
        """A damaged tree is tried again now and then: a missing file may be restored under the same timestamp."""
        if name not in self._wait:
            return False
        self._wait[name] -= 1
        return self._wait[name] <= 0

    def _report(self, name: str, reason: str) -> None:
        if self.errors.get(name) != reason:
            self.errors[name] = reason
            logger.error("the last good state stays in service: %s", reason)


def _signed(data: bytes, at: str) -> Members:
    return Members(json.loads(data), at).object("signed")


def _check(data: bytes, meta: Members, at: str) -> None:
    length = meta.integer_or_none("length")
    digest = meta.object("hashes").text("sha256") if meta.has("hashes") else None
    if (length is not None and length != len(data)) or (digest is not None and digest != sha256(data).hexdigest()):
        raise _mismatch(at, digest, length, data)


def _mismatch(at: str, digest: str | None, length: int | None, data: bytes) -> ValueError:
    expected = f"sha256 {digest or 'any'}, {'any' if length is None else length} bytes"
    return ValueError(f"{at}: expected {expected}, got sha256 {sha256(data).hexdigest()}, {len(data)} bytes")


def _time(members: Members, name: str) -> datetime:
    text = members.text(name)
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise members.fail(name, "a time like 2030-01-31T12:00:00Z") from None
