"""Genuine devices of our own: App Attest under a root made here, Play Integrity under keys made here."""

import base64
import json
import os
import struct
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from jose import jwe, jws

from distribution.protection.attestation import AppAttest, PlayIntegrity

APP_ID = "ABCDE12345.com.example.app"
PACKAGE = "com.example.app"
DEVELOPMENT, PRODUCTION = b"appattestdevelop", b"appattest" + bytes(7)
NONCE_EXTENSION = x509.ObjectIdentifier("1.2.840.113635.100.8.2")
USAGE = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")


class Authority:
    """Root and intermediate, as Apple has them."""

    def __init__(self, now):
        self.now = now
        self.root_key, self.key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
        self.root = self.issue("root", self.root_key, is_authority=True, by=None)
        self.intermediate = self.issue("intermediate", self.key, is_authority=True, by=(self.root, self.root_key))

    @property
    def pem(self):
        return self.root.public_bytes(Encoding.PEM)

    def issue(self, name, key, *, is_authority, by, extensions=(), days=3):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signing = (by[0].subject, by[1]) if by else (subject, key)
        usage = dict.fromkeys(USAGE, False) | {"digital_signature": not is_authority, "key_cert_sign": is_authority}
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(hours=1))
            .not_valid_after(self.now + timedelta(days=3650 if is_authority else days))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.KeyUsage(**usage, encipher_only=False, decipher_only=False), critical=True)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(signing, hashes.SHA384())


@dataclass
class Enclave:
    """One key of one phone's Secure Enclave."""

    authority: Authority
    app_id: str = APP_ID
    environment: bytes = PRODUCTION
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    counter: int = 0

    @property
    def key_id(self):
        return sha256(self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).digest()

    def attest(self, binding, counter=0):
        data = sha256(self.app_id.encode()).digest() + b"\x40" + struct.pack("!I", counter)
        data += self.environment + struct.pack("!H", 32) + self.key_id
        nonce = sha256(data + sha256(binding).digest()).digest()
        extension = x509.UnrecognizedExtension(NONCE_EXTENSION, b"\x30\x24\xa1\x22\x04\x20" + nonce)
        leaf = self.authority.issue(
            "leaf",
            self.key,
            is_authority=False,
            by=(self.authority.intermediate, self.authority.key),
            extensions=[extension],
        )
        chain = [each.public_bytes(Encoding.DER) for each in (leaf, self.authority.intermediate)]
        statement = {"x5c": chain, "receipt": b""}
        return cbor2.dumps({"fmt": "apple-appattest", "attStmt": statement, "authData": data})

    def assertion(self, binding):
        self.counter += 1
        data = sha256(self.app_id.encode()).digest() + b"\x40" + struct.pack("!I", self.counter)
        nonce = sha256(data + sha256(binding).digest()).digest()
        signature = self.key.sign(nonce, ec.ECDSA(hashes.SHA256()))
        return cbor2.dumps({"signature": signature, "authenticatorData": data})

    def expected(self, **changes):
        return AppAttest(**{"app_id": APP_ID, "production": True, "root": self.authority.pem} | changes)


@dataclass
class Play:
    """Google's side: what the console shows, and the verdicts."""

    aes: bytes = field(default_factory=lambda: os.urandom(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def decryption_key(self):
        return base64.b64encode(self.aes).decode()

    @property
    def verification_key(self):
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(public).decode()

    def expected(self, **changes):
        keys = {"decryption_key": self.decryption_key, "verification_key": self.verification_key}
        return PlayIntegrity(**{"package_name": PACKAGE, **keys} | changes)

    def token(self, binding, *, package=PACKAGE, app="PLAY_RECOGNIZED", device=("MEETS_DEVICE_INTEGRITY",), key=None):
        payload = {
            "requestDetails": {
                "nonce": base64.urlsafe_b64encode(binding).decode(),
                "requestPackageName": package,
            },
            "appIntegrity": {
                "appRecognitionVerdict": app,
                "packageName": package,
                "certificateSha256Digest": [base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")],
            },
            "deviceIntegrity": {"deviceRecognitionVerdict": list(device)},
        }
        signed = jws.sign(json.loads(json.dumps(payload)), key or self.key, algorithm="ES256")
        return jwe.encrypt(signed, self.aes, algorithm="A256KW", encryption="A256GCM").decode()
