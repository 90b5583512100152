"""Root and targets that were signed elsewhere: verified as a client would, then stored and published."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets

from distribution import errors
from distribution.models import TrustRole
from distribution.services import request_publish
from distribution.trust.ceremony import (
    VersionNotNext,
    accept_root,
    delegating_to,
    key_document,
    public_keys,
    read,
    refuse_expiry,
    require_signatures,
)
from distribution.trust.expected import Expectation, latest_version
from distribution.trust.publisher import known_keys, record
from distribution.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, is_publishers, lifetime
from distribution.trust.tree import COMPACT, SignedTree
from registry.blob_store import blob_store
from registry.errors import NotFound
from registry.models import Application, AuditEntry

IMPORT_LOCK = 0x41455249  # "AERI", beside the publisher's "AERP"


def import_root(
    *,
    application: Application,
    root: Mapping[str, Any],
    targets: Mapping[str, Any] | None = None,
    actor: str,
    now: datetime,
) -> Metadata[Root]:
    """Take the next root of a ceremony, and targets signed by a key that only this root names.

    Raises `DocumentRefused`, `VersionNotNext`, `SignaturesMissing`, `KeyNotInRoot` or `RootOrphansTargets`.
    """
    with _one_at_a_time(application):
        tree = SignedTree(blob_store(), application.slug)
        previous = tree.root()
        accepted = accept_root(_bytes(root), previous, now, application.slug)
        _require_online_keys(application, accepted.signed)
        sent = _accept_targets(application, TARGETS, targets, accepted.signed, now) if targets else None
        if sent is None:
            _require_targets(application, tree, accepted.signed)
        _store(application, tree, ROOT, accepted, actor, now)
        if sent is not None:
            _store(application, tree, TARGETS, sent, actor, now)
        before = {"version": previous.signed.version} if previous else None
        _audit(application, "import_root", before, _root_facts(accepted.signed), actor, now)
    return accepted


def import_targets(
    *, application: Application, role: str, document: Mapping[str, Any], actor: str, now: datetime
) -> Metadata[Targets]:
    """Take the publisher's targets, or those of one model, signed by `sign-release` elsewhere.

    Raises `DocumentRefused`, `VersionNotNext`, `SignaturesMissing` or `OfflineTargetsRefused`.
    """
    with _one_at_a_time(application):
        tree = SignedTree(blob_store(), application.slug)
        root = tree.root()
        if root is None:
            raise errors.RootNotSigned(f"expected a root of {application} first, there is none yet")
        before = latest_version(application, role)
        accepted = _accept_targets(application, role, document, root.signed, now)
        _store(application, tree, role, accepted, actor, now)
        after = {"version": accepted.signed.version, "files": len(accepted.signed.targets)}
        _audit(application, f"import_{role}", {"version": before}, after, actor, now)
    return accepted


def pending_targets(application: Application, role: str, now: datetime) -> Metadata[Targets]:
    """The role's next version as the rows would have it, unsigned: what `sign-release` signs elsewhere."""
    return Metadata(_expectation(application, role).document(role, now))


def tell_key(*, application: Application, role: str, document: Mapping[str, Any], actor: str, now: datetime) -> Key:
    """Note the public key of one of the publisher's roles, for those who prepare a root or targets.

    It changes nothing by itself: only a signature of root, or of targets, gives a key its power.
    """
    if not is_publishers(role):
        raise errors.RoleHeldHere(f"expected targets or a role of a model, got {role}: its key is made by the server")
    key = next(iter(public_keys(_bytes(document)).values()))
    with transaction.atomic():
        known = application.trust_roles.filter(name=role).first()
        TrustRole.objects.update_or_create(
            application=application, name=role, defaults={"keyid": key.keyid, "public_key": key.to_dict()}
        )
        before = {"keyid": known.keyid} if known else None
        _audit(application, "tell_key", before, {"role": role, "keyid": key.keyid}, actor, now)
    return key


def keys_document(application: Application) -> dict[str, Any]:
    """The public keys that a root names, by role: those the server holds, and those it was told."""
    keys = {role: key_document(key) for role, key in known_keys(application).items()}
    return {"application": application.slug, "keys": keys}


