"""Opening and running a model: which one, what happens when it fails, and what is noted when it works."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Self

from aerogram_sdk.activator import Activator, close_all, has_digest
from aerogram_sdk.errors import (
    AerogramError,
    BundleDamaged,
    FirstInferenceFailed,
    InferenceFailed,
    InputInvalid,
    LoadCrashed,
    ManifestMalformed,
    ModelNotAvailable,
    PartUnknown,
    RuntimeUnsupported,
    SchemaNotAccepted,
    Unsuitable,
)
from aerogram_sdk.events import EventQueue, LatencyHistogram, Subject
from aerogram_sdk.manifest import BundledModel, Manifest, SignatureSchema
from aerogram_sdk.runtimes import Array, LoadedModel, Runtime
from aerogram_sdk.selector import FAILURES_TO_BAN, Source, refuse_unsuitable, running_order
from aerogram_sdk.store import Installed, Store


@dataclass(frozen=True, slots=True)
class EmbeddedPart:
    """Another model of a bundle inside the app."""

    path: Path
    signature_schema: SignatureSchema | None = None
    labels_file: Path | None = None
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """The model inside the app: `path` is what its runtime loads, `version` its number in the registry.

    `parts` and `files` (by role) are what else its bundle holds.
    """

    path: Path
    runtime: str
    version: int | None = None
    signature_schema: SignatureSchema | None = None
    labels_file: Path | None = None
    delegate_order: tuple[str, ...] = ()
    parts: Mapping[str, EmbeddedPart] = field(default_factory=dict)
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """One loaded model of a bundle, with its own files by role."""

    loaded: LoadedModel
    labels_file: Path | None
    files: Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded bundle and where it came from: the main model under the empty name. `installed` None: embedded."""

    source: Source
    models: Mapping[str, OpenedModel]
    installed: Installed | None
    keep_previous: bool = True


