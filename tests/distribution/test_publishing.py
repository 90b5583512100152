"""Publishing on a real database and a real store: what a stock TUF client would see, and what a crash leaves."""

import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from distribution import errors, publishing, services
from distribution.manifest import parse
from distribution.models import Release, Revision
from distribution.trust.keys import KeyFolder
from distribution.trust.publisher import sign_pending
from distribution.trust.tree import SignedTree
from registry.blob_store import LocalBlobStorage, blob_key, blob_store
from registry.models import Application, PublishRequest
from tests import factories
from tests.factories import NOW, Clock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


class Publisher:
    """Both halves of publishing, run by hand."""

    def __init__(self, application: Application, keys: Path) -> None:
        self.application = application
        self.keys = KeyFolder(keys)
        self.clock = Clock()

    def run(self) -> Revision | None:
        """Online half, signer, online half: as the processes would, one after the other."""
        publishing.publish_application(self.application, clock=self.clock)
        sign_pending(application=self.application, keys=self.keys, now=self.clock())
        publishing.publish_application(self.application, clock=self.clock)
        return self.application.revisions.first()

    @property
    def tree(self) -> SignedTree:
        return SignedTree(blob_store(), self.application.slug)

    def catalog(self, channel: str = "production") -> dict:
        pointer = self.tree.current()
        index = self.tree.targets(f"releases-{channel}", pointer.role_versions[f"releases-{channel}"])
        target = index.signed.targets[f"catalogs/{channel}.json"]
        return json.loads(self.tree.read(f"targets/catalogs/{target.hashes['sha256']}.{channel}.json"))

    def manifest(self, model: str = "digits", variant: str = "tflite-float32"):
        entry = self.catalog()["models"][model]
        variants = entry["versions"][str(entry["current"])]["variants"]
        path = next(item["manifest"]["path"] for item in variants if item["name"] == variant)
        return parse(self.tree.read(path))[0]


@pytest.fixture
def publisher(tmp_path, services):
    return Publisher(factories.application(), tmp_path / "publisher")


@pytest.fixture
def channel(publisher):
    return publisher.application.channels.get()


def release(channel, version, **changes):
    return services.publish(channel=channel, version=version, actor="ada", now=NOW, **changes)


def test_the_first_revision_waits_for_the_publisher(publisher):
    assert publishing.publish_application(publisher.application, clock=publisher.clock) is None
    assert publisher.tree.current() is None
    assert publisher.run().number == 1


def test_a_released_version_is_in_the_catalog_with_a_signed_manifest(publisher, channel):
    version = factories.converted_version(publisher.application)
    release(channel, version)
    publisher.run()
    assert publisher.catalog()["models"]["digits"]["current"] == 1
    manifest = publisher.manifest()
    assert (manifest.model_version, manifest.version, manifest.release_counter) == (1, 1, 1)
    assert Release.objects.get().state == Release.State.LIVE


def test_the_chain_of_trust_verifies_with_python_tuf(publisher, channel):
    release(channel, factories.converted_version(publisher.application))
    publisher.run()
    tree, pointer = publisher.tree, publisher.tree.current()
    root = tree.root()
    root.verify_delegate("root", root)
    timestamp = Metadata[Timestamp].from_bytes(tree.read("trust/timestamp.json"))
    snapshot = Metadata[Snapshot].from_bytes(tree.read(f"trust/{pointer.revision}.snapshot.json"))
    targets = tree.targets("targets", pointer.role_versions["targets"])
    index = tree.targets("releases-production", pointer.role_versions["releases-production"])
    for role, metadata in (("timestamp", timestamp), ("snapshot", snapshot), ("targets", targets)):
        root.verify_delegate(role, metadata)
    targets.verify_delegate("releases-production", index)


def test_a_release_waits_until_the_publisher_has_signed_its_files(publisher, channel):
    first = factories.converted_version(publisher.application)
    release(channel, first)
    publisher.run()
    second = factories.converted_version(publisher.application)
    release(channel, second)
    publishing.publish_application(publisher.application, clock=publisher.clock)
    assert publisher.catalog()["models"]["digits"]["current"] == 1
    publisher.run()
    assert publisher.catalog()["models"]["digits"]["current"] == 2
    assert [row.state for row in Release.objects.order_by("id")] == ["superseded", "live"]


def test_a_rollback_is_a_new_higher_manifest_version_and_needs_no_publisher(publisher, channel):
    versions = [factories.converted_version(publisher.application) for _ in range(2)]
    for version in versions:
        release(channel, version)
        publisher.run()
    services.roll_back(channel=channel, model=versions[0].model, actor="ada", now=NOW, reason="worse")
    publishing.publish_application(publisher.application, clock=publisher.clock)
    manifest = publisher.manifest()
    assert (manifest.model_version, manifest.version, manifest.release_counter) == (1, 3, 1)


def test_nothing_changed_makes_no_revision(publisher, channel):
    release(channel, factories.converted_version(publisher.application))
    before = publisher.run()
    services.request_publish(publisher.application, "nothing", NOW)
    assert publisher.run() == before
    assert not PublishRequest.objects.filter(consumed_at__isnull=True).exists()


def test_online_roles_are_signed_again_past_half_their_life(publisher, channel):
    release(channel, factories.converted_version(publisher.application))
    before = publisher.run()
    manifest = publisher.manifest()
    publisher.clock.advance(days=4)
    assert publisher.run().number == before.number + 1
    assert publisher.manifest().version == manifest.version
    publisher.clock.advance(days=4)
    publisher.run()
    assert publisher.manifest().version == manifest.version + 1
    assert publisher.manifest().expires > manifest.expires + timedelta(days=7)


