"""What the rows say that the publisher should sign: files, counters and delegations. Signs nothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets

from distribution import errors
from distribution.manifest import target_path
from distribution.models import MinimumReleaseCounter, Release, released_variants
from distribution.protection.chunks import HEADER_BYTES, EncryptionError, Header, encrypted_length
from distribution.protection.served import ServedFiles
from distribution.trust.ceremony import delegating_to
from distribution.trust.roles import TARGETS, catalog_path, expiry, model_paths, model_role, releases_role
from distribution.trust.tree import SignedTree
from registry.blob_store import blob_store
from registry.digests import CHUNK_BYTES, sha256_of_chunks
from registry.models import Application, Artifact, Variant, VariantFile

Verify = Callable[[VariantFile, Artifact], None]


@dataclass
class Expectation:
    """Of one application. `keys`: the wanted public keys by role; those of models say which ones are delegated."""

    application: Application
    tree: SignedTree
    keys: Mapping[str, Key]

    def roles(self) -> list[str]:
        """In the order to sign: nothing is delegated to a role that has signed nothing."""
        return [*(model_role(slug) for slug in self._models() if model_role(slug) in self.keys), TARGETS]

    def document(self, role: str, now: datetime, verify: Verify | None = None) -> Targets:
        """The role's next version. `verify` is called for each file that is new or changed."""
        present = self.present(role)
        targets = Targets(
            version=max(latest_version(self.application, role), self.tree.highest_version(role)) + 1,
            expires=expiry(role, now),
            targets=dict(self._files(role, verify or (lambda _file, _served: None))),
        )
        if role == TARGETS:
            targets.delegations = self.delegations()
        if present is not None:
            targets.unrecognized_fields = dict(present.signed.unrecognized_fields)
        return targets

    def present(self, role: str) -> Metadata[Targets] | None:
        return self.tree.targets(role, latest_version(self.application, role))

    def delegations(self) -> Delegations:
        """A terminating role for each delegated model that has signed, and for each channel; each for its own paths."""
        roles = {}
        for slug in self._models():
            if self._has_signed(model_role(slug)):
                roles[model_role(slug)] = self._delegated(model_role(slug), model_paths(slug))
        for channel in self.application.channels.all():
            if releases_role(channel.slug) in self.keys:
                roles[releases_role(channel.slug)] = self._delegated(
                    releases_role(channel.slug), [catalog_path(channel.slug)]
                )
        return Delegations(keys={self.keys[name].keyid: self.keys[name] for name in roles}, roles=roles)

    def _delegated(self, name: str, paths: list[str]) -> DelegatedRole:
        return DelegatedRole(name, [self.keys[name].keyid], 1, terminating=True, paths=paths)

    def _has_signed(self, role: str) -> bool:
        present = self.present(role)
        if role not in self.keys or present is None:
            return False
        return is_signed_by(delegating_to(role, self.keys[role]), role, present)

    def _models(self) -> list[str]:
        return list(self.application.registered_models.values_list("slug", flat=True))

    def _files(self, role: str, verify: Verify) -> Iterator[tuple[str, TargetFile]]:
        """Every file of every released variant of versions, and with parts, not yanked; of this role's models."""
        known = self._signed_before()
        floors = _floors(self.application, known)
        released = Release.objects.filter(channel__application=self.application, model_version__yanked_at__isnull=True)
        counters = dict(released.values_list("model_version_id", "release_counter"))
        held = released_variants(released)
        served = ServedFiles(
            self.application, set(released.filter(is_protected=True).values_list("model_version_id", flat=True))
        )
        in_use = Variant.objects.filter(version_id__in=counters).with_parts_in_use()
        files = VariantFile.objects.filter(variant__in=in_use).select_related("artifact", "variant__version__model")
        for file in files:
            is_released = file.variant.name in held.get(file.variant.version_id, {file.variant.name})
            artifact = served.artifact(file)
            if artifact is not None and is_released and self._role_of(file.variant.version.model.slug, role):
                path, target = _target(file, artifact, counters, floors, known)
                if path not in known or known[path].hashes != target.hashes:
                    verify(file, artifact)
                yield path, target

    def _role_of(self, model: str, role: str) -> bool:
        """A delegated role lists its model always; targets list it until the role has signed."""
        return role == model_role(model) or (role == TARGETS and not self._has_signed(model_role(model)))

    def _signed_before(self) -> dict[str, TargetFile]:
        """By the publisher, in whichever of his roles."""
        found: dict[str, TargetFile] = {}
        for role in self.roles():
            present = self.present(role)
            found |= present.signed.targets if present else {}
        return found


