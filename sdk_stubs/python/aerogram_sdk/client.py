"""What an app calls."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Literal, Self

import httpx

from aerogram_sdk.activator import Activator, device_errors
from aerogram_sdk.catalog_source import CatalogSource
from aerogram_sdk.errors import DeviceTrouble
from aerogram_sdk.events import EventQueue
from aerogram_sdk.fetcher import DevicePlane, TufFetcher
from aerogram_sdk.keys import Attester, ContentKeys, KeyService, KeyStore, MemoryKeyStore
from aerogram_sdk.manifest import SignatureSchema
from aerogram_sdk.opener import EmbeddedModel, Opener, OpenModel
from aerogram_sdk.profile import DeviceProfile
from aerogram_sdk.runtimes import Runtime
from aerogram_sdk.selector import Conditions
from aerogram_sdk.store import Store
from aerogram_sdk.trust import Trust
from aerogram_sdk.updater import Device, UpdateOutcome, UpdateRun

TIMEOUT_SECONDS = 30.0
MOST_MODELS_PER_POLL = 50


class AerogramClient:
    """One application and channel on one store. Usable from several threads and processes on the same store."""

    def __init__(
        self,
        *,
        server: str,
        application: str,
        channel: str,
        root: bytes,
        store: Path,
        profile: DeviceProfile,
        runtimes: Mapping[str, Runtime],
        unit: str | None = None,
        key: str | None = None,
        accepts: Mapping[str, SignatureSchema | None] | None = None,
        embedded: Mapping[str, EmbeddedModel] | None = None,
        minimum_release_counters: Mapping[str, int] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        conditions: Callable[[], Conditions] = Conditions,
        http: httpx.Client | None = None,
        key_server: str | None = None,
        key_store: KeyStore | None = None,
        attest: Attester = lambda _: None,
        decides: Literal["server", "device"] = "server",
    ) -> None:
        """`root`: the root.json the app ships with. `key`: the application's public id for rate limits.

        `minimum_release_counters`: by model, as `embedded.json` says: the publisher's minimum when the app was built.
        `clock` gives aware times; it may be wrong, see `State.now`. For protected models: `key_server` is the key
        service where it has an address of its own, `key_store` keeps keys longer than this process, and `attest` gives
        the attestation of a binding. `decides`: who does; by `device` the signed catalog of the channel is fetched, and
        no request about models says anything of this device.
        """
        self._http, self._owns_http = http or httpx.Client(timeout=TIMEOUT_SECONDS), http is None
        self._store = Store(store, application)
        self.unit = self._store.unit(unit)
        headers = {"Aerogram-Unit": self.unit} | ({"Aerogram-Key": key} if key else {})
        self._address, self._headers = (server, application, channel), headers
        self._plane = DevicePlane(self._http, server, application, headers)
        self._events = EventQueue(self._store.root / "events.db", clock, channel)
        self._profile = profile
        runtimes, embedded, accepts = dict(runtimes), dict(embedded or {}), dict(accepts or {})
        activator = Activator(
            store=self._store,
            plane=self._plane,
            runtimes=runtimes,
            events=self._events,
            clock=clock,
            keys=ContentKeys(
                KeyService(self._http, key_server or server, application, channel, self.unit, attest),
                key_store or MemoryKeyStore(),
            ),
        )
        self._opener = Opener(
            store=self._store,
            activator=activator,
            events=self._events,
            runtimes=runtimes,
            embedded=embedded,
            accepts=accepts,
            environment=profile.environment,
        )
        fetcher, kept = TufFetcher(self._http), self._store.root / "catalogs"
        self._device = Device(
            application=application,
            channel=channel,
            unit=self.unit,
            profile=profile,
            accepts=accepts,
            embedded_versions={name: model.version for name, model in embedded.items()},
            minimums=dict(minimum_release_counters or {}),
            runtime_versions={name: runtime.version for name, runtime in runtimes.items()},
            store=self._store,
            plane=self._plane,
            trust=Trust(self._plane, fetcher, self._store.trust, root),
            catalogs=CatalogSource(self._plane, fetcher, kept, application, channel) if decides == "device" else None,
            activator=activator,
            events=self._events,
            clock=clock,
            conditions=conditions,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the HTTP client, unless it was given."""
        if self._owns_http:
            self._http.close()

    def update(self, models: Sequence[str]) -> list[UpdateOutcome]:
        """Bring each model to what the server wants; one outcome per model, in the order asked.

        Network, trust, model and storage trouble is in the outcomes, never raised. Waits while another process updates.
        """
        outcomes: list[UpdateOutcome] = []
        try:
            with device_errors(), self._store.installing():
                self._opener.note_crashes()
                for start in range(0, len(models), MOST_MODELS_PER_POLL):
                    outcomes += UpdateRun(self._device).outcomes(models[start : start + MOST_MODELS_PER_POLL])
        except DeviceTrouble as error:
            outcomes += [UpdateOutcome(model, "refused", error=error) for model in models[len(outcomes) :]]
        return outcomes

    def follow(
        self,
        models: Sequence[str],
        *,
        stop: Event,
        told: Callable[[list[UpdateOutcome]], None],
        spread_seconds: float = 30.0,
    ) -> None:
        """Hear of revisions on the live channel, update within `spread_seconds` of each and send events.

        `told` gets each update's outcomes. Ends when `stop` is set or the server refuses for good; needs the extra
        `live`. Polls at `next_poll_seconds` remain the app's: whoever hears nothing misses nothing by them.
        """
        from aerogram_sdk.live import LiveChannel  # noqa: PLC0415  # its library is optional

        def poll() -> None:
            told(self.update(models))
            self.flush_events()

        server, application, channel = self._address
        live = LiveChannel(server, application, channel, self._headers, poll, spread_seconds=spread_seconds)
        live.follow(stop)

    def open(self, model: str) -> OpenModel:
        """The first that loads of active, previous, embedded; needs no network. Raises ModelNotAvailable."""
        return self._opener.open(model)

    def flush_events(self) -> int:
        """Send queued events; how many the server has taken. The rest is kept; network trouble is not raised."""
        return self._events.flush(self._plane, self._profile.to_json())

    def pending_events(self) -> list[dict[str, object]]:
        return self._events.pending()