def _accept_targets(
    application: Application,
    role: str,
    document: Mapping[str, Any],
    root: Root,
    now: datetime,
) -> Metadata[Targets]:
    expectation = _expectation(application, role)
    metadata = read(_bytes(document), Targets)
    expected = expectation.document(role, now)
    if metadata.signed.version != expected.version:
        raise VersionNotNext(f"{role}: expected version {expected.version}, got {metadata.signed.version}")
    refuse_expiry(role, metadata.signed.expires, now, lifetime(role) + timedelta(days=1))
    if role == TARGETS:
        require_signatures(f"root {root.version}", root, role, metadata)
    else:
        _require_model_key(expectation.keys[role], role, metadata)
    present = expectation.present(role)
    _refuse_other_content(metadata.signed, expected, present.signed if present else None)
    return metadata


def _expectation(application: Application, role: str) -> Expectation:
    """Raises `NotFound` for a model that nobody delegated."""
    keys = known_keys(application)
    if role != TARGETS and role not in keys:
        raise NotFound(f"expected targets or the role of a delegated model, got {role!r}", field="role")
    return Expectation(application, SignedTree(blob_store(), application.slug), keys)


def _require_model_key(key: Key, role: str, metadata: Metadata[Targets]) -> None:
    require_signatures(f"the key {key.keyid}", delegating_to(role, key), role, metadata)


def _refuse_other_content(signed: Targets, expected: Targets, present: Targets | None) -> None:
    """Nothing that the rows do not say, and nothing left out that devices may have. New files may be left out: their
    release waits.
    """
    other = [path for path, target in signed.targets.items() if expected.targets.get(path) != target]
    if other:
        raise errors.OfflineTargetsRefused(f"expected the files of released versions, got other words on {other[0]}")
    dropped = [path for path in (present.targets if present else {}) if _is_missing(path, signed, expected)]
    if dropped:
        raise errors.OfflineTargetsRefused(f"expected what devices may have, as {dropped[0]}; yank it to withdraw it")
    if signed.delegations != expected.delegations:
        raise errors.OfflineTargetsRefused("expected the delegations of the exported document, got others")


def _is_missing(path: str, signed: Targets, expected: Targets) -> bool:
    return path in expected.targets and path not in signed.targets


def _require_online_keys(application: Application, root: Root) -> None:
    known = known_keys(application)
    for role in (SNAPSHOT, TIMESTAMP):
        held = known.get(role)
        if held is None or held.keyid not in root.roles[role].keyids or root.roles[role].threshold != 1:
            raise errors.KeyNotInRoot(
                f"root {root.version}: expected {role} to be signed by the server's key "
                f"{held.keyid if held else '(not made yet)'} alone, got {root.roles[role].keyids}"
            )


def _require_targets(application: Application, tree: SignedTree, root: Root) -> None:
    """What devices have must stay believable from one root to the next."""
    current = tree.targets(TARGETS, latest_version(application, TARGETS))
    if current is None:
        return
    result = root.get_verification_result(TARGETS, current.signed_bytes, current.signatures)
    if not result.verified:
        raise errors.RootOrphansTargets(
            f"root {root.version}: expected targets {current.signed.version} to be signed by {result.threshold} of "
            f"its keys, got {len(result.signed)}; sign targets with the new key first, or send them along"
        )


def _store(
    application: Application, tree: SignedTree, role: str, metadata: Metadata[Any], actor: str, now: datetime
) -> None:
    """The bytes are python-tuf's again: what a parser left out of account never reaches a phone."""
    stored = tree.write_new(tree.role_path(role, metadata.signed.version), metadata.to_bytes(COMPACT))
    record(application, stored, role, metadata.signed, now, imported_by=actor)


def _audit(application: Application, verb: str, before: Any, after: dict[str, Any], actor: str, now: datetime) -> None:
    AuditEntry.record(
        now=now, actor=actor, verb=verb, subject=str(application), application=application, before=before, after=after
    )
    request_publish(application, verb, now)


def _root_facts(root: Root) -> dict[str, Any]:
    roles = {name: {"keyids": role.keyids, "threshold": role.threshold} for name, role in root.roles.items()}
    return {"version": root.version, "roles": roles}


@contextmanager
def _one_at_a_time(application: Application) -> Iterator[None]:
    """One import of an application after the other, in one transaction."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [IMPORT_LOCK, application.pk])
        yield


def _bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()
