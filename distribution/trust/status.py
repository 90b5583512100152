"""How an application's trust stands: each role's keys, version and end, and what somebody should do about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tuf.api.metadata import Metadata, Role, Root, Targets

from distribution.trust.configured import readable_root_keys
from distribution.trust.publisher import has_imported_root, known_keys, latest_version
from distribution.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, days_left, warning_step
from distribution.trust.tree import TIMESTAMP_PATH, SignedTree
from registry.blob_store import blob_store
from registry.models import Application


@dataclass(frozen=True)
class RoleStatus:
    """`keyids`: those that the metadata above names. `warning_days`: the step that was passed, 0 when expired."""

    role: str
    version: int
    keyids: tuple[str, ...]
    threshold: int
    signed_by: tuple[str, ...]
    signed_at: datetime | None
    expires_at: datetime
    days_left: float
    warning_days: int | None
    key_is_wanted: bool


@dataclass(frozen=True)
class TrustStatus:
    roles: tuple[RoleStatus, ...]
    root_signed_here: bool
    warnings: tuple[str, ...]


def trust_status(application: Application, now: datetime) -> TrustStatus:
    roles = tuple(_Reader(application, now).roles())
    signed_here = any(status.role == ROOT for status in roles) and not has_imported_root(application)
    return TrustStatus(roles, signed_here, tuple(_warnings(roles, signed_here=signed_here)))


@dataclass
class _Reader:
    application: Application
    now: datetime

    def __post_init__(self) -> None:
        self.tree = SignedTree(blob_store(), self.application.slug)
        documents = self.application.signed_documents.values_list("role", "version", "signed_at")
        self.signed_at = {(role, version): signed_at for role, version, signed_at in documents}
        self.wanted = {role: key.keyid for role, key in known_keys(self.application).items()}

    def roles(self) -> Iterator[RoleStatus]:
        root = self.tree.root()
        if root is None:
            return
        yield self._status(ROOT, root, root.signed)
        targets = self.tree.targets(TARGETS, latest_version(self.application, TARGETS))
        if targets is not None:
            yield self._status(TARGETS, targets, root.signed)
            yield from self._delegated(targets.signed)
        yield from self._pointers(root.signed)

    def _delegated(self, targets: Targets) -> Iterator[RoleStatus]:
        for name in (targets.delegations.roles or {}) if targets.delegations else {}:
            metadata = self.tree.targets(name, latest_version(self.application, name))
            if metadata is not None:
                yield self._status(name, metadata, targets)

    def _pointers(self, root: Root) -> Iterator[RoleStatus]:
        pointer = self.tree.current()
        if pointer is None:
            return
        for role, path in (
            (SNAPSHOT, self.tree.role_path(SNAPSHOT, pointer.snapshot_version)),
            (TIMESTAMP, TIMESTAMP_PATH),
        ):
            content = self.tree.read(path)
            if content is not None:
                yield self._status(role, Metadata.from_bytes(content), root)

    def _status(self, role: str, metadata: Metadata[Any], delegator: Root | Targets) -> RoleStatus:
        named: Role = delegator.get_delegated_role(role)
        version, expires = metadata.signed.version, metadata.signed.expires
        # The timestamp has no row of its own: it is signed with its snapshot.
        row = (SNAPSHOT, version) if role == TIMESTAMP else (role, version)
        return RoleStatus(
            role=role,
            version=version,
            keyids=tuple(named.keyids),
            threshold=named.threshold,
            signed_by=tuple(metadata.signatures),
            signed_at=self.signed_at.get(row),
            expires_at=expires,
            days_left=days_left(expires, self.now),
            warning_days=warning_step(role, expires, self.now),
            key_is_wanted=self.wanted.get(role, named.keyids[0]) in named.keyids,
        )


def _warnings(roles: tuple[RoleStatus, ...], *, signed_here: bool) -> Iterator[str]:
    for status in roles:
        if status.days_left <= 0:
            yield f"{status.role} {status.version} has expired: devices install nothing new"
        elif status.warning_days is not None:
            who = "a ceremony" if status.role == ROOT else "the publisher"
            yield f"{status.role} {status.version} expires in {status.days_left} days: {who} must sign the next one"
        if not status.key_is_wanted:
            above = "targets" if is_delegated(status.role) else "root"
            yield f"{status.role}: its new key is not named yet; sign the next {above}"
    if signed_here:
        yield "root was signed by this server: move it to keys of people, by a ceremony"
    for place in readable_root_keys():
        yield f"a private key of root can be read by this process: {place}"


def is_delegated(role: str) -> bool:
    return role not in (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
