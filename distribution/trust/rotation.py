"""Replacing the keys that this server holds itself: one step here, one above, and the old key is forgotten."""

from datetime import datetime

from django.db import transaction

from distribution.errors import KeyNotInRoot
from distribution.services import request_publish
from distribution.trust.configured import online_keys
from distribution.trust.expected import latest_version
from distribution.trust.keys import KeyFolder, KeyUnreadable
from distribution.trust.roles import SNAPSHOT, TARGETS, TIMESTAMP, releases_role
from distribution.trust.tree import SignedTree
from registry.blob_store import blob_store
from registry.errors import NotFound
from registry.models import Application, AuditEntry


def rotate_online_key(*, application: Application, role: str, actor: str, now: datetime) -> str:
    """Make a new key; both sign from the next publishing on. Returns the new key's id.

    Then root (for snapshot and timestamp) or targets (for releases) must name it. Raises `NotFound` or `KeyUnreadable`.
    """
    folder = _folder(application, role)
    old = folder.signer(application.slug, role).public_key.keyid
    new = str(folder.replace(application.slug, role).public_key.keyid)
    _record(application, "rotate_online_key", {"role": role, "keyid": old}, {"role": role, "keyid": new}, actor, now)
    return new


def forget_retired_keys(*, application: Application, role: str, actor: str, now: datetime) -> int:
    """Delete what was replaced; how many keys. Raises `KeyNotInRoot` while devices know only the old one."""
    folder = _folder(application, role)
    wanted = folder.signer(application.slug, role).public_key.keyid
    named = _named(application, role)
    if wanted not in named:
        raise KeyNotInRoot(f"{role}: expected its new key {wanted} to be named above first, got {named}")
    count = folder.forget(application.slug, role)
    after = {"role": role, "keyid": wanted, "forgotten": count}
    _record(application, "forget_retired_keys", None, after, actor, now)
    return count


def _folder(application: Application, role: str) -> KeyFolder:
    roles = [SNAPSHOT, TIMESTAMP, *(releases_role(channel.slug) for channel in application.channels.all())]
    if role not in roles:
        raise NotFound(f"expected one of {', '.join(roles)}, got {role!r}", field="role")
    keys = online_keys()
    if keys.uris_for(application.slug, role) or keys.folder is None:
        raise KeyUnreadable(
            f"{role}: expected a key in AEROGRAM_ONLINE_KEYS_DIR; put the new signer before the present one in "
            "AEROGRAM_SIGNERS instead"
        )
    return keys.folder


def _named(application: Application, role: str) -> list[str]:
    """Keys that the published metadata above a role names."""
    tree = SignedTree(blob_store(), application.slug)
    root = tree.root()
    if root is None:
        return []
    if role in (SNAPSHOT, TIMESTAMP):
        return list(root.signed.roles[role].keyids)
    targets = tree.targets(TARGETS, latest_version(application, TARGETS))
    roles = (targets.signed.delegations.roles or {}) if targets and targets.signed.delegations else {}
    return list(roles[role].keyids) if role in roles else []


def _record(
    application: Application,
    verb: str,
    before: dict[str, str] | None,
    after: dict[str, object],
    actor: str,
    now: datetime,
) -> None:
    with transaction.atomic():
        AuditEntry.record(
            now=now,
            actor=actor,
            verb=verb,
            subject=str(application),
            application=application,
            before=before,
            after=after,
        )
        request_publish(application, verb, now)
