"""Publishing: compile, sign with the online keys, store, then flip the one pointer.

Order of writes, each able to be the last one before a power cut:
    1. blobs, manifests, catalogs                 immutable, named by digest or version, unseen by anybody
    2. releases-<channel>, snapshot               immutable, named by version, unseen by anybody
    3. the Revision row, committed                a fence: from here on an older publisher must not write
    4. timestamp.json, replaced atomically        devices see the new revision, whole
    5. which releases are live, and with them     only now devices see them; what follows is published
       the controls of rollouts                   by the next run
    6. the requests marked as consumed            until then the next run publishes again

Killed anywhere, the tree is at the old revision or the new one. Numbers start above both the rows and the tree, so
neither a file that a crash left nor an old database that was restored lowers a signed version.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets

from distribution import errors
from distribution.announcing import announce_releases
from distribution.arms import follow_releases
from distribution.channel_publishing import ChannelPublisher
from distribution.models import Release, Revision, SignedDocument, TrustRole
from distribution.revision_hints import announce_revision
from distribution.trust.configured import online_keys
from distribution.trust.expected import signed_model_roles
from distribution.trust.online import OnlineSigner
from distribution.trust.publisher import latest_version
from distribution.trust.roles import (
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    expiry,
    is_past_half_life,
    is_timestamp_due,
    releases_role,
)
from distribution.trust.tree import SignedTree, TreePointer
from registry.blob_store import blob_store
from registry.locks import session_lock
from registry.models import Application, PublishRequest

logger = logging.getLogger(__name__)
PUBLISH_LOCK = 0x41455250  # "AERP": the first half of the advisory lock's key, the application's id is the second
Clock = Callable[[], datetime]


def publish_application(application: Application, *, clock: Clock) -> Revision | None:
    """Bring the application's tree up to what its rows say. Returns the new revision, or None when nothing changed.

    One at a time for each application. Does nothing but wait for the publisher while it has not signed the
    application's root and targets.
    """
    with session_lock(PUBLISH_LOCK, application.pk):
        requests = list(application.publish_requests.filter(consumed_at__isnull=True).values_list("pk", flat=True))
        ensure_online_roles(application)
        run = _Run.begin(application, clock())
        if run is None:
            return None
        revision = run.prepare()
        if revision is not None:
            run.flip(revision)
            announce_revision(application.slug, revision.number)
        run.settle(clock())
        follow_releases(application, clock())
        PublishRequest.objects.filter(pk__in=requests).update(consumed_at=clock())
        return revision


def ensure_online_roles(application: Application) -> None:
    """Make the keys of online roles that have none yet, and tell the publisher the wanted ones' public halves."""
    keys = online_keys()
    channels = application.channels.values_list("slug", flat=True)
    known = dict(application.trust_roles.values_list("name", "keyid"))
    for name in (SNAPSHOT, TIMESTAMP, *map(releases_role, channels)):
        # A key that there was and that is gone is trouble, and no reason to make another one.
        find = keys.signers if name in known else keys.signers_or_new
        public_key = find(application.slug, name)[0].public_key
        if known.get(name) != public_key.keyid:
            TrustRole.objects.update_or_create(
                application=application,
                name=name,
                defaults={"keyid": public_key.keyid, "public_key": public_key.to_dict()},
            )


