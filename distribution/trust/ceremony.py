"""Root and targets as files: made, signed and judged where no server is. Pure.

A ceremony passes one JSON file from hand to hand. Whoever prepares it decides what it says; each holder of a key looks
at it and adds one signature; the server takes it once the threshold is reached, by the rules of the TUF specification.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import Key, Signer, SSlibKey
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Role, Root, Targets
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from distribution.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, expiry
from registry.errors import Conflict, Invalid

TOP_ROLES: Final = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
MOST_BYTES: Final = 4 << 20
# Longer than this nobody would notice that the ceremony's people or disks are gone.
LONGEST_ROOT: Final = timedelta(days=3 * 366)
APPLICATION: Final = "application"
READABLE: Final = JSONSerializer(compact=False)


class DocumentRefused(Invalid):
    """A root or targets document is not of the right form, or says what it may not say."""

    code = "document_refused"


class SignaturesMissing(Invalid):
    """Fewer valid signatures than a threshold asks for."""

    code = "signatures_missing"


class VersionNotNext(Conflict):
    """Another document took this one's place, or one before it is missing."""

    code = "version_not_next"


@dataclass(frozen=True)
class Holders:
    """Keys of one role and how many of them must sign."""

    keys: Sequence[Key]
    threshold: int = 1

    def as_role(self, name: str) -> Role:
        """Raises `DocumentRefused` when the threshold cannot be met."""
        keyids = [key.keyid for key in self.keys]
        if len(set(keyids)) < len(keyids):
            raise DocumentRefused(f"{name}: expected different keys, got one twice")
        if not 1 <= self.threshold <= len(keyids):
            raise DocumentRefused(f"{name}: expected a threshold of 1 to {len(keyids)}, got {self.threshold}")
        return Role(keyids, self.threshold)


def new_root(
    application: str, holders: Mapping[str, Holders], now: datetime, days: int | None = None
) -> Metadata[Root]:
    """Root 1, unsigned, good for `days` or a root's usual life. Raises `DocumentRefused`."""
    if set(holders) != set(TOP_ROLES):
        raise DocumentRefused(f"expected keys of {', '.join(TOP_ROLES)}, got {', '.join(sorted(holders))}")
    return _root(1, holders, now, days, {APPLICATION: application})


def next_root(current: Root, changes: Mapping[str, Holders], now: datetime, days: int | None = None) -> Metadata[Root]:
    """Root N+1, unsigned: other keys for the roles in `changes`, the rest as it is. Raises `DocumentRefused`."""
    holders = {name: changes.get(name) or holders_of(current, name) for name in TOP_ROLES}
    return _root(current.version + 1, holders, now, days, dict(current.unrecognized_fields))


def _root(
    version: int, holders: Mapping[str, Holders], now: datetime, days: int | None, beside: dict[str, Any]
) -> Metadata[Root]:
    root = Root(
        version=version,
        expires=expiry(ROOT, now) if days is None else now.replace(microsecond=0) + timedelta(days=days),
        keys={key.keyid: key for holder in holders.values() for key in holder.keys},
        roles={name: holder.as_role(name) for name, holder in holders.items()},
        consistent_snapshot=True,
        unrecognized_fields=beside,
    )
    return Metadata(root)


def holders_of(root: Root, role: str) -> Holders:
    return Holders([root.keys[keyid] for keyid in root.roles[role].keyids], root.roles[role].threshold)


def changed_holders(current: Holders, *, add: Sequence[Key], remove: Iterable[str], threshold: int | None) -> Holders:
    """Keys added and taken away, the latter by the first characters of their ids. Raises `DocumentRefused`.

    `threshold`: None for the one there is.
    """
    left = list(current.keys)
    for prefix in remove:
        found = [key for key in left if prefix and key.keyid.startswith(prefix)]
        if len(found) != 1:
            raise DocumentRefused(f"expected the beginning of one key's id, got {prefix!r}, which fits {len(found)}")
        left.remove(found[0])
    return Holders([*left, *add], current.threshold if threshold is None else threshold)


def sign(document: Metadata[Any], signer: Signer, *, allowed: Iterable[str]) -> str:
    """Add one signature; the others stay. Returns the key's id. Raises `DocumentRefused` for a key of no holder."""
    keyid = signer.public_key.keyid
    if keyid not in set(allowed):
        raise DocumentRefused(f"expected a key that the document needs, got {keyid}")
    document.sign(signer, append=True)
    return keyid


def root_signers(new: Root, previous: Root | None) -> set[str]:
    """Keys whose signatures count under a new root: its own, and those of the one before it."""
    return set(new.roles[ROOT].keyids) | (set(previous.roles[ROOT].keyids) if previous else set())


