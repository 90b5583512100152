"""Which bytes devices get of a variant's files: the files themselves, or of a protected version the encrypted ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from distribution.manifest import Encryption
from distribution.models import EncryptedFile, EncryptedVariant
from distribution.protection.chunks import ALGORITHM
from registry.models import Application, Artifact, Variant, VariantFile

# Samples that a device compares with, not the model: every version has new ones, and under the same key a file that did
# not change would then be another one after all.
PLAIN_ROLES = frozenset({"sanity"})


@dataclass(frozen=True)
class ServedVariant:
    """`artifacts` by path, without files that are still to be encrypted."""

    artifacts: Mapping[str, Artifact]
    encryption: Encryption | None = None


def is_encrypted(file: VariantFile) -> bool:
    """In a protected version."""
    return file.role not in PLAIN_ROLES


def served_variant(variant: Variant, *, is_protected: bool) -> ServedVariant:
    files = list(variant.files.all())
    if not is_protected:
        return ServedVariant({file.path: file.artifact for file in files})
    plain = {file.path: file.artifact for file in files if not is_encrypted(file)}
    row = EncryptedVariant.objects.select_related("content_key").filter(variant=variant).first()
    if row is None:
        return ServedVariant(plain)
    by_plaintext = {one.plaintext_id: one.artifact for one in row.content_key.files.select_related("artifact")}
    encrypted = {file.path: file.artifact for file in files if file.path not in plain}
    told = {path: (artifact.size_bytes, artifact.sha256) for path, artifact in encrypted.items()}
    return ServedVariant(
        plain | {path: by_plaintext[artifact.pk] for path, artifact in encrypted.items()},
        Encryption(ALGORITHM, row.content_key.key_id, told),
    )


class ServedFiles:
    """The same for every file of an application, by two queries. `protected`: ids of versions."""

    def __init__(self, application: Application, protected: set[int]) -> None:
        self._protected = protected
        self._encrypted: dict[tuple[int, int], Artifact] = {}
        if protected:
            rows = EncryptedVariant.objects.filter(variant__version__model__application=application)
            variants_by_key: dict[int, list[int]] = {}
            for variant_id, key_id in rows.values_list("variant_id", "content_key_id"):
                variants_by_key.setdefault(key_id, []).append(variant_id)
            for file in EncryptedFile.objects.filter(content_key__in=variants_by_key).select_related("artifact"):
                for variant_id in variants_by_key[file.content_key_id]:
                    self._encrypted[variant_id, file.plaintext_id] = file.artifact

    def artifact(self, file: VariantFile) -> Artifact | None:
        """What devices get; None while it is still to be encrypted."""
        if file.variant.version_id not in self._protected or not is_encrypted(file):
            return file.artifact
        return self._encrypted.get((file.variant_id, file.artifact_id))
