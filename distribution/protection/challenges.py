"""Challenges: proof that an installation was asked just now, and for what. Pure.

A challenge is not stored: it is 16 random bytes, its end, and an HMAC over these and the request that it was given for.
"""

import hmac
import os
from datetime import UTC, datetime, timedelta

from distribution.protection.handover import KeyRequest

LIFE = timedelta(minutes=5)
_RANDOM_BYTES, _TIME_BYTES, _MAC_BYTES = 16, 8, 32
CHALLENGE_BYTES = _RANDOM_BYTES + _TIME_BYTES + _MAC_BYTES


class ChallengeError(ValueError):
    """`code`: `challenge_refused` or `challenge_expired`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def new_challenge(request: KeyRequest, secret: bytes, now: datetime) -> tuple[bytes, datetime]:
    """(challenge, its end)."""
    expires = now.replace(microsecond=0) + LIFE
    body = os.urandom(_RANDOM_BYTES) + int(expires.timestamp()).to_bytes(_TIME_BYTES, "big")
    return body + _mac(request, secret, body), expires


def require_challenge(request: KeyRequest, secret: bytes, challenge: bytes, now: datetime) -> None:
    """Raises `ChallengeError`. That each is used once only is the caller's to see to."""
    body, mac = challenge[:-_MAC_BYTES], challenge[-_MAC_BYTES:]
    if len(challenge) != CHALLENGE_BYTES or not hmac.compare_digest(mac, _mac(request, secret, body)):
        raise ChallengeError("challenge_refused", "expected a challenge that was given for this request, got another")
    expires = datetime.fromtimestamp(int.from_bytes(body[_RANDOM_BYTES:], "big"), UTC)
    if expires <= now:
        raise ChallengeError("challenge_expired", f"expected a challenge in force, got one that ended at {expires}")


def _mac(request: KeyRequest, secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, request.framed(body), "sha256")
