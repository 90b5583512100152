"""Situations of protection, sorted into the registry's five families."""

from registry.errors import Conflict, Invalid, NotAllowed, NotFound, Unavailable


class KeyEncryptionKeyMissing(Unavailable):
    """Settings name no key to wrap content keys with, or another one than they were wrapped with."""

    code = "key_encryption_key_missing"


class KeyNotFound(NotFound):
    """No released variant has such a content key."""

    code = "key_not_found"


class KeyRevoked(NotAllowed):
    """The content key was revoked, or the version was withdrawn."""

    code = "key_revoked"


class KeyWithheld(NotAllowed):
    """The model's kill switch is engaged on that channel: no key is given until it is lifted."""

    code = "key_withheld"


class ChallengeRefused(Invalid):
    """No challenge for this request, or one that was answered already."""

    code = "challenge_refused"


class ChallengeExpired(Invalid):
    """The challenge was answered too late: ask for another."""

    code = "challenge_expired"


class AttestationRefused(NotAllowed):
    """The attestation does not prove what the application asks for; the message ends with the reason."""

    code = "attestation_refused"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message, field="attestation")
        self.reason = reason


class AttestationRequired(NotAllowed):
    """The application asks for an attestation, and none came, or none of a kind that it takes."""

    code = "attestation_required"


class AlreadyRevoked(Conflict):
    code = "already_revoked"
