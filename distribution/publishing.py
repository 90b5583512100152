"""Publishing: compile, sign with the online keys, store, then flip the one pointer.

Order of writes, each able to be the last one before a power cut:
    1. blobs, manifests, catalogs                 immutable, named by digest or version, unseen by anybody
    2. releases-<channel>, snapshot               immutable, named by version, unseen by anybody
    3. the Revision row, committed                a fence: from here on an older publisher must not write
    4. timestamp.json, replaced atomically        devices see the new revision, whole
    5. the requests marked as consumed            until then the next run publishes again

Killed anywhere, the tree is at the old revision or the new one. Numbers start above both the rows and the tree, so
neither a file that a crash left nor an old database that was restored lowers a signed version.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from distribution import errors
from distribution.catalog import Catalog, CatalogModel, CatalogVariant, Reference
from distribution.compiling import ModelPlan, plan_channel, with_version
from distribution.manifest import canonical_bytes, envelope, manifest_path
from distribution.models import ManifestSet, Release, Revision, SignedDocument, TrustRole
from distribution.trust.keys import KeyFolder
from distribution.trust.publisher import latest_version
from distribution.trust.roles import (
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    catalog_path,
    expiry,
    is_past_half_life,
    releases_role,
)
from distribution.trust.tree import COMPACT, SignedTree, StoredFile, TreePointer
from registry.blob_store import blob_store
from registry.models import Application, Channel, PublishRequest

logger = logging.getLogger(__name__)
PUBLISH_LOCK = 0x41455250  # "AERP": the first half of the advisory lock's key, the application's id is the second
Clock = Callable[[], datetime]


def publish_application(application: Application, *, clock: Clock) -> Revision | None:
    """Bring the application's tree up to what its rows say. Returns the new revision, or None when nothing changed.

    One at a time for each application. Does nothing but wait for the publisher while it has not signed the
    application's root and targets.
    """
    with _publish_lock(application):
        requests = list(application.publish_requests.filter(consumed_at__isnull=True).values_list("pk", flat=True))
        ensure_online_roles(application)
        run = _Run.begin(application, clock())
        if run is None:
            return None
        revision = run.prepare()
        if revision is not None:
            run.flip(revision, clock())
        PublishRequest.objects.filter(pk__in=requests).update(consumed_at=clock())
        return revision


def ensure_online_roles(application: Application) -> None:
    """Make the keys of online roles that have none yet, and tell the publisher their public halves."""
    keys = KeyFolder(settings.AEROGRAM_ONLINE_KEYS_DIR)
    channels = application.channels.values_list("slug", flat=True)
    known = set(application.trust_roles.values_list("name", flat=True))
    for name in (SNAPSHOT, TIMESTAMP, *map(releases_role, channels)):
        if name not in known:
            public_key = keys.signer_or_new(application.slug, name).public_key
            TrustRole.objects.create(
                application=application, name=name, keyid=public_key.keyid, public_key=public_key.to_dict()
            )


@contextmanager
def _publish_lock(application: Application) -> Iterator[None]:
    """Held by the database session, so that it falls with a publisher that dies."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [PUBLISH_LOCK, application.pk])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [PUBLISH_LOCK, application.pk])


