"""Secrets of webhooks at rest: sealed with a key derived from Django's, so that a dump of the database holds none."""

import hashlib
from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from registry.errors import SecretUnreadable


def seal(secret: str) -> str:
    return _fernet().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises `SecretUnreadable`: put the former key into `AEROGRAM_SECRET_KEY_FALLBACKS`, or make a new secret."""
    try:
        return _fernet().decrypt(sealed.encode()).decode()
    except InvalidToken:
        expected = "a secret sealed with the present secret key or one of its fallbacks"
        raise SecretUnreadable(f"expected {expected}, got one of another key") from None


def _fernet() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(_derived(key)) for key in keys])


def _derived(key: str) -> bytes:
    return urlsafe_b64encode(hashlib.blake2b(key.encode(), digest_size=32, person=b"aerogram-webhook").digest())
