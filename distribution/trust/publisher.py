"""The publisher's half of trust, where a process holds his keys: sign `targets`, delegated models, and perhaps `root`.

Runs only in the signer process, which alone can reach the publisher's signers. It takes no orders over a socket: it
reads what was released, reads every byte again, and signs what it found itself. What is signed offline, by a ceremony
or by `sign-release`, it leaves alone (imports.py).
"""

import logging
from datetime import datetime

from django.db import transaction
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, Targets

from distribution.models import SignedDocument, TrustRole
from distribution.trust.ceremony import Holders, new_root, next_root, require_signatures
from distribution.trust.expected import Expectation, latest_version, read_again
from distribution.trust.roles import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, model_role
from distribution.trust.signers import Keyring, Keys
from distribution.trust.tree import COMPACT, SignedTree, StoredFile
from registry.blob_store import blob_store
from registry.models import Application, PublishRequest

logger = logging.getLogger(__name__)
__all__ = ["latest_version", "record", "sign_pending"]


def sign_pending(*, application: Application, keys: Keys, now: datetime, renew: bool = False) -> bool:
    """Bring `root` and `targets` up to what the rows say. True when something was signed.

    `renew`: sign again what has not changed, for a later expiry. Raises `ReleasedBytesDiffer` when a file is not what
    was registered, `KeyUnreadable`, or `SignaturesMissing` when the root names other keys; nothing is signed then.
    """
    wanted = known_keys(application)
    if SNAPSHOT not in wanted or TIMESTAMP not in wanted:
        return False  # the control plane has not made its keys yet
    signing = _Signing(application, SignedTree(blob_store(), application.slug), keys, now, renew=renew)
    root_signed = signing.root(wanted)
    return signing.targets(wanted) or root_signed


class _Signing:
    """One application at one moment."""

    def __init__(self, application: Application, tree: SignedTree, keys: Keys, now: datetime, *, renew: bool) -> None:
        self.application, self.tree, self.keys, self.now, self.renew = application, tree, keys, now, renew

    def root(self, wanted: dict[str, Key]) -> bool:
        """Only while the root is this process's own: one that a ceremony made is never followed by one made here."""
        signers = [] if has_imported_root(self.application) else self._signers_or_new(ROOT)
        targets = self._signers_or_new(TARGETS) if signers else []
        if not signers or not (targets or TARGETS in wanted):
            return False
        holders = {
            ROOT: signers[0].public_key,
            TARGETS: targets[0].public_key if targets else wanted[TARGETS],
            SNAPSHOT: wanted[SNAPSHOT],
            TIMESTAMP: wanted[TIMESTAMP],
        }
        changes = {role: Holders([key]) for role, key in holders.items()}
        current = self.tree.root()
        if current is None:
            root = new_root(self.application.slug, changes, self.now)
        else:
            root = next_root(current.signed, changes, self.now)
            if not self.renew and root.signed.roles == current.signed.roles:
                return _remember_root(self.application, self.tree, current)
        self._write(root, ROOT, signers)
        return True

    def targets(self, wanted: dict[str, Key]) -> bool:
        """Raises `SignaturesMissing` when the root names other keys than this process holds."""
        root = self.tree.root()
        signers = list(self.keys.signers(self.application.slug, TARGETS))
        if root is None or not signers:
            return False
        models = self._model_signers()
        # Delegated only on this process's own word: whoever can change rows must not choose who signs a model.
        keys = {name: key for name, key in wanted.items() if not name.startswith(model_role(""))}
        keys |= {role: found[0].public_key for role, found in models.items()}
        self._tell({TARGETS: signers[0].public_key} | {role: keys[role] for role in models})
        expectation = Expectation(self.application, self.tree, keys)
        held = {**models, TARGETS: signers}
        signed = [self._sign(expectation, role, held[role], root.signed) for role in expectation.roles()]
        return any(signed)

    def _sign(self, expectation: Expectation, role: str, signers: list[Signer], root: Root) -> bool:
        document = expectation.document(role, self.now, read_again)
        present = expectation.present(role)
        if not self.renew and present is not None and _says_the_same(present, document, signers):
            return False
        metadata = Metadata(document)
        for signer in signers:
            metadata.sign(signer, append=True)
        if role == TARGETS:
            require_signatures(f"root {root.version}", root, TARGETS, metadata)
        self._write(metadata, role, [])
        return True

    def _model_signers(self) -> dict[str, list[Signer]]:
        """Of the models that the settings name a signer for."""
        if not isinstance(self.keys, Keyring):
            return {}
        slugs = self.application.registered_models.values_list("slug", flat=True)
        named = [model_role(slug) for slug in slugs if self.keys.names(self.application.slug, model_role(slug))]
        found = {role: list(self.keys.signers(self.application.slug, role)) for role in named}
        return {role: signers for role, signers in found.items() if signers}

    def _signers_or_new(self, role: str) -> list[Signer]:
        return list(self.keys.signers_or_new(self.application.slug, role))

    def _tell(self, keys: dict[str, Key]) -> None:
        """Whoever prepares a root needs the public keys."""
        for role, key in keys.items():
            if self.application.trust_roles.filter(name=role, keyid=key.keyid).exists():
                continue
            TrustRole.objects.update_or_create(
                application=self.application,
                name=role,
                defaults={"keyid": key.keyid, "public_key": key.to_dict()},
            )

    def _write(self, metadata: Metadata[Root] | Metadata[Targets], role: str, signers: list[Signer]) -> None:
        for signer in signers:
            metadata.sign(signer, append=True)
        stored = self.tree.write_new(self.tree.role_path(role, metadata.signed.version), metadata.to_bytes(COMPACT))
        record(self.application, stored, role, metadata.signed, self.now)


def known_keys(application: Application) -> dict[str, Key]:
    """The wanted public keys by role, as far as anybody told."""
    return {row.name: Key.from_dict(row.keyid, dict(row.public_key)) for row in application.trust_roles.all()}


def has_imported_root(application: Application) -> bool:
    return application.signed_documents.filter(role=ROOT).exclude(imported_by="").exists()


def record(
    application: Application,
    stored: StoredFile,
    role: str,
    signed: Root | Targets,
    now: datetime,
    imported_by: str = "",
) -> None:
    """The document's row, and the request to publish it: a document without a row was never signed."""
    with transaction.atomic():
        SignedDocument.objects.create(
            application=application,
            role=role,
            version=signed.version,
            path=stored.path,
            sha256=stored.sha256,
            length=stored.length,
            expires_at=signed.expires,
            signed_at=now,
            imported_by=imported_by,
        )
        PublishRequest.objects.create(
            application=application, reason=f"{role} {signed.version} signed", requested_at=now
        )
    logger.info("signed: application=%s role=%s version=%s", application.slug, role, signed.version)


def _says_the_same(present: Metadata[Targets], wanted: Targets, signers: list[Signer]) -> bool:
    signed = present.signed
    keyids = {signer.public_key.keyid for signer in signers}
    return (signed.targets, signed.delegations) == (wanted.targets, wanted.delegations) and keyids == set(
        present.signatures
    )


def _remember_root(application: Application, tree: SignedTree, root: Metadata[Root]) -> bool:
    """A root whose row is missing was written just before a crash; give it its row."""
    path = tree.role_path(ROOT, root.signed.version)
    if application.signed_documents.filter(path=path).exists():
        return False
    stored = tree.write_new(path, tree.read(path) or b"")
    record(application, stored, ROOT, root.signed, root.signed.expires)
    return True