@dataclass
class _Run:
    """One attempt at a revision: what it read at the start and what it has signed so far."""

    application: Application
    signer: OnlineSigner
    before: TreePointer | None
    root: Root
    targets: Targets
    models: dict[str, Targets] = field(default_factory=dict)
    channels: list[ChannelPublisher] = field(default_factory=list)

    @classmethod
    def begin(cls, application: Application, now: datetime) -> "_Run | None":
        """None while the publisher has not signed the application's root and targets."""
        tree = SignedTree(blob_store(), application.slug)
        targets: Metadata[Targets] | None = tree.targets(TARGETS, latest_version(application, TARGETS))
        root = tree.root()
        if targets is None or root is None:
            return None
        signer = OnlineSigner(application, now, tree, online_keys())
        models = signed_model_roles(application, tree, targets.signed)
        return cls(application, signer, tree.current(), root.signed, targets.signed, models)

    def prepare(self) -> Revision | None:
        """Write everything but the pointer and commit the fence. None when the tree says it all already."""
        meta = self._publish_roles()
        if self._is_current({name.removesuffix(".json"): entry.version for name, entry in meta.items()}):
            return None
        for target in self._signed_files().values():
            self.signer.tree.link_blob(target.hashes["sha256"])
        number = self._next_number()
        expires = expiry(SNAPSHOT, self.signer.now)
        self.signer.metadata(Snapshot(version=number, expires=expires, meta=meta), SNAPSHOT)
        return self._commit(number)

    def flip(self, revision: Revision) -> None:
        """Write the pointer, unless a later revision has been prepared since."""
        newest = self.application.revisions.order_by("number").last()
        if newest != revision:
            raise errors.RevisionOvertaken(f"expected {revision} to be the newest, found {newest}")
        timestamp = self.signer.timestamp(revision.number)
        self._require_trusted(TIMESTAMP, timestamp)
        self._require_trusted(SNAPSHOT, self.signer.tree.read(self.signer.tree.role_path(SNAPSHOT, revision.number)))
        self.signer.tree.write_timestamp(timestamp)
        logger.info("revision published: application=%s revision=%s", self.application.slug, revision.number)

    def settle(self, now: datetime) -> None:
        """Let the rows say what the tree says, also for a run that was killed after its last write."""
        pointer = self.signer.tree.current()
        assert pointer is not None, "the pointer was written, or found current, a moment ago"
        with transaction.atomic():
            for publisher in self.channels:
                became_live = _move_releases(publisher.channel.pk, publisher.live, pointer.revision)
                announce_releases(publisher.channel, became_live, now)
            self.application.revisions.filter(number=pointer.revision, published_at__isnull=True).update(
                published_at=now
            )

    def _signed_files(self) -> dict[str, TargetFile]:
        """All that the publisher has signed, by himself or by the roles of models he delegated to."""
        delegated = {path: file for model in self.models.values() for path, file in model.targets.items()}
        return {**self.targets.targets, **delegated}

    def _require_trusted(self, role: str, content: bytes | None) -> None:
        """A pointer that no client would believe must not replace one that clients believe."""
        document = Metadata[Snapshot].from_bytes(content or b"")
        try:
            self.root.verify_delegate(role, document.signed_bytes, document.signatures)
        except UnsignedMetadataError as error:
            raise errors.KeyNotInRoot(
                f"{role}: expected root {self.root.version} to name a key that this server holds: {error}"
            ) from error

    def _publish_roles(self) -> dict[str, MetaFile]:
        """What the snapshot lists: the publisher's targets, and the release index of each channel it delegated to."""
        meta = {f"{TARGETS}.json": self.signer.meta_file(TARGETS, self.targets.version)}
        for role, model in self.models.items():
            meta[f"{role}.json"] = self.signer.meta_file(role, model.version)
        signed_files = self._signed_files()
        delegated = (self.targets.delegations.roles or {}) if self.targets.delegations else {}
        for channel in self.application.channels.select_related("application"):
            if releases_role(channel.slug) in delegated:
                publisher = ChannelPublisher(channel, self.signer, self.before)
                version = publisher.publish(signed_files)
                meta[f"{publisher.role}.json"] = self.signer.meta_file(publisher.role, version)
                self.channels.append(publisher)
        return meta

    def _commit(self, number: int) -> Revision:
        """The fence: rows of this revision, all or none."""
        with transaction.atomic():
            for publisher in self.channels:
                for row in publisher.manifest_sets:
                    row.save()
            SignedDocument.objects.bulk_create(self.signer.documents)
            pending = self.application.publish_requests.filter(consumed_at__isnull=True)
            return Revision.objects.create(
                application=self.application,
                number=number,
                prepared_at=self.signer.now,
                reason=", ".join(pending.values_list("reason", flat=True)),
            )

    def _is_current(self, versions: dict[str, int]) -> bool:
        before, now = self.before, self.signer.now
        return (
            before is not None
            and before.role_versions == versions
            and before.revision == self._newest_revision()
            and before.timestamp_keyids == set(self.signer.keyids(TIMESTAMP))
            and before.snapshot_keyids == set(self.signer.keyids(SNAPSHOT))
            and not is_timestamp_due(before.timestamp_expires_at, now)
            and not is_past_half_life(SNAPSHOT, before.snapshot_expires_at, now)
        )

    def _newest_revision(self) -> int:
        newest = self.application.revisions.order_by("number").last()
        return newest.number if newest else 0

    def _next_number(self) -> int:
        stored = self.before.revision if self.before else 0
        return max(self._newest_revision(), stored, self.signer.tree.highest_version(SNAPSHOT)) + 1


def _move_releases(channel_id: int, live: set[int], revision: int) -> list[int]:
    """States follow what is published: the chosen become live, what they replaced is superseded. Ids of the former."""
    releases = Release.objects.filter(channel_id=channel_id)
    waiting = releases.filter(pk__in=live).exclude(state=Release.State.LIVE)
    became_live = list(waiting.values_list("pk", flat=True))
    waiting.update(state=Release.State.LIVE, live_revision=revision)
    releases.filter(state=Release.State.LIVE).exclude(pk__in=live).update(state=Release.State.SUPERSEDED)
    return became_live
