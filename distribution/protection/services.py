"""Settings of protection: which models are protected, and what an installation must prove to be given a key."""

import binascii
from base64 import b64decode
from datetime import datetime
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from django.db import transaction

from distribution.models import AttestationSettings, ContentKey, ModelProtection
from distribution.protection import errors
from distribution.protection.attestation import AppAttest, PlayIntegrity
from distribution.protection.configured import key_encryption_keys
from distribution.protection.keyring import Keyring, KeyringError, Wrapped
from registry.errors import Invalid
from registry.models import Application, AuditEntry, RegisteredModel

# None is Apple's own; tests have another one.
APPLE_ROOT: bytes | None = None
PLAY_KEY_BYTES = (16, 24, 32)


def protection_of(model: RegisteredModel) -> ModelProtection:
    """The model's own, made with the default (off) at first sight."""
    row, _ = ModelProtection.objects.get_or_create(model=model)
    return row


def set_protection(*, protection: ModelProtection, is_on: bool, actor: str, now: datetime, reason: str = "") -> None:
    """Versions that are first released from now on are encrypted, or are not."""
    with transaction.atomic():
        before = protection.is_on
        protection.is_on = is_on
        protection.save()
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="set_protection",
            subject=str(protection.model),
            application=protection.model.application,
            before={"is_on": before},
            after={"is_on": is_on},
            reason=reason,
        )


def attestation_of(application: Application) -> AttestationSettings:
    """The application's own, made with the default (required, of nothing) at first sight."""
    row, _ = AttestationSettings.objects.get_or_create(application=application)
    return row


def set_attestation(
    *,
    row: AttestationSettings,
    mode: str,
    apple_app_id: str,
    apple_production: bool,
    play_package_name: str,
    play_verification_key: str,
    play_decryption_key: str | None,
    play_certificates: list[str],
    play_verdict: str,
    actor: str,
    now: datetime,
) -> None:
    """`play_decryption_key` None leaves the one there is. Raises `Invalid`, `KeyEncryptionKeyMissing`."""
    _require_play_keys(play_verification_key, play_decryption_key)
    with transaction.atomic():
        before = shown(row)
        row.mode, row.apple_app_id, row.apple_production = mode, apple_app_id, apple_production
        row.play_package_name, row.play_verification_key = play_package_name, play_verification_key
        row.play_certificates, row.play_verdict = play_certificates, play_verdict
        if play_decryption_key is not None:
            _keep_decryption_key(row, play_decryption_key)
        if play_package_name and not (play_verification_key and row.play_decryption_key):
            raise Invalid("expected both keys of the Play Console beside the package name", field="play_package_name")
        row.save()
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="set_attestation",
            subject=str(row.application),
            application=row.application,
            before=before,
            after=shown(row) | {"play_decryption_key_is_new": bool(play_decryption_key)},
        )


def shown(row: AttestationSettings) -> dict[str, Any]:
    """Without the secret."""
    names = (
        "mode",
        "apple_app_id",
        "apple_production",
        "play_package_name",
        "play_verification_key",
        "play_certificates",
        "play_verdict",
    )
    return {name: getattr(row, name) for name in names}


def app_attest(row: AttestationSettings) -> AppAttest | None:
    return AppAttest(row.apple_app_id, row.apple_production, APPLE_ROOT) if row.apple_app_id else None


def play_integrity(row: AttestationSettings) -> PlayIntegrity | None:
    """Raises `KeyEncryptionKeyMissing`."""
    if not row.play_package_name or row.play_decryption_key is None:
        return None
    key = _open(row, key_encryption_keys())
    return PlayIntegrity(
        row.play_package_name, key, row.play_verification_key, tuple(row.play_certificates), row.play_verdict
    )


def revoke_key(*, key: ContentKey, actor: str, now: datetime, reason: str) -> None:
    """Give it to nobody any more, for good. Raises `AlreadyRevoked`."""
    with transaction.atomic():
        fresh = ContentKey.objects.filter(pk=key.pk, revoked_at__isnull=True)
        if not fresh.update(revoked_at=now, revoked_by=actor, revoke_reason=reason):
            raise errors.AlreadyRevoked(f"expected a content key in use, {key} was revoked")
        AuditEntry.record(
            now=now,
            actor=actor,
            verb="revoke_content_key",
            subject=key.key_id,
            application=key.model.application,
            before={"revoked": False},
            after={"revoked": True, "model": key.model.slug},
            reason=reason,
        )


def rotate_key_encryption_key(*, actor: str, now: datetime) -> int:
    """Wrap everything under the first key-encryption key. How many changed. Raises `KeyEncryptionKeyMissing`."""
    ring = key_encryption_keys()
    with transaction.atomic():
        changed = 0
        for key in ContentKey.objects.select_for_update().exclude(kek_id=ring.current_id):
            wrapped = _wrapped_anew(ring, Wrapped(key.kek_id, bytes(key.wrapped)), key.context)
            key.kek_id, key.wrapped = wrapped.kek_id, wrapped.content
            key.save(update_fields=["kek_id", "wrapped"])
            changed += 1
        rows = AttestationSettings.objects.select_for_update().filter(play_decryption_key__isnull=False)
        for row in rows.exclude(play_kek_id=ring.current_id):
            wrapped = _wrapped_anew(ring, _wrapped_of(row), _context(row))
            row.play_kek_id, row.play_decryption_key = wrapped.kek_id, wrapped.content
            row.save(update_fields=["play_kek_id", "play_decryption_key"])
            changed += 1
        if changed:
            AuditEntry.record(
                now=now,
                actor=actor,
                verb="rotate_key_encryption_key",
                subject=ring.current_id,
                after={"wrapped_anew": changed},
            )
    return changed


def _wrapped_anew(ring: Keyring, wrapped: Wrapped, context: str) -> Wrapped:
    try:
        return ring.wrap(ring.unwrap(wrapped, context), context)
    except KeyringError as error:
        raise errors.KeyEncryptionKeyMissing(str(error)) from error


def _open(row: AttestationSettings, ring: Keyring) -> str:
    try:
        return ring.unwrap(_wrapped_of(row), _context(row)).decode()
    except KeyringError as error:
        raise errors.KeyEncryptionKeyMissing(str(error)) from error


def _keep_decryption_key(row: AttestationSettings, key: str) -> None:
    if not key:
        row.play_kek_id, row.play_decryption_key = "", None
        return
    wrapped = key_encryption_keys().wrap(key.encode(), _context(row))
    row.play_kek_id, row.play_decryption_key = wrapped.kek_id, wrapped.content


def _wrapped_of(row: AttestationSettings) -> Wrapped:
    return Wrapped(row.play_kek_id, bytes(row.play_decryption_key or b""))


def _context(row: AttestationSettings) -> str:
    return f"play decryption key of {row.application.slug}"


def _require_play_keys(verification_key: str, decryption_key: str | None) -> None:
    """Raises `Invalid`, and tells nothing of the secret one."""
    if verification_key and not _is_public_key(verification_key):
        raise Invalid("expected a public key in base64, as the Play Console shows it", field="play_verification_key")
    try:
        length = len(b64decode(decryption_key or "", validate=True))
    except binascii.Error:
        length = -1
    if decryption_key and length not in PLAY_KEY_BYTES:
        raise Invalid("expected an AES key in base64, as the Play Console shows it", field="play_decryption_key")


def _is_public_key(text: str) -> bool:
    try:
        return isinstance(load_der_public_key(b64decode(text)), EllipticCurvePublicKey)
    except (ValueError, UnsupportedAlgorithm):
        return False