class Opener:
    """`environment`: what the count of failures is kept for (DeviceProfile.environment)."""

    def __init__(
        self,
        *,
        store: Store,
        activator: Activator,
        events: EventQueue,
        runtimes: Mapping[str, Runtime],
        embedded: Mapping[str, EmbeddedModel],
        accepts: Mapping[str, SignatureSchema | None],
        environment: str,
    ) -> None:
        self._store, self._activator, self._events = store, activator, events
        self._runtimes, self._embedded, self._accepts = runtimes, embedded, accepts
        self._environment = environment
        self._undamaged: set[str] = set()

    def open(self, model: str) -> "OpenModel":
        """The first that loads of active, previous, embedded. Raises ModelNotAvailable."""
        self.note_crashes()
        failed: list[tuple[Installed, AerogramError]] = []
        with self._store.reading() as state:
            opened = self._first_that_loads(
                model, running_order(state.model(model), has_embedded=model in self._embedded), failed
            )
        for installed, error in failed:
            self._events.record_failure(error, Subject(model, installed.version, installed.variant))
            self._note_failure(model, installed, error)
        if opened is None:
            raise ModelNotAvailable(f"{model}: expected a model that loads, got {[str(error) for _, error in failed]}")
        if failed:
            self._events.record("fallback", "ok", subject_of(model, opened.installed), error=failed[0][1].code)
        return OpenModel(model, opened, self._events, self)

    def first_run(self, model: str, installed: Installed) -> AbstractContextManager[None]:
        return self._store.attempting(installed.bundle, asdict(subject_of(model, installed)))

    def note_success(self, model: str, opened: Opened) -> None:
        """The new bundle has run: the one before may go, if its publisher says so, and old failures are forgotten."""
        installed = opened.installed
        with self._store.changing() as state:
            record = state.model(model)
            if not installed or not record.active or record.active.bundle != installed.bundle:
                return
            record.active.has_run = True
            state.failures.pop(installed.bundle, None)
            if not opened.keep_previous:
                record.previous = None
                self._store.prune_bundles(state)

    def note_first_run_failure(self, model: str, installed: Installed, error: AerogramError) -> None:
        self._events.record_failure(error, subject_of(model, installed))
        self._note_failure(model, installed, error)

    def note_crashes(self) -> None:
        """Count what a process left behind that died while it loaded or first ran a model."""
        for bundle, about in self._store.take_crashes():
            subject = Subject(str(about.get("model", "")), about.get("version"), about.get("variant"))
            error = LoadCrashed(f"{subject.model}: expected the process to survive loading, got a trace of its death")
            self._events.record_failure(error, subject)
            self._note_failure(subject.model, Installed(bundle, subject.version or 0, subject.variant or ""), error)

    def _first_that_loads(
        self,
        model: str,
        order: list[tuple[Source, Installed | None]],
        failed: list[tuple[Installed, AerogramError]],
    ) -> Opened | None:
        for source, installed in order:
            if installed is None:
                return self._load_embedded(model)
            try:
                return self._load_installed(model, source, installed)
            except (Unsuitable, BundleDamaged) as error:
                failed.append((installed, error))
        return None

    def _load_installed(self, model: str, source: Source, installed: Installed) -> Opened:
        manifest = self._whole_manifest(installed)
        versions = {name: runtime.version for name, runtime in self._runtimes.items()}
        # The app may have been replaced by one that needs another model since this one was installed.
        refuse_unsuitable(manifest, runtimes=versions, wanted=self._accepts)
        files = self._store.bundle_files(installed.bundle)
        with self.first_run(model, installed):
            loaded = self._activator.load(manifest, files, installed.device_class)
        models = {
            each.name: OpenedModel(
                loaded[each.name],
                files / each.labels_file if each.labels_file else None,
                _by_role(manifest, each, files),
            )
            for each in manifest.models
        }
        return Opened(source, models, installed, manifest.policy.keep_previous)

    def _load_embedded(self, model: str) -> Opened:
        embedded = self._embedded[model]
        bundled: dict[str, EmbeddedModel | EmbeddedPart] = {"": embedded, **embedded.parts}
        models: dict[str, OpenedModel] = {}
        runtime = self._runtimes[embedded.runtime]
        try:
            for name, each in bundled.items():
                loaded = runtime.load(each.path, each.signature_schema, embedded.delegate_order)
                models[name] = OpenedModel(loaded, each.labels_file, each.files)
        except Exception as error:  # a runtime is foreign code and raises what it likes
            close_all({name: opened.loaded for name, opened in models.items()})
            raise ModelNotAvailable(f"{model}: expected the embedded model to load, got {error!r}") from error
        return Opened(Source.EMBEDDED, models, None)

    def _whole_manifest(self, installed: Installed) -> Manifest:
        """Hashes every file, once per bundle and process. Raises BundleDamaged."""
        try:
            manifest = self._store.manifest_of(installed.bundle)
        except (OSError, ValueError, ManifestMalformed) as error:
            raise BundleDamaged(f"bundle: expected its manifest, got {error!r}") from error
        if installed.bundle not in self._undamaged:
            for file in manifest.installed_files.values():
                if not has_digest(self._store.bundle_files(installed.bundle) / file.path, file):
                    raise BundleDamaged(f"{file.path}: expected SHA-256 {file.sha256}, got another or no file")
            self._undamaged.add(installed.bundle)
        return manifest

    def _note_failure(self, model: str, installed: Installed, error: AerogramError) -> None:
        """A damaged bundle is given up at once, to be fetched anew; a failing one only after repeated failures.

        One that this app cannot use stays: the next app may.
        """
        with self._store.changing() as state:
            if isinstance(error, BundleDamaged):
                state.model(model).give_up(installed.bundle)
            if isinstance(error, BundleDamaged | RuntimeUnsupported | SchemaNotAccepted):
                return
            count = state.count_failure(installed.bundle, self._environment)
            banned_active = count >= FAILURES_TO_BAN and state.model(model).give_up(installed.bundle)
        if banned_active:
            self._events.record("rollback", "ok", subject_of(model, installed), error=error.code)


