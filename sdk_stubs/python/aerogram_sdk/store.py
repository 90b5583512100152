"""The folder on the device: what is installed, seen and banned.

    <store>/<application>/
      state.json          the only pointer; replaced atomically, holds no absolute path
      unit                random installation id
      poll.json           last poll answer with its tag
      catalogs/           the channel's catalog and manifests, where the device decides itself
      trust/              the TUF client's cache
      downloads/          files on their way, and files arrived but not yet installed, by digest
      staging/            bundles being unpacked
      bundles/<id>/       manifest.json and files/
      attempts/           one locked file per model being loaded; an unlocked one is the trace of a crash
      events.db           the event queue
      install.lock  state.lock

`install.lock` is held through a whole update; `state.lock` only while state is changed or a bundle is being opened.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from aerogram_sdk.manifest import Manifest

STATE_FORMAT = 1
REFRESH_AT_LEAST_EVERY = timedelta(days=1)
HELD_BACK_AFTER = timedelta(days=1)
ABANDONED_AFTER_SECONDS = 7 * 86_400


@dataclass(slots=True)
class Installed:
    """One bundle in use. `has_run`: an inference has succeeded with it on this device."""

    bundle: str
    version: int
    variant: str
    device_class: str = ""
    has_run: bool = False


@dataclass(slots=True)
class ModelRecord:
    """`directive` `use_embedded` sets the installed bundles aside without forgetting them."""

    active: Installed | None = None
    previous: Installed | None = None
    directive: str = "install"
    accepted: str = ""  # digest of the last manifest carried out, with its channel
    assigned: str = ""  # digest of the last decision reported

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        active, previous = document.pop("active"), document.pop("previous")
        return cls(
            active=Installed(**active) if active else None,
            previous=Installed(**previous) if previous else None,
            **document,
        )

    def switch_to(self, installed: Installed) -> None:
        """Make `installed` active. What it replaces is kept as previous, unless it never ran and an older one did."""
        replaced = self.active
        if replaced and replaced.bundle == installed.bundle:
            installed.has_run = replaced.has_run
        elif replaced and (replaced.has_run or not self.previous):
            self.previous = replaced
        if self.previous and self.previous.bundle == installed.bundle:
            self.previous = None
        self.active, self.directive = installed, "install"

    def give_up(self, bundle: str) -> bool:
        """Stop using a bundle; the previous one takes the place of the active one. Whether it was active."""
        was_active = self.active is not None and self.active.bundle == bundle
        if was_active:
            self.active, self.previous, self.accepted = self.previous, None, ""
        elif self.previous and self.previous.bundle == bundle:
            self.previous = None
        return was_active


@dataclass(slots=True)
class Failures:
    """How often a bundle failed to load, to pass its vectors or to run, in one environment (app, OS, runtime)."""

    count: int
    environment: str


@dataclass(slots=True)
class State:
    """`seen`: highest manifest version by channel (with its keys) and model. Times are ISO 8601 with zone, or empty.

    `trusted_time` only rises; `refreshed` is what the device's clock, right or wrong, said at the last refresh,
    `progressed` at the first one with the present `timestamp_version`, `told` when being held back was told.
    """

    models: dict[str, ModelRecord] = field(default_factory=dict)
    seen: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: dict[str, Failures] = field(default_factory=dict)
    trusted_time: str = ""
    refreshed: str = ""
    timestamp_version: int = 0
    progressed: str = ""
    told: str = ""
    format: int = STATE_FORMAT

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        models = {name: ModelRecord.from_json(value) for name, value in document.pop("models").items()}
        failures = {name: Failures(**value) for name, value in document.pop("failures").items()}
        return cls(models=models, failures=failures, **document)

    def model(self, name: str) -> ModelRecord:
        return self.models.setdefault(name, ModelRecord())

    def seen_version(self, scope: str, model: str) -> int:
        return self.seen.get(scope, {}).get(model, 0)

    def see(self, scope: str, manifest: Manifest) -> None:
        """`scope`: a channel and its keys. What was seen of the channel under other keys is forgotten."""
        self.seen = {key: value for key, value in self.seen.items() if not _is_outdated(key, scope)}
        versions = self.seen.setdefault(scope, {})
        versions[manifest.model] = max(versions.get(manifest.model, 0), manifest.version)

    def failure_count(self, bundle: str, environment: str) -> int:
        failures = self.failures.get(bundle)
        return failures.count if failures and failures.environment == environment else 0

    def count_failure(self, bundle: str, environment: str) -> int:
        count = self.failure_count(bundle, environment) + 1
        self.failures[bundle] = Failures(count, environment)
        return count

    def now(self, clock: datetime) -> datetime:
        """The device's time, but never before a time at which trusted metadata was valid."""
        return max(clock, datetime.fromisoformat(self.trusted_time)) if self.trusted_time else clock

    def trust_refreshed(self, clock: datetime, timestamp_version: int) -> None:
        self.trusted_time, self.refreshed = self.now(clock).isoformat(), clock.isoformat()
        if timestamp_version != self.timestamp_version:
            self.timestamp_version, self.progressed, self.told = timestamp_version, clock.isoformat(), ""

    def is_held_back(self, clock: datetime) -> bool:
        """Whether trust metadata brought nothing newer for a day. An honest server signs twice a day."""
        return bool(self.progressed) and abs(clock - datetime.fromisoformat(self.progressed)) >= HELD_BACK_AFTER

    def tell_held_back(self, clock: datetime) -> str:
        """Since when it is, if this is to be told now; empty if it is not, or was told within a day."""
        self.progressed = self.progressed or clock.isoformat()
        told_lately = self.told and abs(clock - datetime.fromisoformat(self.told)) < HELD_BACK_AFTER
        if not self.is_held_back(clock) or told_lately:
            return ""
        self.told = clock.isoformat()
        return self.progressed

    def refresh_due(self, clock: datetime) -> bool:
        return not self.refreshed or abs(clock - datetime.fromisoformat(self.refreshed)) >= REFRESH_AT_LEAST_EVERY


