"""Encrypt what was released of protected models, before the publisher signs it. Runs in the queue `publish`.

Outside of publishing's lock: no kill switch waits for a large file. The same file under the same key is the same
ciphertext, so that a worker that was killed, or two at once, do no harm.
"""

import logging
import os
from collections.abc import Iterator
from datetime import datetime

from django.db import transaction

from distribution.errors import ReleasedBytesDiffer
from distribution.models import ContentKey, EncryptedFile, EncryptedVariant, Release, released_variants
from distribution.protection import errors
from distribution.protection.chunks import KEY_BYTES, EncryptionError, encrypt, encrypted_length
from distribution.protection.configured import key_encryption_keys
from distribution.protection.keyring import Keyring, KeyringError, Wrapped
from distribution.protection.served import is_encrypted
from registry.blob_store import blob_store
from registry.digests import CHUNK_BYTES, tree_digest
from registry.errors import DomainError
from registry.models import Application, Artifact, PublishRequest, RegisteredModel, Variant

logger = logging.getLogger(__name__)


def encrypt_pending(*, application: Application, now: datetime) -> int:
    """Every released variant of a protected version that is not encrypted yet. How many were done.

    What cannot be done now is logged and left for later; its release waits, and whatever was released before stays.
    """
    done = 0
    for variant in waiting_variants(application):
        try:
            encrypt_variant(variant=variant, now=now)
        except DomainError as error:
            told = "not encrypted, its release waits: variant=%s code=%s %s"
            logger.error(told, variant, error.code, error)  # noqa: TRY400 - foreseen, and a trace could show a key
        else:
            done += 1
    if done:
        PublishRequest.objects.create(application=application, reason=f"{done} variants encrypted", requested_at=now)
    return done


def waiting_variants(application: Application) -> list[Variant]:
    """In the order of their making."""
    releases = Release.objects.filter(
        channel__application=application, is_protected=True, model_version__yanked_at__isnull=True
    )
    held = released_variants(releases)
    variants = Variant.objects.filter(version__releases__in=releases, encrypted__isnull=True)
    rows = variants.select_related("version__model").order_by("pk").distinct()
    return [row for row in rows if row.name in held.get(row.version_id, {row.name})]


def encrypt_variant(*, variant: Variant, now: datetime) -> EncryptedVariant:
    """Raises `KeyEncryptionKeyMissing`, `ReleasedBytesDiffer`, `BlobMissing`, `StoreUnavailable`."""
    ring = key_encryption_keys()
    files = [file for file in variant.files.select_related("artifact") if is_encrypted(file)]
    contents = tree_digest({file.path: file.artifact.sha256 for file in files})
    key = _content_key(variant.version.model, contents, ring, now)
    secret = unwrapped(key, ring)
    for plaintext in {file.artifact_id: file.artifact for file in files}.values():
        _encrypt_file(key, secret, plaintext, now)
    row, _ = EncryptedVariant.objects.get_or_create(variant=variant, defaults={"content_key": key, "encrypted_at": now})
    return row


def unwrapped(key: ContentKey, ring: Keyring) -> bytes:
    """The content key itself. Raises `KeyEncryptionKeyMissing`."""
    try:
        return ring.unwrap(Wrapped(key.kek_id, bytes(key.wrapped)), key.context)
    except KeyringError as error:
        raise errors.KeyEncryptionKeyMissing(str(error)) from error


def _content_key(model: RegisteredModel, contents_sha256: str, ring: Keyring, now: datetime) -> ContentKey:
    """The one in use for these contents, or a new one. Whoever lost the race finds the winner's."""
    row = ContentKey(key_id=os.urandom(16).hex(), model=model, contents_sha256=contents_sha256, created_at=now)
    wrapped = ring.wrap(os.urandom(KEY_BYTES), row.context)
    found, _ = ContentKey.objects.get_or_create(
        model=model,
        contents_sha256=contents_sha256,
        revoked_at=None,
        defaults={"key_id": row.key_id, "kek_id": wrapped.kek_id, "wrapped": wrapped.content, "created_at": now},
    )
    return found


def _encrypt_file(key: ContentKey, secret: bytes, plaintext: Artifact, now: datetime) -> None:
    if key.files.filter(plaintext=plaintext).exists():
        return
    store = blob_store()
    pieces = encrypt(_chunks(plaintext), key=secret, sha256=plaintext.sha256)
    try:
        staged = store.stage(pieces, max_bytes=encrypted_length(plaintext.size_bytes))
    except EncryptionError as error:
        raise ReleasedBytesDiffer(f"{plaintext}: {error}") from error
    store.keep(staged)
    with transaction.atomic():
        artifact, _ = Artifact.objects.get_or_create(
            sha256=staged.sha256, defaults={"size_bytes": staged.size_bytes, "created_at": now}
        )
        EncryptedFile.objects.get_or_create(content_key=key, plaintext=plaintext, defaults={"artifact": artifact})


def _chunks(artifact: Artifact) -> Iterator[bytes]:
    with blob_store().open(artifact.sha256) as stream:
        yield from iter(lambda: stream.read(CHUNK_BYTES), b"")