def signed_model_roles(application: Application, tree: SignedTree, targets: Targets) -> dict[str, Targets]:
    """The newest metadata of each model's role that targets delegate to."""
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    found = {}
    for name in roles:
        metadata = tree.targets(name, latest_version(application, name)) if name.startswith("models-") else None
        if metadata is not None and is_signed_by(targets, name, metadata):
            found[name] = metadata.signed
    return found


def is_signed_by(delegator: Targets, role: str, metadata: Metadata[Targets]) -> bool:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError):
        return False
    return True


def read_again(file: VariantFile, served: Artifact) -> None:
    """Raises `ReleasedBytesDiffer` when the store holds other bytes than were registered, or encrypted from these."""
    with blob_store().open(served.sha256) as stream:
        found = sha256_of_chunks(iter(lambda: stream.read(CHUNK_BYTES), b""))
    if found != (served.sha256, served.size_bytes):
        raise errors.ReleasedBytesDiffer(
            f"{file.variant} {file.path}: expected {served.size_bytes} bytes with sha256 "
            f"{served.sha256}, got {found[1]} bytes with {found[0]}"
        )
    if served != file.artifact:
        _require_encrypted(file, served)


def _require_encrypted(file: VariantFile, served: Artifact) -> None:
    """What is encrypted names its plaintext, and phones refuse another one: so the publisher signs that too."""
    with blob_store().open(served.sha256) as stream:
        try:
            named = Header.read(stream.read(HEADER_BYTES)).sha256
        except EncryptionError as error:
            named = str(error)
    if named != file.artifact.sha256 or served.size_bytes != encrypted_length(file.artifact.size_bytes):
        raise errors.ReleasedBytesDiffer(
            f"{file.variant} {file.path}: expected {file.artifact.sha256}, encrypted, got {served.sha256} of {named}"
        )


def latest_version(application: Application, role: str) -> int:
    """The newest version of a role that has a row, 0 when none has."""
    document = application.signed_documents.filter(role=role).order_by("version").last()
    return document.version if document else 0


def _floors(application: Application, known: Mapping[str, TargetFile]) -> dict[str, int]:
    """Minimum release counters by model: the rows', but never below what was signed once. Rows can be tampered with."""
    rows = MinimumReleaseCounter.objects.filter(model__application=application)
    floors = dict(rows.values_list("model__slug", "value"))
    for target in known.values():
        custom = target.custom or {}
        floors[custom["model"]] = max(floors.get(custom["model"], 1), custom["minimum_release_counter"])
    return floors


def _target(
    file: VariantFile,
    served: Artifact,
    counters: Mapping[int, int],
    floors: Mapping[str, int],
    known: Mapping[str, TargetFile],
) -> tuple[str, TargetFile]:
    version = file.variant.version
    path = target_path(version.model.slug, version.number, file.variant.name, file.path)
    signed = known.get(path)
    custom = {
        "model": version.model.slug,
        "model_version": version.number,
        "variant": file.variant.name,
        # What was signed once stays: a withdrawn file must not come back under a higher counter.
        "release_counter": (signed.custom or {})["release_counter"] if signed else counters[version.pk],
        "minimum_release_counter": floors.get(version.model.slug, 1),
    }
    hashes = {"sha256": served.sha256}
    return path, TargetFile(served.size_bytes, hashes, path, {"custom": custom})
