"""An installation that asks the key service, over Django's own test client."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec
from django.test import Client

from distribution.protection.handover import Answer, KeyRequest, from_base64, take_over, to_base64, to_point


@dataclass
class Installation:
    key_id: str
    unit: str = "8c7e2b1a-0d9f-4c57-9a4e-3f1f5a1c9b77"
    channel: str = "production"
    application: str = "demo"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def url(self):
        return f"/v1/apps/{self.application}/keys/{self.key_id}"

    @property
    def public_key(self):
        return to_point(self.key.public_key())

    def post(self, url, body, **headers):
        headers = {"Aerogram-Unit": self.unit} | headers
        return Client(headers=headers).post(url, body, content_type="application/json")

    def challenge(self):
        answer = self.post(f"{self.url}/challenges", {"channel": self.channel})
        assert answer.status_code == 201, answer.content
        return from_base64(answer.json()["challenge"])

    def binding(self, challenge):
        return KeyRequest(self.application, self.channel, self.key_id, self.unit).binding(challenge, self.public_key)

    def ask(self, given=None, prove=None, **changes):
        """`prove`: makes the attestation of a binding. `changes`: members in place of the true ones."""
        challenge = self.challenge() if given is None else given
        body = {
            "channel": self.channel,
            "challenge": to_base64(challenge),
            "public_key": to_base64(self.public_key),
        }
        if prove is not None:
            body["attestation"] = prove(self.binding(challenge))
        self.asked = challenge
        return self.post(self.url, body | changes)

    def opened(self, answer, challenge=None):
        """The content key of an answer to this installation."""
        assert answer.status_code == 200, answer.content
        told = answer.json()
        sealed = Answer(from_base64(told["public_key"]), from_base64(told["ciphertext"]))
        return take_over(sealed, self.key, self.binding(challenge or self.asked))


def app_attest(enclave):
    return lambda binding: {
        "format": "app-attest",
        "key_id": to_base64(enclave.key_id),
        "object": to_base64(enclave.attest(binding)),
    }


def app_assertion(enclave):
    return lambda binding: {
        "format": "app-assertion",
        "key_id": to_base64(enclave.key_id),
        "object": to_base64(enclave.assertion(binding)),
    }


def play_integrity(play, **said):
    return lambda binding: {"format": "play-integrity", "token": play.token(binding, **said)}
