"""A content key on its way to one installation: encrypted to a key that the installation made for this request. Pure.

What is asked for is bound into one hash, which an attestation is made over and the answer is authenticated with: nobody
else's attestation is of use, nor anybody else's answer. Specified to the byte in docs/protection.md.

ecdh-p256-hkdf-sha256-aes-256-gcm: an ephemeral key pair of the server's, ECDH with the installation's public key,
HKDF-SHA256 of the shared x coordinate, AES-256-GCM. P-256, because Android and iOS have it without a third-party
library; uncompressed points (X9.62).
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALGORITHM = "ecdh-p256-hkdf-sha256-aes-256-gcm"
INFO = b"aerogram content key"
POINT_BYTES = 65
BINDING = b"aerogram-key-request-1"
_CURVE = ec.SECP256R1()
_KEY_BYTES, _NONCE_BYTES = 32, 12


class HandoverError(ValueError):
    """A public key is no point of P-256, or an answer was not made for this key and request."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """Who asks for which key, on behalf of which channel. `unit`: the installation's id."""

    application: str
    channel: str
    key_id: str
    unit: str

    def framed(self, *parts: bytes) -> bytes:
        """The names and what is added to them, each after its length in four bytes, most significant first."""
        names = (name.encode() for name in (self.application, self.channel, self.key_id, self.unit))
        return b"".join(len(part).to_bytes(4, "big") + part for part in (*names, *parts))

    def binding(self, challenge: bytes, public_key: bytes) -> bytes:
        """32 bytes: everything that the request is about, and the installation's public key."""
        return hashlib.sha256(BINDING + self.framed(challenge, public_key)).digest()


@dataclass(frozen=True, slots=True)
class Answer:
    """`public_key`: the server's, for this answer alone, 65 bytes."""

    public_key: bytes
    ciphertext: bytes


def hand_over(content_key: bytes, public_key: bytes, binding: bytes) -> Answer:
    """Encrypt to the installation's key. `binding`: of the request; the answer opens with no other one."""
    return hand_over_from(ec.generate_private_key(_CURVE), content_key, public_key, binding)


def hand_over_from(ours: ec.EllipticCurvePrivateKey, content_key: bytes, public_key: bytes, binding: bytes) -> Answer:
    """`ours` must be of this answer alone: the nonce follows from both keys."""
    recipient = read_point(public_key)
    point = to_point(ours.public_key())
    key, nonce = _derive(ours.exchange(ec.ECDH(), recipient), point, public_key)
    return Answer(point, AESGCM(key).encrypt(nonce, content_key, binding))


def take_over(answer: Answer, private_key: ec.EllipticCurvePrivateKey, binding: bytes) -> bytes:
    """What an installation does with an answer. Raises `HandoverError`."""
    theirs = read_point(answer.public_key)
    shared = private_key.exchange(ec.ECDH(), theirs)
    key, nonce = _derive(shared, answer.public_key, to_point(private_key.public_key()))
    try:
        return AESGCM(key).decrypt(nonce, answer.ciphertext, binding)
    except InvalidTag:
        raise HandoverError("expected an answer to this request, got another") from None


def read_point(data: bytes) -> ec.EllipticCurvePublicKey:
    """Raises `HandoverError` for anything but an uncompressed point of P-256."""
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, data)
    except ValueError:
        point = None
    if point is None or len(data) != POINT_BYTES:
        raise HandoverError(f"expected an uncompressed point of P-256 ({POINT_BYTES} bytes), got {len(data)} others")
    return point


def to_point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _derive(shared: bytes, server: bytes, installation: bytes) -> tuple[bytes, bytes]:
    derived = HKDF(SHA256(), _KEY_BYTES + _NONCE_BYTES, salt=server + installation, info=INFO).derive(shared)
    return derived[:_KEY_BYTES], derived[_KEY_BYTES:]


def to_base64(data: bytes) -> str:
    """URL-safe, without padding: what members of these documents are in."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64(text: str) -> bytes:
    """Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("expected URL-safe base64 without padding") from error
