"""From verified files to a running model: obtain, unpack, load, check the vectors, switch."""

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from hashlib import file_digest
from pathlib import Path

from aerogram_sdk.decryption import decrypted, refuse_unopenable
from aerogram_sdk.errors import HashMismatch, LoadFailed, ManifestMalformed, NoSpace, PatchFailed, StoreFailed
from aerogram_sdk.events import EventQueue, Subject
from aerogram_sdk.fetcher import DevicePlane
from aerogram_sdk.keys import ContentKeys
from aerogram_sdk.manifest import BundledModel, Manifest, ManifestFile
from aerogram_sdk.patches import PatchSource
from aerogram_sdk.runtimes import LoadedModel, Runtime
from aerogram_sdk.sanity import SanityVectors
from aerogram_sdk.selector import Conditions, refuse_deferred
from aerogram_sdk.store import Installed, ModelRecord, Store, place

# Room for state, the event queue and trust metadata beside the files themselves.
SPARE_BYTES = 8 << 20


class Activator:
    """One bundle at a time; the caller holds the install lock. Every stage is recorded as it is passed."""

    def __init__(
        self,
        *,
        store: Store,
        plane: DevicePlane,
        runtimes: Mapping[str, Runtime],
        events: EventQueue,
        clock: Callable[[], datetime],
        keys: ContentKeys,
    ) -> None:
        self._keys = keys
        self._store, self._plane, self._runtimes, self._events, self._clock = store, plane, runtimes, events, clock

    def install(
        self,
        manifest: Manifest,
        record: ModelRecord,
        conditions: Conditions,
        device_class: str,
        patches: PatchSource,
    ) -> None:
        """Make the bundle the active one once it has proven to work; until then nothing changes."""
        subject = Subject.of(manifest)
        refuse_unopenable(manifest)
        with device_errors():
            opened = self._opened_before(manifest, record)
            self._obtain(manifest, record, conditions, patches, opened)
            staged = self._unpack(manifest, subject, opened)
        try:
            with self._store.attempting(manifest.bundle_id, asdict(subject)):
                self._prove(manifest, staged / "files", device_class, subject)
            with device_errors(), self._events.passing("activate", subject):
                self._switch(manifest, staged, device_class)
        finally:
            shutil.rmtree(staged, ignore_errors=True)  # there still only if it was not switched to

    def load(self, manifest: Manifest, files: Path, device_class: str) -> dict[str, LoadedModel]:
        """The main model, under the empty name, and every part; all of them or none."""
        loaded: dict[str, LoadedModel] = {}
        try:
            for model in manifest.models:
                loaded[model.name] = self._load_one(manifest, model, files, device_class)
        except LoadFailed:
            close_all(loaded)
            raise
        return loaded

    def _load_one(self, manifest: Manifest, model: BundledModel, files: Path, device_class: str) -> LoadedModel:
        runtime = self._runtimes[manifest.runtime]
        try:
            return runtime.load(files / model.entry, model.signature_schema, manifest.delegate_order(device_class))
        except Exception as error:  # a runtime is foreign code and raises what it likes
            raise LoadFailed(f"load: expected {manifest.runtime} to load {model.entry}, got {error!r}") from error

    def _opened_before(self, manifest: Manifest, record: ModelRecord) -> dict[str, Path]:
        """Files that travel encrypted and whose plaintext is in a bundle here: neither fetched nor opened again."""
        if manifest.encryption is None:
            return {}
        installed = self._installed_files(record)
        found = {path: installed.get(plain.sha256) for path, plain in manifest.encryption.files.items()}
        return {
            path: place_
            for path, place_ in found.items()
            if place_ and has_digest(place_, manifest.encryption.files[path])
        }

    def _obtain(
        self,
        manifest: Manifest,
        record: ModelRecord,
        conditions: Conditions,
        patches: PatchSource,
        opened: Mapping[str, Path],
    ) -> None:
        """Every file but those opened before into downloads/, whole and of the listed hash."""
        subject = Subject.of(manifest)
        files = {file.sha256: file for path, file in manifest.files.items() if path not in opened}.values()
        self._reuse_installed(files, record)
        missing = [file for file in files if not self._whole(file).exists()]
        missing_bytes = sum(file.length - self._arrived_bytes(file) for file in missing)
        refuse_deferred(manifest, conditions, missing_bytes)
        self._refuse_full(manifest.size_bytes, missing_bytes + _opening_bytes(manifest, opened))
        with self._events.passing("download", subject, bytes=missing_bytes):
            bases = self._installed_files(record)
            for file in missing:
                if not self._patched(file, bases, patches, subject):
                    self._plane.download(file.sha256, file.length, self._part(file))
        with self._events.passing("verify", subject):
            for file in files:
                self._accept(file)

    def _reuse_installed(self, files: Iterable[ManifestFile], record: ModelRecord) -> None:
        """From bundles already here: labels rarely change, and a rollback brings back what was kept."""
        installed = self._installed_files(record)
        for file in files:
            path = installed.get(file.sha256)
            if path and not self._whole(file).exists() and has_digest(path, file):
                place(path, self._whole(file))

    def _installed_files(self, record: ModelRecord) -> dict[str, Path]:
        """By digest. A bundle that cannot be read has nothing to offer."""
        found: dict[str, Path] = {}
        for installed in filter(None, (record.active, record.previous)):
            with suppress(OSError, ValueError, ManifestMalformed):
                folder = self._store.bundle_files(installed.bundle)
                files = self._store.manifest_of(installed.bundle).installed_files.values()
                found |= {file.sha256: folder / file.path for file in files}
        return found

    def _patched(self, file: ManifestFile, bases: Mapping[str, Path], patches: PatchSource, subject: Subject) -> bool:
        """Whether a patch made the `.part` file complete; `_accept` alone decides whether it is right.

        Not where some of the file is here already. A failure is reported, and the file fetched whole.
        """
        if not bases or self._arrived_bytes(file):
            return False
        try:
            return patches.make(file, bases, self._part(file))
        except PatchFailed as error:
            self._events.record_failure(error, subject)
            return False

    def _accept(self, file: ManifestFile) -> None:
        """Give a file of the listed hash its final name; remove any other, so that a retry starts afresh."""
        path = self._whole(file) if self._whole(file).exists() else self._part(file)
        if not has_digest(path, file):
            path.unlink(missing_ok=True)
            raise HashMismatch(f"{file.path}: expected SHA-256 {file.sha256}, got another")
        path.rename(self._whole(file))

    def _refuse_full(self, bundle_bytes: int, missing_bytes: int) -> None:
        free = shutil.disk_usage(self._store.root).free
        if free < missing_bytes + SPARE_BYTES:
            raise NoSpace(
                f"space: expected {missing_bytes + SPARE_BYTES} bytes free for a bundle of {bundle_bytes}, got {free}"
            )

    def _unpack(self, manifest: Manifest, subject: Subject, opened: Mapping[str, Path]) -> Path:
        """Decrypted, where they came encrypted: nothing but the bundle itself ever holds the plaintext."""
        sources = {path: self._whole(file) for path, file in manifest.files.items() if path not in opened}
        encryption = manifest.encryption
        encrypted = {path: source for path, source in sources.items() if encryption and path in encryption.files}
        with (
            self._events.passing("unpack", subject, bytes=manifest.size_bytes),
            decrypted(manifest, encrypted, self._store.staging, self._keys) as plain,
        ):
            return self._store.stage(manifest, {**sources, **plain, **opened})

    def _prove(self, manifest: Manifest, files: Path, device_class: str, subject: Subject) -> None:
        with self._events.passing("compile", subject):
            loaded = self.load(manifest, files, device_class)
        try:
            vectors = [model for model in manifest.models if model.sanity_path]
            if not vectors:
                self._events.record("sanity", "skipped", subject)
                return
            with self._events.passing("sanity", subject):
                for model in vectors:
                    data = (files / str(model.sanity_path)).read_bytes()
                    SanityVectors.from_json(data, model.sanity_tolerance).check(loaded[model.name])
        finally:
            close_all(loaded)

    def _switch(self, manifest: Manifest, staged: Path, device_class: str) -> None:
        """The whole bundle at once: what counts is the one state file, replaced at the end of the block."""
        with self._store.changing() as state:
            self._store.keep_bundle(staged, manifest)
            installed = Installed(manifest.bundle_id, manifest.model_version, manifest.variant, device_class)
            state.model(manifest.model).switch_to(installed)
        with self._store.changing() as state:
            self._store.prune_bundles(state)
            self._store.prune_leftovers(self._clock())
        for file in manifest.files.values():
            for path in self._store.downloads.glob(f"{file.sha256}*"):
                path.unlink(missing_ok=True)

    def _arrived_bytes(self, file: ManifestFile) -> int:
        part = self._part(file)
        return min(part.stat().st_size, file.length) if part.exists() else 0

    def _whole(self, file: ManifestFile) -> Path:
        return self._store.downloads / file.sha256

    def _part(self, file: ManifestFile) -> Path:
        return self._store.downloads / f"{file.sha256}.part"


def close_all(loaded: Mapping[str, LoadedModel]) -> None:
    for model in loaded.values():
        model.close()


def _opening_bytes(manifest: Manifest, opened: Mapping[str, Path]) -> int:
    """What decryption adds to the downloads."""
    files = manifest.encryption.files if manifest.encryption else {}
    return sum(plain.length for path, plain in files.items() if path not in opened)


def has_digest(path: Path, file: ManifestFile) -> bool:
    if not path.exists() or path.stat().st_size != file.length:
        return False
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest() == file.sha256


@contextmanager
def device_errors() -> Iterator[None]:
    """What the operating system refuses, as this package's errors."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"space: expected room for the bundle, got {error}") from error
        raise StoreFailed(f"store: expected to be read and written, got {error}") from error
