"""The publisher's half of trust: sign `root` and `targets` for what the rows say should be released.

Runs only in the signer process, which alone can read the publisher's keys. It takes no orders over a socket: it reads
what was released, reads every byte again, and signs what it found itself.
"""

import logging
from collections.abc import Iterator
from datetime import datetime

from django.db import transaction
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Role, Root, TargetFile, Targets

from distribution import errors
from distribution.manifest import target_path
from distribution.models import MinimumReleaseCounter, Release, SignedDocument
from distribution.trust.keys import KeyFolder
from distribution.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, catalog_path, expiry, releases_role
from distribution.trust.tree import COMPACT, SignedTree, StoredFile
from registry.blob_store import blob_store
from registry.digests import CHUNK_BYTES, sha256_of_chunks
from registry.models import Application, PublishRequest, VariantFile

logger = logging.getLogger(__name__)


def sign_pending(*, application: Application, keys: KeyFolder, now: datetime) -> bool:
    """Bring `root` and `targets` up to what the rows say. True when something was signed.

    Raises `ReleasedBytesDiffer` when a file is not what was registered; nothing is signed then.
    """
    online = {role.name: Key.from_dict(role.keyid, dict(role.public_key)) for role in application.trust_roles.all()}
    if SNAPSHOT not in online or TIMESTAMP not in online:
        return False  # the control plane has not made its keys yet
    tree = SignedTree(blob_store(), application.slug)
    root_signed = _sign_root(application, tree, keys, online, now)
    targets_signed = _sign_targets(application, tree, keys, online, now)
    return root_signed or targets_signed


def _sign_root(
    application: Application, tree: SignedTree, keys: KeyFolder, online: dict[str, Key], now: datetime
) -> bool:
    signer = keys.signer_or_new(application.slug, ROOT)
    targets_key = keys.signer_or_new(application.slug, TARGETS).public_key
    holders = {
        ROOT: signer.public_key,
        TARGETS: targets_key,
        SNAPSHOT: online[SNAPSHOT],
        TIMESTAMP: online[TIMESTAMP],
    }
    current = tree.root()
    wanted_roles = {role: Role([key.keyid], 1) for role, key in holders.items()}
    if current is not None and current.signed.roles == wanted_roles:
        return _remember_root(application, tree, current)
    root = Root(
        version=current.signed.version + 1 if current else 1,
        expires=expiry(ROOT, now),
        keys={key.keyid: key for key in holders.values()},
        roles=wanted_roles,
        consistent_snapshot=True,
    )
    _write_signed(application, tree, Metadata(root), ROOT, signer, now)
    return True


def _remember_root(application: Application, tree: SignedTree, root: Metadata[Root]) -> bool:
    """A root whose row is missing was written just before a crash; give it its row."""
    path = tree.role_path(ROOT, root.signed.version)
    if application.signed_documents.filter(path=path).exists():
        return False
    stored = tree.write_new(path, tree.read(path) or b"")
    _record(application, stored, ROOT, root.signed.version, root.signed.expires, root.signed.expires)
    return True


def _sign_targets(
    application: Application, tree: SignedTree, keys: KeyFolder, online: dict[str, Key], now: datetime
) -> bool:
    recorded = latest_version(application, TARGETS)
    current = tree.targets(TARGETS, recorded)
    delegations = _delegations(application, online)
    files = dict(_target_files(application, current.signed.targets if current else {}))
    if current is not None and current.signed.targets == files and current.signed.delegations == delegations:
        return False
    version = max(recorded, tree.highest_version(TARGETS)) + 1
    signed = Targets(version=version, expires=expiry(TARGETS, now), targets=files, delegations=delegations)
    _write_signed(application, tree, Metadata(signed), TARGETS, keys.signer(application.slug, TARGETS), now)
    return True


def _delegations(application: Application, online: dict[str, Key]) -> Delegations:
    """One terminating role for each channel whose key the control plane has made; it may sign one path."""
    roles = {}
    for channel in application.channels.all():
        name = releases_role(channel.slug)
        if name in online:
            roles[name] = DelegatedRole(name, [online[name].keyid], 1, True, paths=[catalog_path(channel.slug)])
    return Delegations(keys={online[name].keyid: online[name] for name in roles}, roles=roles)


def _target_files(application: Application, already_signed: dict[str, TargetFile]) -> Iterator[tuple[str, TargetFile]]:
    """Every file of every released version that is not yanked. Files signed before are not read again."""
    minimum = dict(
        MinimumReleaseCounter.objects.filter(model__application=application).values_list("model_id", "value")
    )
    released = Release.objects.filter(channel__application=application, model_version__yanked_at__isnull=True)
    counters = dict(released.values_list("model_version_id", "release_counter"))
    files = VariantFile.objects.filter(variant__version_id__in=counters).select_related(
        "artifact", "variant__version__model"
    )
    for file in files:
        version = file.variant.version
        path = target_path(version.model.slug, version.number, file.variant.name, file.path)
        custom = {
            "model": version.model.slug,
            "model_version": version.number,
            "variant": file.variant.name,
            "release_counter": counters[version.pk],
            "minimum_release_counter": minimum.get(version.model_id, 1),
        }
        known = already_signed.get(path)
        if known is None or known.hashes != {"sha256": file.artifact.sha256}:
            _read_again(file)
        hashes = {"sha256": file.artifact.sha256}
        yield path, TargetFile(file.artifact.size_bytes, hashes, path, {"custom": custom})


def _read_again(file: VariantFile) -> None:
    with blob_store().open(file.artifact.sha256) as stream:
        found = sha256_of_chunks(iter(lambda: stream.read(CHUNK_BYTES), b""))
    if found != (file.artifact.sha256, file.artifact.size_bytes):
        raise errors.ReleasedBytesDiffer(
            f"{file.variant} {file.path}: expected {file.artifact.size_bytes} bytes with sha256 "
            f"{file.artifact.sha256}, got {found[1]} bytes with {found[0]}"
        )


def _write_signed(
    application: Application,
    tree: SignedTree,
    metadata: Metadata[Root] | Metadata[Targets],
    role: str,
    signer: Signer,
    now: datetime,
) -> None:
    metadata.sign(signer)
    version = metadata.signed.version
    stored = tree.write_new(tree.role_path(role, version), metadata.to_bytes(COMPACT))
    _record(application, stored, role, version, metadata.signed.expires, now)
    logger.info("publisher signed: application=%s role=%s version=%s", application.slug, role, version)


def _record(
    application: Application, stored: StoredFile, role: str, version: int, expires_at: datetime, now: datetime
) -> None:
    """The document's row, and the request to publish it: a document without a row was never signed."""
    with transaction.atomic():
        SignedDocument.objects.create(
            application=application,
            role=role,
            version=version,
            path=stored.path,
            sha256=stored.sha256,
            length=stored.length,
            expires_at=expires_at,
            signed_at=now,
        )
        PublishRequest.objects.create(application=application, reason=f"{role} {version} signed", requested_at=now)


def latest_version(application: Application, role: str) -> int:
    """The newest version of a role that has a row, 0 when none has."""
    document = application.signed_documents.filter(role=role).order_by("version").last()
    return document.version if document else 0
