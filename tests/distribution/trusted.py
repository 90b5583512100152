"""A whole small world of trust on real rows and a real tree: people with keys, the server, the signer, phones."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from aerogram_sdk import AerogramClient, DeviceProfile
from aerogram_sdk.fetcher import TufFetcher
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import Updater

from distribution import publishing, services
from distribution.device_plane.app import create_app
from distribution.device_plane.tree import LocalTree
from distribution.trust import ceremony, imports
from distribution.trust.keys import KeyFolder
from distribution.trust.publisher import known_keys, sign_pending
from distribution.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from distribution.trust.signers import Keyring
from distribution.trust.tree import SignedTree
from registry.blob_store import blob_store
from registry.models import Application, ModelVersion
from tests import factories
from tests.factories import Clock
from tests.sdk.fake_runtime import FakeRuntime, model_file, sanity_file
from tests.sdk.test_device_plane import InProcess
from tests.simulators import MemorySink

ENTRY = "model.tflite"


@dataclass
class World:
    """`people`: private keys that never were on the server. Time is the real one, for clients look at it."""

    folder: Path
    application: Application = field(default_factory=factories.application)
    clock: Clock = field(default_factory=lambda: Clock(datetime.now(UTC).replace(microsecond=0)))
    people: dict[str, CryptoSigner] = field(default_factory=dict)
    uris: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("ann", "bob", "cyd", "dan"):
            self.people[name] = CryptoSigner.generate_ecdsa()

    # -- places

    @property
    def tree(self) -> SignedTree:
        return SignedTree(blob_store(), self.application.slug)

    @property
    def tree_folder(self) -> Path:
        return Path(blob_store().storage.path(f"tree/{self.application.slug}"))

    @property
    def publisher_keys(self) -> Keyring:
        return Keyring({"*/root": ["offline:"], **self.uris}, KeyFolder(self.folder / "publisher"))

    @property
    def root(self) -> Metadata[Root]:
        root = self.tree.root()
        assert root is not None
        return root

    # -- the publisher's and the server's acts

    def begin(self) -> None:
        """Online keys, the publisher's key, and a root that two of three people signed."""
        self.publish()
        targets = self.publisher_keys.signers_or_new(self.application.slug, TARGETS)[0].public_key
        known = known_keys(self.application)
        holders = {
            ROOT: ceremony.Holders([self.people[name].public_key for name in ("ann", "bob", "cyd")], 2),
            TARGETS: ceremony.Holders([targets]),
            SNAPSHOT: ceremony.Holders([known[SNAPSHOT]]),
            TIMESTAMP: ceremony.Holders([known[TIMESTAMP]]),
        }
        self.bring(ceremony.new_root(self.application.slug, holders, self.clock()), "ann", "cyd")
        self.run()

    def bring(self, root: Metadata[Root], *names: str, targets: dict[str, Any] | None = None) -> None:
        for name in names:
            root.sign(self.people[name], append=True)
        imports.import_root(
            application=self.application, root=root.to_dict(), targets=targets, actor="ada", now=self.clock()
        )

    def next_root(self, **changes: ceremony.Holders) -> Metadata[Root]:
        return ceremony.next_root(self.root.signed, changes, self.clock())

    def publish(self) -> Any:
        return publishing.publish_application(self.application, clock=self.clock)

    def sign(self) -> bool:
        return sign_pending(application=self.application, keys=self.publisher_keys, now=self.clock())

    def run(self) -> None:
        self.publish()
        self.sign()
        self.publish()

    def version(self, factor: int, model: str = "digits", padding: int = 0) -> ModelVersion:
        """One whose score is `factor` times the sum of the input."""
        version = factories.version(self.application, model)
        contents = {ENTRY: model_file(factor, padding=padding), "sanity.json": sanity_file(factor)}
        factories.variant(version, "tflite-float32", contents)
        return version

    def release(self, factor: int, model: str = "digits", *, run: bool = True) -> ModelVersion:
        version = self.version(factor, model)
        services.publish(
            channel=self.application.channels.get(), version=version, actor="ada", now=self.clock(), reason=""
        )
        if run:
            self.run()
        return version


class Phones:
    """Phones in front of a device plane that serves some folder of trees."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.tree, self.folder = tree, folder
        self.runtime = FakeRuntime()
        self.start()

    def start(self) -> None:
        self.plane = create_app(LocalTree(self.tree), MemorySink())
        self.http = httpx.Client(transport=InProcess(self.plane))
        self.refresh()

    def restart(self) -> None:
        """A device plane remembers the highest revision it served, as phones do; a new process does not."""
        self.close()
        self.start()

    def refresh(self) -> None:
        asyncio.run(self.plane.refresh())

    def close(self) -> None:
        self.http.close()
        asyncio.run(self.plane.close())

    def phone(self, name: str, root: bytes, **changes: Any) -> AerogramClient:
        arguments = {
            "server": "http://device.plane",
            "application": "demo",
            "channel": "production",
            "root": root,
            "store": self.folder / name,
            "profile": DeviceProfile(os="linux", app_version="1.0", runtime="litert", runtime_version="1.0"),
            "runtimes": {"litert": self.runtime},
            "http": self.http,
        }
        return AerogramClient(**(arguments | changes))

    def stock(self, name: str, root: bytes) -> Updater:
        """python-tuf's own client."""
        folder = self.folder / name
        (folder / "files").mkdir(parents=True, exist_ok=True)
        base = "http://device.plane/v1/apps/demo"
        updater = Updater(
            str(folder / "metadata"),
            f"{base}/trust/",
            str(folder / "files"),
            f"{base}/targets/",
            fetcher=TufFetcher(self.http),
            bootstrap=root,
        )
        updater.refresh()
        return updater


def outcome(phone: AerogramClient) -> tuple[str, int | None, str | None]:
    (found,) = phone.update(["digits"])
    return found.state, found.version, found.error.code if found.error else None


Make = Callable[..., AerogramClient]


def stolen(folder: Path, application: str, role: str) -> CryptoSigner:
    """A copy of a private key that lies on the server."""
    signer = KeyFolder(folder).signer(application, role)
    assert isinstance(signer, CryptoSigner)
    return signer


def document(content: bytes) -> dict[str, Any]:
    return json.loads(content)