class OpenModel:
    """A loaded bundle, a context manager. It stays what it is when an update switches the bundle meanwhile.

    `run`, `labels` and `files` are those of its main model; `part` gives the others.
    """

    def __init__(self, model: str, opened: Opened, events: EventQueue, opener: Opener) -> None:
        self.model, self.source = model, opened.source
        self._opened, self._events, self._opener = opened, events, opener
        self._subject = subject_of(model, opened.installed)
        self._histogram = LatencyHistogram()
        is_proven = opened.installed is None or opened.installed.has_run
        self._unproven = set() if is_proven else set(opened.models)

    @property
    def version(self) -> int | None:
        return self._subject.version

    @property
    def variant(self) -> str | None:
        return self._subject.variant

    @property
    def parts(self) -> list[str]:
        return sorted(name for name in self._opened.models if name)

    def part(self, name: str) -> "OpenPart":
        """Another model of the bundle, such as the decoder of an encoder. Raises PartUnknown."""
        if not name or name not in self._opened.models:
            raise PartUnknown(f"{self.model}: expected a part among {self.parts}, got {name!r}")
        return OpenPart(self, name)

    def labels(self, part: str = "") -> list[str]:
        """Lines of the labels file; empty if the model has none."""
        path = self._opened.models[part].labels_file
        return path.read_text(encoding="utf-8").splitlines() if path else []

    def files(self, role: str, part: str = "") -> tuple[Path, ...]:
        """The bundle's files with a role, a MediaPipe `graph` for instance. Read them at once: a later update removes
        what is not in use any more.
        """
        return self._opened.models[part].files.get(role, ())

    def run(self, inputs: Mapping[str, Array], part: str = "") -> dict[str, Array]:
        """Outputs by name; quantised tensors take and give float32.

        The bundle has proven itself once each of its models has run. Raises InputInvalid for wrong names, shapes or
        types, FirstInferenceFailed or InferenceFailed for the model's fault.
        """
        started = perf_counter()
        installed = self._opened.installed
        is_first = installed is not None and part in self._unproven
        with self._opener.first_run(self.model, installed) if installed and is_first else nullcontext():
            outputs = self._run(inputs, part)
        seconds = perf_counter() - started
        self._histogram.add(seconds)
        if is_first:
            self._note_first_run(part, seconds)
        return outputs

    def close(self) -> None:
        """Release the models and report how long their inferences took."""
        close_all({name: opened.loaded for name, opened in self._opened.models.items()})
        if any(self._histogram.counts):
            self._events.record("inference", "ok", self._subject, histogram=self._histogram.counts)
            self._histogram = LatencyHistogram()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note_first_run(self, part: str, seconds: float) -> None:
        self._unproven.discard(part)
        if not self._unproven:
            self._opener.note_success(self.model, self._opened)
            self._events.record("first_inference", "ok", self._subject, ms=round(seconds * 1000))

    def _run(self, inputs: Mapping[str, Array], part: str) -> dict[str, Array]:
        try:
            return self._opened.models[part].loaded.run(inputs)
        except InputInvalid:
            raise
        except Exception as error:  # a runtime is foreign code and raises what it likes
            raise self._noted(error, part) from error

    def _noted(self, error: Exception, part: str) -> AerogramError:
        installed = self._opened.installed
        message = f"{self.model}{'/' + part if part else ''}: expected outputs, got {error!r}"
        if installed is None or part not in self._unproven:
            failure: AerogramError = InferenceFailed(message)
            self._events.record_failure(failure, self._subject)
            return failure
        failure = FirstInferenceFailed(message)
        self._opener.note_first_run_failure(self.model, installed, failure)
        return failure


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part of an open bundle; closed with it."""

    bundle: OpenModel
    name: str

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As OpenModel.run."""
        return self.bundle.run(inputs, self.name)

    def labels(self) -> list[str]:
        return self.bundle.labels(self.name)

    def files(self, role: str) -> tuple[Path, ...]:
        return self.bundle.files(role, self.name)


def _by_role(manifest: Manifest, model: BundledModel, folder: Path) -> dict[str, tuple[Path, ...]]:
    roles = {file.role for file in manifest.files.values()}
    found = {role: tuple(folder / path for path in manifest.files_of(model, role)) for role in roles}
    return {role: paths for role, paths in found.items() if paths}


def subject_of(model: str, installed: Installed | None) -> Subject:
    return Subject(model, installed.version, installed.variant) if installed else Subject(model)
