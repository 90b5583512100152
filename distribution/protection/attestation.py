"""Apple App Attest and Google Play Integrity, verified by pyattest. No Django, no network.

| attestation      | made over            | proves                                                             |
|------------------|----------------------|--------------------------------------------------------------------|
| `app-attest`     | SHA-256(binding)     | a key in an Apple device's Secure Enclave, made by the genuine app |
| `app-assertion`  | SHA-256(binding)     | that key again; its counter only rises                             |
| `play-integrity` | the nonce, binding   | Play's verdict on app and device at this moment                    |

`binding` is `KeyRequest.binding()`. pyattest trusts the operating system's authorities beside Apple's root, and looks
at the clock itself; here only the root given counts, at the moment given. It checks neither application nor counter of
an assertion; that is done here too.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pyattest import exceptions
from pyattest.assertion import Assertion
from pyattest.attestation import Attestation
from pyattest.configs.apple import AppleConfig
from pyattest.configs.google_play_integrity_api import GooglePlayIntegrityApiConfig
from pyattest.verifiers.apple_attestation import AppleAttestationVerifier
from pyattest.verifiers.utils import _load_certificate
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import PathBuildingError, PathValidationError
from pyhanko_certvalidator.path import ValidationPath

APP_ATTEST, APP_ASSERTION, PLAY_INTEGRITY = "app-attest", "app-assertion", "play-integrity"
FORMATS = (APP_ATTEST, APP_ASSERTION, PLAY_INTEGRITY)
MOST_BYTES = 32 << 10
MOST_CERTIFICATES = 4
_REASONS: list[tuple[type[Exception], str]] = [
    (exceptions.InvalidNonceException, "wrong_nonce"),
    (exceptions.InvalidAppIdException, "wrong_app"),
    (exceptions.InvalidAaguidException, "wrong_environment"),
    (exceptions.InvalidCertificateChainException, "untrusted_chain"),
    (exceptions.InvalidKeyIdException, "wrong_key"),
    (exceptions.InvalidCredentialIdException, "wrong_key"),
    (exceptions.InvalidCounterException, "replayed"),
    (exceptions.InvalidAppIntegrity, "app_not_recognised"),
    (exceptions.InvalidDeviceIntegrity, "device_not_genuine"),
    (InvalidSignature, "wrong_signature"),
]
REASONS = frozenset({reason for _, reason in _REASONS} | {"malformed", "unknown_key"})


class AttestationError(ValueError):
    """`reason`: one of REASONS."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class AppAttest:
    """`app_id`: team and bundle, `ABCDE12345.com.example.app`. `root`: PEM; None is Apple's own.

    `production`: only keys of apps from the App Store and TestFlight, none of development builds.
    """

    app_id: str
    production: bool = True
    root: bytes | None = None


@dataclass(frozen=True, slots=True)
class PlayIntegrity:
    """Keys in base64 as the Play Console shows them; `decryption_key` is secret.

    `certificates`: SHA-256 of signing certificates in hex, if only these count. `verdict`: what the device must meet.
    """

    package_name: str
    decryption_key: str = field(repr=False)
    verification_key: str
    certificates: tuple[str, ...] = ()
    verdict: str = "MEETS_DEVICE_INTEGRITY"


@dataclass(frozen=True, slots=True)
class AttestedKey:
    """A key of a Secure Enclave: `public_key` in DER."""

    key_id: bytes
    public_key: bytes


class _PinnedRootVerifier(AppleAttestationVerifier):  # type: ignore[misc]  # pyattest has no types
    """pyattest's, but for the chain: one root, one moment."""

    async def verify_certificate_chain(self, chain: list[bytes]) -> ValidationPath:
        if not 1 <= len(chain) <= MOST_CERTIFICATES:
            raise exceptions.InvalidCertificateChainException
        config = self.attestation.config
        leaf, *others = [_load_certificate(each) for each in chain]
        context = ValidationContext(trust_roots=[config.root_ca], allow_fetching=False, moment=config.moment)
        validator = CertificateValidator(leaf, others, validation_context=context)
        try:
            path: ValidationPath = await validator.async_validate_usage({"digital_signature"})  # type: ignore[no-untyped-call]
        except (PathBuildingError, PathValidationError) as error:
            raise exceptions.InvalidCertificateChainException from error
        return path


class _PinnedRootConfig(AppleConfig):  # type: ignore[misc]  # pyattest has no types
    attestation_verifier_class = _PinnedRootVerifier

    def __init__(self, key_id: bytes, expected: AppAttest, moment: datetime) -> None:
        super().__init__(key_id, expected.app_id, expected.production, expected.root)
        self.moment = moment


def verify_app_attest(raw: bytes, *, key_id: bytes, binding: bytes, expected: AppAttest, now: datetime) -> AttestedKey:
    """An attestation object of DCAppAttestService. Raises `AttestationError`."""
    attestation = Attestation(_bounded(raw), binding, _PinnedRootConfig(key_id, expected, now))

    def verify() -> bytes:
        asyncio.run(attestation.verify())
        leaf = attestation.data["certs"].last
        return bytes(leaf["tbs_certificate"]["subject_public_key_info"].dump())

    return AttestedKey(key_id, _named(verify))


def verify_app_assertion(
    raw: bytes, *, key: AttestedKey, counter: int, binding: bytes, expected: AppAttest, now: datetime
) -> int:
    """An assertion by a key that was attested before; its counter, to be remembered. Raises `AttestationError`.

    `counter`: the one of its assertion before; 0 where there was none.
    """
    config = _PinnedRootConfig(key.key_id, expected, now)
    client_data_hash = hashlib.sha256(binding).digest()

    def verify() -> int:
        public_key = load_der_public_key(key.public_key)
        if not isinstance(public_key, EllipticCurvePublicKey):
            raise TypeError("expected a key on an elliptic curve")
        assertion = Assertion(_bounded(raw), client_data_hash, public_key, config)
        assertion.verify()
        if assertion.data["rp_id"] != hashlib.sha256(expected.app_id.encode()).digest():
            raise exceptions.InvalidAppIdException
        if assertion.data["counter"] <= counter:
            raise exceptions.InvalidCounterException
        return int(assertion.data["counter"])

    return int(_named(verify))


def verify_play_integrity(token: str, *, binding: bytes, expected: PlayIntegrity) -> None:
    """A token of a classic request, decrypted here with the keys of the Play Console. Raises `AttestationError`."""
    _bounded(token.encode())

    def verify() -> None:
        config = GooglePlayIntegrityApiConfig(
            decryption_key=expected.decryption_key,
            verification_key=expected.verification_key,
            apk_package_name=expected.package_name,
            production=True,
            verify_code_signature_hex=list(expected.certificates) or None,
            required_device_verdict=expected.verdict,
        )
        asyncio.run(Attestation(token, binding, config).verify())

    _named(verify)


def _bounded(raw: bytes) -> bytes:
    if len(raw) > MOST_BYTES:
        raise AttestationError("malformed", f"expected an attestation of at most {MOST_BYTES} bytes, got {len(raw)}")
    return raw


def _named(verify: Callable[[], Any]) -> Any:
    """Whatever a hostile attestation makes of its parsers is a refusal."""
    try:
        return verify()
    except AttestationError:
        raise
    except Exception as error:
        reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "malformed")
        told = type(error).__name__
        raise AttestationError(reason, f"expected a genuine attestation of this request, got: {told}") from error