@dataclass
class _Run:
    """One attempt at a revision: what it read at the start and what it has signed so far."""

    application: Application
    now: datetime
    tree: SignedTree
    keys: KeyFolder
    before: TreePointer | None
    targets: Metadata[Targets]
    documents: list[SignedDocument] = field(default_factory=list)
    manifest_sets: list[ManifestSet] = field(default_factory=list)
    live: dict[int, set[int]] = field(default_factory=dict)

    @classmethod
    def begin(cls, application: Application, now: datetime) -> "_Run | None":
        tree = SignedTree(blob_store(), application.slug)
        targets = tree.targets(TARGETS, latest_version(application, TARGETS))
        if targets is None or tree.root() is None:
            return None
        keys = KeyFolder(settings.AEROGRAM_ONLINE_KEYS_DIR)
        return cls(application, now, tree, keys, tree.current(), targets)

    def prepare(self) -> Revision | None:
        """Write everything but the pointer and commit the fence. None when the tree says it all already."""
        meta = {f"{TARGETS}.json": self._meta_file(TARGETS, self.targets.signed.version)}
        for channel in self.application.channels.all():
            role = releases_role(channel.slug)
            if self._is_delegated(role):
                meta[f"{role}.json"] = self._meta_file(role, self._publish_channel(channel))
        versions = {name.removesuffix(".json"): entry.version for name, entry in meta.items()}
        if self._is_current(versions):
            return None
        for target in self.targets.signed.targets.values():
            self.tree.link_blob(target.hashes["sha256"])
        number = self._next_number()
        self._sign(Metadata(Snapshot(version=number, expires=expiry(SNAPSHOT, self.now), meta=meta)), SNAPSHOT)
        return self._commit(number)

    def flip(self, revision: Revision, now: datetime) -> None:
        """Write the pointer, unless a later revision has been prepared since."""
        newest = self.application.revisions.order_by("number").last()
        if newest != revision:
            raise errors.RevisionOvertaken(f"expected {revision} to be the newest, found {newest}")
        snapshot = self._meta_file(SNAPSHOT, revision.number)
        timestamp = Metadata(
            Timestamp(version=revision.number, expires=expiry(TIMESTAMP, self.now), snapshot_meta=snapshot)
        )
        timestamp.sign(self.keys.signer(self.application.slug, TIMESTAMP))
        self.tree.write_timestamp(timestamp.to_bytes(COMPACT))
        Revision.objects.filter(pk=revision.pk).update(published_at=now)
        logger.info("revision published: application=%s revision=%s", self.application.slug, revision.number)

    def _publish_channel(self, channel: Channel) -> int:
        """Write the channel's manifests, catalog and release index; returns the index' version."""
        plans = plan_channel(channel, self.targets.signed.targets)
        self.live[channel.pk] = {plan.current.pk for plan in plans if plan.current}
        models = {plan.model.slug: self._catalog_model(channel, plan) for plan in plans}
        catalog = Catalog(
            application=self.application.slug,
            channel=channel.slug,
            poll_after_seconds=settings.AEROGRAM_POLL_AFTER_SECONDS,
            device_classes=tuple(rule.as_rule() for rule in self.application.device_classes.all()),
            models=models,
        )
        return self._publish_catalog(channel, catalog)

    def _publish_catalog(self, channel: Channel, catalog: Catalog) -> int:
        role, path = releases_role(channel.slug), catalog_path(channel.slug)
        content = canonical_bytes(catalog.to_json())
        target = TargetFile.from_data(path, content, ["sha256"])
        versions = {name: model.manifest_version for name, model in catalog.models.items()}
        target.unrecognized_fields = {"custom": {"manifest_versions": versions}}
        before = self.before.role_versions.get(role) if self.before else None
        current = self.tree.targets(role, before) if before else None
        if (
            current is not None
            and current.signed.targets == {path: target}
            and not is_past_half_life(role, current.signed.expires, self.now)
        ):
            return current.signed.version
        self.tree.write_new(f"targets/catalogs/{target.hashes['sha256']}.{channel.slug}.json", content)
        version = self._next_version(role)
        self._sign(Metadata(Targets(version=version, expires=expiry(role, self.now), targets={path: target})), role)
        return version

    def _catalog_model(self, channel: Channel, plan: ModelPlan) -> CatalogModel:
        manifests = self._manifest_set(channel, plan)
        references = {path: Reference(**entry) for path, entry in manifests.references.items()}
        variants = tuple(
            CatalogVariant(
                name=manifest.variant or "",
                runtime=manifest.runtime,
                min_runtime_version=manifest.min_runtime,
                manifest=references[with_version(manifest, version=manifests.version, expires=self.now).path],
            )
            for manifest in plan.manifests
            if manifest.directive == "install"
        )
        number = plan.current.model_version.number if plan.current else None
        kill_path = manifest_path(channel.slug, plan.model.slug, manifests.version, None, None)
        return CatalogModel(
            manifest_version=manifests.version,
            current=number,
            versions={number: variants} if number is not None else {},
            kill_switch=references[kill_path] if plan.is_killed else None,
        )

    def _manifest_set(self, channel: Channel, plan: ModelPlan) -> ManifestSet:
        """The manifests as they were signed before, or signed anew with the next version."""
        role = releases_role(channel.slug)
        known = ManifestSet.objects.filter(channel=channel, model=plan.model).first()
        if known and known.fingerprint == plan.fingerprint and not is_past_half_life(role, known.expires_at, self.now):
            return known
        version = max(known.version if known else 0, self.tree.highest_manifest_version(channel.slug, plan.model.slug))
        row = known or ManifestSet(channel=channel, model=plan.model)
        row.version, row.fingerprint, row.expires_at = version + 1, plan.fingerprint, expiry(role, self.now)
        row.references = {}
        signer = self.keys.signer(self.application.slug, role)
        for manifest in plan.manifests:
            versioned = with_version(manifest, version=row.version, expires=row.expires_at)
            signed = versioned.to_signed()
            signature = signer.sign(canonical_bytes(signed))
            content = envelope(signed, [{"keyid": signature.keyid, "sig": signature.signature}])
            stored = self.tree.write_new(versioned.path, content)
            row.references[stored.path] = {"path": stored.path, "sha256": stored.sha256, "length": stored.length}
        self.manifest_sets.append(row)
        return row

    def _commit(self, number: int) -> Revision:
        """The fence: rows of this revision, all or none."""
        with transaction.atomic():
            for row in self.manifest_sets:
                row.save()
            SignedDocument.objects.bulk_create(self.documents)
            for channel_id, live in self.live.items():
                _move_releases(channel_id, live, number)
            reasons = self.application.publish_requests.filter(consumed_at__isnull=True).values_list(
                "reason", flat=True
            )
            return Revision.objects.create(
                application=self.application, number=number, prepared_at=self.now, reason=", ".join(reasons)
            )

    def _sign(self, metadata: "Metadata[Targets] | Metadata[Snapshot]", role: str) -> None:
        metadata.sign(self.keys.signer(self.application.slug, role))
        version = metadata.signed.version
        stored = self.tree.write_new(self.tree.role_path(role, version), metadata.to_bytes(COMPACT))
        self.documents.append(self._document(stored, role, version, metadata.signed.expires))

    def _document(self, stored: StoredFile, role: str, version: int, expires_at: datetime) -> SignedDocument:
        return SignedDocument(
            application=self.application,
            role=role,
            version=version,
            path=stored.path,
            sha256=stored.sha256,
            length=stored.length,
            expires_at=expires_at,
            signed_at=self.now,
        )

    def _meta_file(self, role: str, version: int) -> MetaFile:
        content = self.tree.read(self.tree.role_path(role, version))
        assert content is not None, f"{role} {version} was written a moment ago"
        return MetaFile.from_data(version, content, ["sha256"])

    def _is_delegated(self, role: str) -> bool:
        delegations = self.targets.signed.delegations
        return delegations is not None and role in (delegations.roles or {})

    def _is_current(self, versions: dict[str, int]) -> bool:
        before = self.before
        return (
            before is not None
            and before.role_versions == versions
            and before.revision == self._newest_revision()
            and not is_past_half_life(TIMESTAMP, before.timestamp_expires_at, self.now)
            and not is_past_half_life(SNAPSHOT, before.snapshot_expires_at, self.now)
        )

    def _newest_revision(self) -> int:
        newest = self.application.revisions.order_by("number").last()
        return newest.number if newest else 0

    def _next_version(self, role: str) -> int:
        return max(latest_version(self.application, role), self.tree.highest_version(role)) + 1

    def _next_number(self) -> int:
        stored = self.before.revision if self.before else 0
        return max(self._newest_revision(), stored, self.tree.highest_version(SNAPSHOT)) + 1


def _move_releases(channel_id: int, live: set[int], revision: int) -> None:
    """States follow what is published: the chosen become live, what they replaced is superseded."""
    releases = Release.objects.filter(channel_id=channel_id)
    releases.filter(pk__in=live).exclude(state=Release.State.LIVE).update(
        state=Release.State.LIVE, live_revision=revision
    )
    releases.filter(state=Release.State.LIVE).exclude(pk__in=live).update(state=Release.State.SUPERSEDED)