def accept_root(content: bytes, previous: Metadata[Root] | None, now: datetime, application: str) -> Metadata[Root]:
    """The next root of the chain, verified. Raises `DocumentRefused`, `VersionNotNext` or `SignaturesMissing`.

    Rules: TUF specification 5.3.4 and 5.3.5, and what this server needs of a root to go on publishing.
    """
    root = read(content, Root)
    refuse_other_application(root.signed, application)
    expected = previous.signed.version + 1 if previous else 1
    if root.signed.version != expected:
        raise VersionNotNext(f"root: expected version {expected}, got {root.signed.version}")
    if not root.signed.consistent_snapshot:
        raise DocumentRefused("root: expected consistent_snapshot, without it versions could not be told apart")
    refuse_expiry("root", root.signed.expires, now, LONGEST_ROOT)
    require_own_ids(root.signed.keys.values())
    if previous is not None:
        require_signatures("the root before it", previous.signed, ROOT, root)
    require_signatures("its own keys", root.signed, ROOT, root)
    return root


def refuse_other_application(root: Root, application: str) -> None:
    named = root.unrecognized_fields.get(APPLICATION, application)
    if named != application:
        raise DocumentRefused(f"root: expected one of the application {application}, got one of {named!r}")


def refuse_expiry(what: str, expires: datetime, now: datetime, longest: timedelta) -> None:
    if not now < expires <= now + longest:
        raise DocumentRefused(f"{what}: expected to expire within {longest.days} days from now, got {expires}")


def require_signatures(by: str, delegator: Root | Targets, role: str, document: Metadata[Any]) -> None:
    """Raises `SignaturesMissing`."""
    try:
        delegator.verify_delegate(role, document.signed_bytes, document.signatures)
    except (UnsignedMetadataError, ValueError) as error:
        raise SignaturesMissing(f"{role} {document.signed.version}: expected signatures by {by}, {error}") from error


def delegating_to(role: str, key: Key) -> Targets:
    """Targets that name one key for one role, to verify signatures with; for that they need no paths."""
    delegated = DelegatedRole(role, [key.keyid], 1, terminating=True, paths=[])
    return Targets(delegations=Delegations({key.keyid: key}, {role: delegated}))


def read(content: bytes, kind: type[Root] | type[Targets]) -> Metadata[Any]:
    """Raises `DocumentRefused`."""
    if len(content) > MOST_BYTES:
        raise DocumentRefused(f"expected at most {MOST_BYTES} bytes, got {len(content)}")
    try:
        document: Metadata[Any] = Metadata.from_bytes(content)
    except (DeserializationError, RepositoryError, ValueError, RecursionError) as error:
        raise DocumentRefused(f"expected a TUF {kind.__name__.lower()}, got: {error.__cause__ or error}") from error
    if not isinstance(document.signed, kind):
        raise DocumentRefused(f"expected a TUF {kind.__name__.lower()}, got {document.signed.type}")
    return document


@dataclass(frozen=True)
class Signing:
    """How far a document is with one set of keys."""

    by: str
    threshold: int
    signed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def still_needed(self) -> int:
        return max(0, self.threshold - len(self.signed))


def signing_state(document: Metadata[Any], delegator: Root | Targets, role: str, by: str) -> Signing:
    """Which keys of a role have signed validly."""
    result = delegator.get_verification_result(role, document.signed_bytes, document.signatures)
    return Signing(by, result.threshold, tuple(sorted(result.signed)), tuple(sorted(result.unsigned)))


def public_keys(content: bytes) -> dict[str, Key]:
    """Keys by name from a file: `{"keys": {name: key}}` as the server gives them, or one `{"keyid", …}` as `trust key`
    writes it, then named by its id. Raises `DocumentRefused`.
    """
    try:
        document = json.loads(content)
        listed = document["keys"] if "keys" in document else {document["keyid"]: document}
        return {name: _key(dict(value)) for name, value in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DocumentRefused(f"expected public keys as JSON, got: {error!r}") from error


def key_document(key: Key) -> dict[str, Any]:
    return {"keyid": key.keyid, **key.to_dict()}


def _key(document: dict[str, Any]) -> Key:
    key = Key.from_dict(document.pop("keyid"), document)
    require_own_ids([key])
    return key


def require_own_ids(keys: Iterable[Key]) -> None:
    """One key under two ids would count as two signatures. Raises `DocumentRefused`."""
    for key in keys:
        if keyid_of(key) != key.keyid:
            raise DocumentRefused(f"expected the key's own id {keyid_of(key)}, got {key.keyid}")


def keyid_of(key: Key) -> str:
    """The id that securesystemslib gives a key. Raises `DocumentRefused` for a scheme that phones do not verify."""
    if key.scheme != "ecdsa-sha2-nistp256":
        raise DocumentRefused(f"expected a key of ecdsa-sha2-nistp256, got {key.scheme}")
    try:
        return SSlibKey.from_crypto(load_pem_public_key(key.keyval["public"].encode())).keyid
    except (KeyError, ValueError, AttributeError, UnsupportedAlgorithm) as error:
        raise DocumentRefused(f"expected a public key as PEM, got: {error!r}") from error