def test_the_publisher_refuses_bytes_that_changed_in_the_store(publisher, channel):
    version = factories.converted_version(publisher.application)
    file = version.variants.get().files.get(role="model")
    path = Path(blob_store().storage.path(blob_key(file.artifact.sha256)))
    path.chmod(0o644)
    path.write_bytes(b"something else")
    release(channel, version)
    publishing.publish_application(publisher.application, clock=publisher.clock)
    with pytest.raises(errors.ReleasedBytesDiffer, match=r"expected .* got"):
        sign_pending(application=publisher.application, keys=publisher.keys, now=NOW)


def test_an_engaged_kill_switch_is_a_signed_directive_and_lifting_serves_again(publisher, channel):
    version = factories.converted_version(publisher.application)
    release(channel, version)
    publisher.run()
    turn = {"channel": channel, "model": version.model, "actor": "ada", "now": NOW, "reason": "wrong labels"}
    services.engage_kill_switch(**turn)
    with pytest.raises(errors.KillSwitchEngaged):
        services.engage_kill_switch(**turn)
    publisher.run()
    entry = publisher.catalog()["models"]["digits"]
    assert parse(publisher.tree.read(entry["kill_switch"]["manifest"]["path"]))[0].directive == "use_embedded"
    services.lift_approved(**turn)
    publisher.run()
    assert publisher.catalog()["models"]["digits"]["kill_switch"] is None


def test_raising_the_minimum_takes_older_releases_out(publisher, channel):
    versions = [factories.converted_version(publisher.application) for _ in range(2)]
    for version in versions:
        release(channel, version)
        publisher.run()
    services.raise_minimum_release_counter(model=versions[0].model, value=2, actor="ada", now=NOW)
    publisher.run()
    services.roll_back(channel=channel, model=versions[0].model, actor="ada", now=NOW)
    publisher.run()
    assert publisher.catalog()["models"]["digits"]["current"] == 2
    with pytest.raises(errors.MinimumWouldFall):
        services.raise_minimum_release_counter(model=versions[0].model, value=2, actor="ada", now=NOW)


def test_a_restored_old_database_never_lowers_a_signed_version(publisher, channel):
    release(channel, factories.converted_version(publisher.application))
    before = publisher.run()
    Revision.objects.all().delete()
    publisher.application.signed_documents.filter(role="snapshot").delete()
    publisher.clock.advance(days=8)
    assert publisher.run().number > before.number


class PowerCut(BaseException):
    """Ends the publisher at a write; BaseException, so that nothing tidies up after it."""


class FaultyStore:
    """Counts the store's writes and cuts the power before or after one of them."""

    WRITES = ("write_new", "replace", "link")

    def __init__(self, monkeypatch, cut_at: int, *, after: bool) -> None:
        self.count = 0
        for name in self.WRITES:
            monkeypatch.setattr(LocalBlobStorage, name, self._faulty(getattr(LocalBlobStorage, name), cut_at, after))

    def _faulty(self, write, cut_at, after):
        def faulty(*arguments):
            self.count += 1
            if self.count == cut_at and not after:
                raise PowerCut
            write(*arguments)
            if self.count == cut_at:
                raise PowerCut

        return faulty


@pytest.mark.parametrize("after", [False, True])
def test_a_power_cut_at_any_write_leaves_the_old_or_the_new_revision_whole(publisher, channel, monkeypatch, after):
    release(channel, factories.converted_version(publisher.application))
    publisher.run()
    for cut_at in range(1, 40):
        version = factories.converted_version(publisher.application)
        old = publisher.catalog()["models"]["digits"]["current"]
        release(channel, version)
        with monkeypatch.context() as patch:
            store = FaultyStore(patch, cut_at, after=after)
            with suppress(PowerCut):
                publisher.run()
        require_whole(publisher, {old, version.number})
        publisher.run()
        require_whole(publisher, {version.number})
        if store.count < cut_at:
            break
    assert 5 < cut_at < 39


class FaultyRows:
    """Counts the statements that change rows and cuts the power before one of them; its transaction is lost."""

    def __init__(self, cut_at: int) -> None:
        self.count, self.cut_at = 0, cut_at

    def __call__(self, execute, sql, params, many, context):
        if sql.split(maxsplit=1)[0] in ("INSERT", "UPDATE", "DELETE"):
            self.count += 1
            if self.count == self.cut_at:
                raise PowerCut
        return execute(sql, params, many, context)


def test_a_power_cut_before_any_row_leaves_the_old_or_the_new_revision_whole(publisher, channel):
    release(channel, factories.converted_version(publisher.application))
    publisher.run()
    for cut_at in range(1, 40):
        version = factories.converted_version(publisher.application)
        old = publisher.catalog()["models"]["digits"]["current"]
        release(channel, version)
        rows = FaultyRows(cut_at)
        with connection.execute_wrapper(rows), suppress(PowerCut):
            publisher.run()
        require_whole(publisher, {old, version.number})
        publisher.run()
        require_whole(publisher, {version.number})
        assert not PublishRequest.objects.filter(consumed_at__isnull=True).exists()
        assert Release.objects.get(state=Release.State.LIVE).model_version == version
        if rows.count < cut_at:
            break
    assert 5 < cut_at < 39


def require_whole(publisher, allowed: set[int]) -> None:
    """Everything the pointer leads to is there and is what it says."""
    pointer = publisher.tree.current()
    assert publisher.catalog()["models"]["digits"]["current"] in allowed
    manifest = publisher.manifest()
    for file in manifest.files.values():
        content = publisher.tree.read(f"blobs/sha256/{file.sha256[:2]}/{file.sha256}")
        assert len(content) == file.length
    targets = publisher.tree.targets("targets", pointer.role_versions["targets"])
    assert isinstance(targets.signed, Targets)
    assert {file.target for file in manifest.files.values()} <= set(targets.signed.targets)
