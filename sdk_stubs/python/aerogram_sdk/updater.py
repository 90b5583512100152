"""One update of some models: poll, trust, install, switch. Rules raise elsewhere; here it is decided what follows."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from aerogram_sdk.activator import Activator, device_errors
from aerogram_sdk.catalog import Reference
from aerogram_sdk.catalog_source import CatalogSource
from aerogram_sdk.decision import decide
from aerogram_sdk.errors import (
    AerogramError,
    HeldBack,
    LoadFailed,
    PerhapsStale,
    PollMalformed,
    SanityInvalid,
    SanityMismatch,
    Unavailable,
)
from aerogram_sdk.events import EventQueue, Subject
from aerogram_sdk.fetcher import DevicePlane, PollAnswer
from aerogram_sdk.manifest import Manifest, SignatureSchema, digest_of
from aerogram_sdk.patches import PatchSource
from aerogram_sdk.profile import DeviceProfile
from aerogram_sdk.selector import Conditions, Step, next_step, refuse_banned, refuse_unsuitable
from aerogram_sdk.store import ModelRecord, Store, write_atomically
from aerogram_sdk.trust import Trust, TrustedTree, refuse_old, refuse_unasked

POLL_AFTER_SECONDS = 14_400
SHORTEST_POLL_SECONDS, LONGEST_POLL_SECONDS = 60, 7 * 86_400

OutcomeState = Literal["updated", "unchanged", "refused", "unavailable", "use_embedded", "none"]


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """What an update did to one model.

    `reason`: the server's decision, informational. `version`, `variant`: installed and active now, None if none is.
    `error`: why it was refused or unavailable. `next_poll_seconds`: when to call again, jittered.
    `held_back`: no newer trust metadata for a day, whatever the reason: see `HeldBack`.

    | state          | meaning                                                                    |
    |----------------|----------------------------------------------------------------------------|
    | `updated`      | another bundle is active now                                               |
    | `unchanged`    | what the server wants is what was there                                    |
    | `use_embedded` | a signed manifest has just set the installed bundles aside                 |
    | `none`         | the server has nothing for this device; nothing changed                    |
    | `unavailable`  | network, server or policy: a later try may succeed; nothing changed        |
    | `refused`      | not genuine, not suitable, or the device cannot take it; nothing changed   |
    """

    model: str
    state: OutcomeState
    reason: str = ""
    version: int | None = None
    variant: str | None = None
    error: AerogramError | None = None
    next_poll_seconds: int = POLL_AFTER_SECONDS
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """The parts an update works with. `catalogs`: where to decide from on the device; None: the server is polled."""

    application: str
    channel: str
    unit: str
    profile: DeviceProfile
    accepts: Mapping[str, SignatureSchema | None]
    embedded_versions: Mapping[str, int | None]
    minimums: Mapping[str, int]
    runtime_versions: Mapping[str, str]
    store: Store
    plane: DevicePlane
    trust: Trust
    catalogs: CatalogSource | None
    activator: Activator
    events: EventQueue
    clock: Callable[[], datetime]
    conditions: Callable[[], Conditions]


class UpdateRun:
    """Under the store's install lock, with one trust refresh for all models."""

    def __init__(self, device: Device) -> None:
        self._device, self._store, self._events = device, device.store, device.events
        self._tree: TrustedTree | None = None
        self._entries: dict[str, Mapping[str, Any]] = {}
        self._poll_after = POLL_AFTER_SECONDS

    def outcomes(self, models: Sequence[str]) -> list[UpdateOutcome]:
        try:
            with device_errors():
                self._ask(models)
        except AerogramError as error:
            found = [self._failed(model, error) for model in models]
        else:
            found = [self._outcome(model) for model in models]
        self._report_held_back(models)
        return found

    def _report_held_back(self, models: Sequence[str]) -> None:
        """Once a day while it lasts. An attacker who holds the network can hold this event too, but not the outcome."""
        clock = self._device.clock()
        with self._store.changing() as state:
            since = state.tell_held_back(clock)
        if since and models:
            error = HeldBack(f"trust: expected newer metadata within a day, got none since {since}")
            self._events.record_failure(error, Subject(models[0]))

    def _outcome(self, model: str) -> UpdateOutcome:
        try:
            with device_errors():
                return self._follow_fresh(model)
        except AerogramError as error:
            self._events.record_failure(error, self._subject(model))
            return self._failed(model, error)

    def _follow_fresh(self, model: str) -> UpdateOutcome:
        """Follow the answer; if it may only be stale, refresh and poll once more before it counts as an error."""
        try:
            return self._follow(model)
        except PerhapsStale:
            self._tree = None
            self._ask([model], fresh=True)
            return self._follow(model)

    def _follow(self, model: str) -> UpdateOutcome:
        state = self._store.state()
        record = state.model(model)
        self._report_assignment(model, record)
        envelope = self._envelope(model)
        answer = digest_of([self._device.channel, self._device.profile.environment, envelope])
        if (envelope is None or answer == record.accepted) and not state.refresh_due(self._device.clock()):
            return self._done(model, "none" if envelope is None else "unchanged")
        tree = self._trusted_tree()
        if envelope is None:
            return self._done(model, "none")
        manifest = self._verified(model, envelope, tree)
        done = self._carry_out(manifest, record, tree)
        with self._store.changing() as state:
            state.model(model).accepted = answer
        return self._done(model, done)

    def _verified(self, model: str, envelope: Any, tree: TrustedTree) -> Manifest:
        """Raises an Untrusted. A manifest that passes raises the lowest version this device will accept again."""
        manifest = tree.verify_manifest(envelope)
        refuse_unasked(manifest, application=self._device.application, channel=self._device.channel, model=model)
        state = self._store.state()
        seen = state.seen_version(tree.scope, model)
        refuse_old(manifest, now=state.now(self._device.clock()), seen_version=seen)
        tree.refuse_not_current(manifest)
        with self._store.changing() as state:
            state.see(tree.scope, manifest)
        return manifest

    def _carry_out(self, manifest: Manifest, record: ModelRecord, tree: TrustedTree) -> OutcomeState:
        step = next_step(manifest, record)
        if step is Step.USE_EMBEDDED:
            return self._set_aside(manifest)
        if manifest.directive == "install":
            refuse_unsuitable(manifest, runtimes=self._device.runtime_versions, wanted=self._device.accepts)
        if step is Step.NOTHING:
            return "unchanged"
        refuse_banned(self._store.state().failure_count(manifest.bundle_id, self._device.profile.environment))
        now = self._store.state().now(self._device.clock())
        tree.refuse_unpublished(manifest, now=now, minimum=self._device.minimums.get(manifest.model, 0))
        self._events.record("offered", "ok", Subject.of(manifest), bytes=manifest.size_bytes)
        self._install(manifest, record, tree)
        return "updated"

    def _install(self, manifest: Manifest, record: ModelRecord, tree: TrustedTree) -> None:
        device_class = str(self._decision(manifest.model).get("device_class") or "")
        try:
            patches = PatchSource(self._device.plane, tree)
            self._device.activator.install(manifest, record, self._device.conditions(), device_class, patches)
        except (LoadFailed, SanityMismatch, SanityInvalid):
            with self._store.changing() as state:
                state.count_failure(manifest.bundle_id, self._device.profile.environment)
            raise

    def _set_aside(self, manifest: Manifest) -> OutcomeState:
        with self._store.changing() as state:
            state.model(manifest.model).directive = "use_embedded"
        self._events.record("fallback", "ok", Subject(manifest.model))
        return "use_embedded"

    def _trusted_tree(self) -> TrustedTree:
        if self._tree is None:
            clock = self._device.clock()
            self._tree = self._device.trust.refresh(self._device.channel, self._store.state().now(clock))
            with self._store.changing() as state:
                state.trust_refreshed(clock, self._tree.timestamp_version)
        return self._tree

    # -- what is to run: asked of the server, or decided here

    def _ask(self, models: Sequence[str], *, fresh: bool = False) -> None:
        if self._device.catalogs is None:
            self._poll(models, fresh=fresh)
        else:
            self._decide(models, self._device.catalogs)

    def _decide(self, models: Sequence[str], catalogs: CatalogSource) -> None:
        """From the signed catalog, as the server would; a catalog is never older than the trust it hangs on."""
        catalog = catalogs.catalog(self._trusted_tree())
        self._poll_after = _bounded_seconds(catalog.poll_after_seconds)
        for model in models:
            current = self._current_version(model)
            decision = decide(self._device.profile, self._device.unit, model, catalog, current)
            self._entries[model] = {"decision": decision.to_json(), "manifest": decision.manifest}

    def _envelope(self, model: str) -> Any:
        """The manifest as it was answered, or as the catalog refers to it; None if there is none."""
        found = self._entries[model].get("manifest")
        if self._device.catalogs is None or not isinstance(found, Reference):
            return found
        return self._device.catalogs.manifest(model, found)

    def _poll(self, models: Sequence[str], *, fresh: bool = False) -> None:
        """Remembered with its tag, so that an unchanged answer costs a 304. A fresh one asks past all caches."""
        url = self._device.plane.poll_url(self._device.channel, self._query(models))
        remembered = self._remembered(url)
        answer = self._device.plane.poll(url, remembered=remembered, fresh=fresh)
        entries = {model: answer.body["models"].get(model) for model in models}
        for model, entry in entries.items():
            if not isinstance(entry, dict):
                raise PollMalformed(f"poll: expected an object for {model}, got {entry!r}")
        self._entries |= entries
        self._poll_after = _bounded_seconds(answer.body.get("poll_after_seconds"))
        if answer is not remembered:
            document = {"url": url, "etag": answer.etag, "body": answer.body}
            write_atomically(self._store.root / "poll.json", json.dumps(document).encode())

    def _query(self, models: Sequence[str]) -> dict[str, str]:
        current = {model: self._current_version(model) for model in sorted(models)}
        pairs = ",".join(f"{model}:{version}" for model, version in current.items() if version is not None)
        query = self._device.profile.to_query() | {"models": ",".join(sorted(models))}
        return query | ({"current": pairs} if pairs else {})

    def _current_version(self, model: str) -> int | None:
        record = self._store.state().model(model)
        if record.active and record.directive == "install":
            return record.active.version
        return self._device.embedded_versions.get(model)

    def _remembered(self, url: str) -> PollAnswer | None:
        try:
            document = json.loads((self._store.root / "poll.json").read_bytes())
            return (
                PollAnswer(document["body"], document["etag"]) if document["url"] == url and document["etag"] else None
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _decision(self, model: str) -> Mapping[str, Any]:
        decision = self._entries.get(model, {}).get("decision")
        return decision if isinstance(decision, dict) else {}

    def _report_assignment(self, model: str, record: ModelRecord) -> None:
        """Once per decision, also for a control group that gets nothing new: shares are tested on who was assigned."""
        decision = self._decision(model)
        assigned = digest_of([decision.get(name) for name in ("reason", "experiment", "phase", "arm", "version")])
        if assigned != record.assigned:
            told = {"experiment": decision.get("experiment"), "phase": decision.get("phase") or 0}
            self._events.record("assigned", "ok", self._subject(model), **told)
            with self._store.changing() as state:
                state.model(model).assigned = assigned

    def _subject(self, model: str) -> Subject:
        """As the decision names it: not signed, good enough to report by."""
        version, variant = self._decision(model).get("version"), self._decision(model).get("variant")
        return Subject(
            model, version if isinstance(version, int) else None, variant if isinstance(variant, str) else None
        )

    # -- the outcome

    def _done(self, model: str, state: OutcomeState) -> UpdateOutcome:
        return self._as_outcome(model, state, None)

    def _failed(self, model: str, error: AerogramError) -> UpdateOutcome:
        return self._as_outcome(model, "unavailable" if isinstance(error, Unavailable) else "refused", error)

    def _as_outcome(self, model: str, state: OutcomeState, error: AerogramError | None) -> UpdateOutcome:
        record = self._store.state().model(model)
        active = record.active if record.directive == "install" else None
        wait = getattr(error, "retry_after_seconds", None) or self._poll_after
        return UpdateOutcome(
            model=model,
            state=state,
            reason=str(self._decision(model).get("reason") or ""),
            version=active.version if active else None,
            variant=active.variant if active else None,
            error=error,
            next_poll_seconds=jittered(wait),
            held_back=self._store.state().is_held_back(self._device.clock()),
        )


def jittered(seconds: int) -> int:
    """Up to a fifth later, never earlier: a crowd that was told the same time must not return at the same time."""
    return seconds + random.randrange(seconds // 5 + 1)  # noqa: S311 - spreads load, guards nothing


def _bounded_seconds(value: Any) -> int:
    seconds = value if isinstance(value, int) else POLL_AFTER_SECONDS
    return min(max(seconds, SHORTEST_POLL_SECONDS), LONGEST_POLL_SECONDS)