def _is_outdated(key: str, scope: str) -> bool:
    return key != scope and key.partition(" ")[0] == scope.partition(" ")[0]


class Store:
    def __init__(self, folder: Path, application: str) -> None:
        self.root = folder / quote(application, safe="")
        self.trust = self.root / "trust"
        self.downloads = self.root / "downloads"
        self.staging = self.root / "staging"
        self.bundles = self.root / "bundles"
        self.attempts = self.root / "attempts"
        for path in (self.downloads, self.staging, self.bundles, self.attempts):
            path.mkdir(parents=True, exist_ok=True)

    # -- locks and state

    def installing(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.root / "install.lock", fcntl.LOCK_EX)

    @contextmanager
    def reading(self) -> Iterator[State]:
        """No bundle is switched or removed meanwhile."""
        with locked(self.root / "state.lock", fcntl.LOCK_SH):
            yield self.state()

    @contextmanager
    def changing(self) -> Iterator[State]:
        """Written once at the end, if nothing was raised."""
        with locked(self.root / "state.lock", fcntl.LOCK_EX):
            state = self.state()
            yield state
            write_atomically(self.root / "state.json", json.dumps(asdict(state), indent=1).encode())

    def state(self) -> State:
        """As last written. An unreadable one is set aside: the embedded model still runs and updates still work."""
        path = self.root / "state.json"
        try:
            return State.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError, KeyError, AttributeError):
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".unreadable"))
            return State()

    def unit(self, given: str | None) -> str:
        """The installation id: given, or drawn once at random; never derived from hardware or a person."""
        path = self.root / "unit"
        with locked(self.root / "state.lock", fcntl.LOCK_EX):
            if given or not path.exists():
                write_atomically(path, (given or str(uuid.uuid4())).encode())
            return path.read_text()

    # -- bundles

    def bundle_files(self, bundle: str) -> Path:
        return self.bundles / bundle / "files"

    def manifest_of(self, bundle: str) -> Manifest:
        """Raises OSError or ManifestMalformed if the bundle is not whole."""
        return Manifest.from_signed(json.loads((self.bundles / bundle / "manifest.json").read_bytes()))

    def keep_bundle(self, staged: Path, manifest: Manifest) -> None:
        """Move a staged bundle to its place. Call it while changing state, or `prune_bundles` may not know it yet."""
        place = self.bundles / manifest.bundle_id
        if place.exists():
            place.rename(self.staging / uuid.uuid4().hex)
        staged.rename(place)
        sync_folder(self.bundles)

    def prune_bundles(self, state: State) -> None:
        """Remove bundles that no pointer names. Call it while changing state."""
        used = {
            installed.bundle
            for record in state.models.values()
            for installed in (record.active, record.previous)
            if installed
        }
        for path in self.bundles.iterdir():
            if path.name not in used:
                shutil.rmtree(path, ignore_errors=True)

    def prune_leftovers(self, now: datetime) -> None:
        """Remove what updates have left half-done. Call it while changing state, under the install lock."""
        for path in self.staging.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        for path in self.downloads.iterdir():
            if now.timestamp() - path.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                path.unlink()
        for path in self.root.glob(".*"):
            path.unlink()  # what a killed process was about to rename

    def stage(self, manifest: Manifest, sources: Mapping[str, Path]) -> Path:
        """A new bundle beside the others, on disk before any pointer names it; `sources` by path in the manifest."""
        staged = self.staging / uuid.uuid4().hex
        (staged / "files").mkdir(parents=True)
        for path, source in sources.items():
            place(source, staged / "files" / path)
        write_atomically(staged / "manifest.json", json.dumps(dict(manifest.document)).encode())
        sync_tree(staged)
        return staged

    # -- crashes

    @contextmanager
    def attempting(self, bundle: str, about: dict[str, Any]) -> Iterator[None]:
        """Leaves `about` as a trace if the process dies inside: native code may crash on a bad model."""
        name = f"{bundle}.{uuid.uuid4().hex}"
        unseen, path = self.attempts / f".{name}", self.attempts / name
        with locked(unseen, fcntl.LOCK_EX):
            unseen.write_text(json.dumps(about))
            # Named only once it is locked, or another process could take it for the trace of a crash.
            unseen.rename(path)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def take_crashes(self) -> list[tuple[str, dict[str, Any]]]:
        """Bundles during whose loading a process died, with what it was about; each trace once."""
        traces = ((path.name.partition(".")[0], _take_if_unlocked(path)) for path in self.attempts.glob("[!.]*"))
        return [(bundle, about) for bundle, about in traces if about is not None]


@contextmanager
def locked(path: Path, mode: int) -> Iterator[None]:
    """Hold a lock of this path among all processes and threads; waits for it."""
    with path.open("a") as file:
        fcntl.flock(file, mode)
        yield


def write_atomically(path: Path, data: bytes) -> None:
    """Readers see the old or the new content, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the one call the atomic switch rests on, named as such
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def place(source: Path, destination: Path) -> None:
    """A hard link where the file system has them, else a copy: a bundle must not cost its size twice."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, destination)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV):
            raise
        shutil.copyfile(source, destination)


def sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_if_unlocked(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            document = json.load(file)
    except (BlockingIOError, FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None
