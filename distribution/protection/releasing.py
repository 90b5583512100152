"""Giving a content key to an installation: was it asked just now, may it have this key, and is it genuine.

Nothing is written for a request without a genuine challenge, and a challenge costs no query. Every other call leaves a
row: what was asked and what became of it, without key and without unit.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from rest_framework.exceptions import Throttled

from distribution.delivery_rules import unit_key
from distribution.models import AppAttestKey, AttestationSettings, ContentKey, KeyCall, MinimumReleaseCounter, Release
from distribution.protection import attestation, challenges, errors, handover
from distribution.protection.attestation import APP_ASSERTION, APP_ATTEST, PLAY_INTEGRITY, AttestationError, AttestedKey
from distribution.protection.challenges import ChallengeError
from distribution.protection.configured import key_encryption_keys
from distribution.protection.encrypting import unwrapped
from distribution.protection.handover import Answer, HandoverError, KeyRequest
from distribution.protection.services import app_attest, attestation_of, play_integrity
from registry.errors import DomainError, Invalid
from registry.models import Channel, ModelVersion

RELEASED = "released"
RATE_PERIOD = timedelta(hours=1)
CALLS_ARE_KEPT = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Proof:
    """An attestation as it came. `key_id`: of App Attest. `content`: attestation or assertion object, or token."""

    format: str
    content: bytes
    key_id: bytes = b""


def challenge(request: KeyRequest, now: datetime) -> tuple[bytes, datetime]:
    """(challenge, its end). Raises `Invalid` for a unit that is none."""
    _require_unit(request)
    return challenges.new_challenge(request, _secret(), now)


def release_key(
    *, request: KeyRequest, answered: bytes, public_key: bytes, proof: Proof | None, now: datetime
) -> Answer:
    """The content key, encrypted to the installation's public key.

    Raises `ChallengeRefused`, `ChallengeExpired`, `KeyNotFound`, `KeyRevoked`, `KeyWithheld`, `AttestationRequired`,
    `AttestationRefused`, `Invalid`, DRF's `Throttled`, `KeyEncryptionKeyMissing`.
    """
    _require_challenge(request, answered, now)
    key, channel = _find(request)
    call = _Call(request, key, channel, answered, now)
    call.require_rate()
    binding = request.binding(answered, public_key)
    try:
        handover.read_point(public_key)
        _require_released(key, channel, call.unit_key)
        secret = unwrapped(key, key_encryption_keys())
        with transaction.atomic():
            method = _require_attested(call, proof, binding)
            call.record(RELEASED, method)
    except HandoverError as error:
        raise Invalid(str(error), field="public_key") from error
    except DomainError as error:
        call.record(error.code, proof.format if proof else "", getattr(error, "reason", ""))
        raise
    return handover.hand_over(secret, public_key, binding)


@dataclass(frozen=True)
class _Call:
    """One call with a genuine challenge."""

    request: KeyRequest
    key: ContentKey
    channel: Channel
    challenge: bytes
    now: datetime

    @property
    def unit_key(self) -> str:
        return unit_key(self.channel.application, self.request.unit)

    def require_rate(self) -> None:
        """Raises DRF's `Throttled`. By installation; addresses are the proxy's to count."""
        calls = KeyCall.objects.filter(
            application=self.channel.application, unit_key=self.unit_key, at__gt=self.now - RATE_PERIOD
        )
        if calls.count() >= settings.AEROGRAM_KEY_CALLS_PER_HOUR:
            raise Throttled(wait=RATE_PERIOD.total_seconds())

    def record(self, outcome: str, method: str, reason: str = "") -> None:
        """Raises `ChallengeRefused` when the challenge was answered before: the row is its one use."""
        try:
            with transaction.atomic():
                KeyCall.objects.create(
                    application=self.channel.application,
                    content_key=self.key,
                    channel=self.channel.slug,
                    unit_key=self.unit_key,
                    attestation=method,
                    outcome=outcome,
                    reason=reason,
                    challenge_sha256=hashlib.sha256(self.challenge).hexdigest(),
                    at=self.now,
                )
        except IntegrityError as error:
            raise errors.ChallengeRefused(
                "expected a challenge that was not answered yet", field="challenge"
            ) from error


def forget_calls(*, now: datetime) -> int:
    """Remove what is older than anybody looks back. How many."""
    return KeyCall.objects.filter(at__lt=now - CALLS_ARE_KEPT).delete()[0]


def _secret() -> bytes:
    return hmac.digest(settings.SECRET_KEY.encode(), b"aerogram key challenge", "sha256")


def _require_unit(request: KeyRequest) -> None:
    from distribution.device_plane.problems import Problem  # noqa: PLC0415
    from distribution.device_plane.query import read_unit  # noqa: PLC0415

    try:
        read_unit(request.unit.encode("utf-8", "replace"))
    except Problem as problem:
        raise Invalid(problem.detail, field="Aerogram-Unit") from problem


def _require_challenge(request: KeyRequest, answered: bytes, now: datetime) -> None:
    _require_unit(request)
    try:
        challenges.require_challenge(request, _secret(), answered, now)
    except ChallengeError as error:
        kind = errors.ChallengeExpired if error.code == "challenge_expired" else errors.ChallengeRefused
        raise kind(str(error), field="challenge") from error
    if KeyCall.objects.filter(challenge_sha256=hashlib.sha256(answered).hexdigest()).exists():
        raise _answered_before()


def _answered_before() -> errors.ChallengeRefused:
    return errors.ChallengeRefused(
        "expected a challenge that was not answered yet, got one that was", field="challenge"
    )


def _find(request: KeyRequest) -> tuple[ContentKey, Channel]:
    """The same answer whatever is unknown."""
    channel = Channel.objects.filter(application__slug=request.application, slug=request.channel)
    found = channel.select_related("application").first()
    keys = ContentKey.objects.filter(key_id=request.key_id, model__application__slug=request.application)
    key = keys.select_related("model__application").first()
    if found is None or key is None:
        raise errors.KeyNotFound(f"expected a content key of {request.application} and a channel, got others")
    return key, found


def _require_released(key: ContentKey, channel: Channel, unit: str) -> None:
    """Is some variant under this key meant for devices of the channel, or for this one?"""
    if channel.kill_switches.filter(model=key.model, lifted_at__isnull=True).exists():
        raise errors.KeyWithheld(f"expected {key.model} to be served on {channel}, its kill switch is engaged")
    if key.revoked_at is not None:
        raise errors.KeyRevoked(f"expected a content key in use, {key} was revoked")
    versions = ModelVersion.objects.filter(variants__encrypted__content_key=key)
    here = versions.filter(releases__channel=channel) | versions.filter(
        pk__in=channel.pins.filter(unit_key=unit).values("version")
    )
    if not here.exists():
        raise errors.KeyNotFound(f"expected a content key of what {channel} serves, got another")
    minimum = MinimumReleaseCounter.objects.filter(model=key.model).values_list("value", flat=True).first() or 1
    served = Release.objects.filter(model_version__in=here, release_counter__gte=minimum)
    if not served.filter(model_version__yanked_at__isnull=True).exists():
        raise errors.KeyRevoked(f"expected a version in use, what {key} opens was withdrawn")


def _require_attested(call: _Call, proof: Proof | None, binding: bytes) -> str:
    """The format of what was proved, empty where the application asks for nothing."""
    row = attestation_of(call.channel.application)
    if row.mode == AttestationSettings.Mode.NONE:
        return ""
    accepted = _accepted(row)
    if proof is None or proof.format not in accepted:
        told = ", ".join(accepted) or "none that is set up"
        raise errors.AttestationRequired(
            f"expected an attestation ({told}), got {proof.format if proof else 'nothing'}"
        )
    try:
        if proof.format == PLAY_INTEGRITY:
            expected = play_integrity(row)
            assert expected is not None
            attestation.verify_play_integrity(proof.content.decode("latin-1"), binding=binding, expected=expected)
        else:
            _require_apple(call, row, proof, binding)
    except AttestationError as error:
        raise errors.AttestationRefused(f"{error}: {error.reason}", reason=error.reason) from error
    return proof.format


def _accepted(row: AttestationSettings) -> list[str]:
    apple = [APP_ATTEST, APP_ASSERTION] if row.apple_app_id else []
    return apple + ([PLAY_INTEGRITY] if row.play_package_name and row.play_decryption_key is not None else [])


def _require_apple(call: _Call, row: AttestationSettings, proof: Proof, binding: bytes) -> None:
    """A key is attested once, and asserts from then on: for the unit that brought it, and no other."""
    expected = app_attest(row)
    assert expected is not None
    told: dict[str, Any] = {"binding": binding, "expected": expected, "now": call.now}
    known = AppAttestKey.objects.select_for_update().filter(
        application=call.channel.application, attest_key_id=proof.key_id.hex()
    )
    row_of_key = known.first()
    if row_of_key is not None and row_of_key.unit_key != call.unit_key:
        raise AttestationError("wrong_key", "expected a key of this installation, got another's")
    if proof.format == APP_ATTEST:
        key = attestation.verify_app_attest(proof.content, key_id=proof.key_id, **told)
        AppAttestKey.objects.get_or_create(
            application=call.channel.application,
            attest_key_id=proof.key_id.hex(),
            defaults={"unit_key": call.unit_key, "public_key": key.public_key, "attested_at": call.now},
        )
        return
    if row_of_key is None:
        raise AttestationError("unknown_key", "expected a key that was attested before, got another")
    key = AttestedKey(proof.key_id, bytes(row_of_key.public_key))
    row_of_key.counter = attestation.verify_app_assertion(proof.content, key=key, counter=row_of_key.counter, **told)
    row_of_key.save(update_fields=["counter"])
