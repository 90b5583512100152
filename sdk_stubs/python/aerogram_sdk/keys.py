"""Content keys of protected models: asked of the key service, opened here, kept no longer than the app wishes."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from aerogram_sdk.errors import KeyRefused, KeyUnavailable
from aerogram_sdk.fetcher import retry_after_seconds
from aerogram_sdk.handover import (
    ALGORITHM,
    Answer,
    KeyRequest,
    from_base64,
    take_over,
    to_base64,
    to_point,
)

KEY_BYTES = 32
MOST_ANSWER_BYTES = 64 << 10
_REFUSED = frozenset({"attestation_required", "attestation_refused", "key_revoked", "key_withheld", "key_not_found"})

# Gives the attestation of a binding (32 bytes) as docs/protection.md lists it, or None where there is none.
Attester = Callable[[bytes], Mapping[str, Any] | None]


class KeyStore(Protocol):
    """Where an app keeps content keys. Back it by the platform's key store, or keep none at all."""

    def get(self, key_id: str) -> bytes | None: ...

    def put(self, key_id: str, key: bytes) -> None: ...

    def forget(self, key_id: str) -> None: ...


class MemoryKeyStore:
    """Until the process ends: a bundle that has to be fetched anew later asks again."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def get(self, key_id: str) -> bytes | None:
        return self._keys.get(key_id)

    def put(self, key_id: str, key: bytes) -> None:
        self._keys[key_id] = key

    def forget(self, key_id: str) -> None:
        self._keys.pop(key_id, None)


@dataclass(frozen=True, slots=True)
class KeyService:
    """The key service of one application, for one installation and channel."""

    http: httpx.Client
    server: str
    application: str
    channel: str
    unit: str
    attest: Attester

    def fetch(self, key_id: str) -> bytes:
        """Ask for a challenge, answer it, open the answer. Raises KeyUnavailable or KeyRefused."""
        try:
            return self._fetch(KeyRequest(self.application, self.channel, key_id, self.unit))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KeyUnavailable(f"key: expected an answer to this request, got {error!r}") from error

    def _fetch(self, request: KeyRequest) -> bytes:
        base = f"{self.server.rstrip('/')}/v1/apps/{quote(self.application, safe='')}/keys/{request.key_id}"
        challenge = self._post(f"{base}/challenges", {"channel": self.channel})["challenge"]
        private_key = ec.generate_private_key(ec.SECP256R1())
        public_key = to_point(private_key.public_key())
        binding = request.binding(from_base64(challenge), public_key)
        attestation = self._attestation(binding)
        body = {"channel": self.channel, "challenge": challenge, "public_key": to_base64(public_key)}
        told = self._post(base, body | ({"attestation": dict(attestation)} if attestation else {}))
        answer = Answer(from_base64(told["public_key"]), from_base64(told["ciphertext"]))
        key = take_over(answer, private_key, binding)
        if told.get("algorithm") != ALGORITHM or len(key) != KEY_BYTES:
            raise ValueError(f"expected {KEY_BYTES} bytes by {ALGORITHM}, got {len(key)} by {told.get('algorithm')!r}")
        return key

    def _attestation(self, binding: bytes) -> Mapping[str, Any] | None:
        try:
            return self.attest(binding)
        except Exception as error:  # the app's own code, and its platform's: both raise what they like
            raise KeyUnavailable(f"key: expected an attestation, got {error!r}") from error

    def _post(self, url: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        options: dict[str, Any] = {"json": dict(body), "headers": {"Aerogram-Unit": self.unit}}
        try:
            with self.http.stream("POST", url, **options, follow_redirects=False) as response:
                told = _document(response)
        except httpx.HTTPError as error:
            raise KeyUnavailable(f"key: expected an answer from {url}, got {error!r}") from error
        if response.is_success:
            return told
        message = f"key: expected to be given it, got {response.status_code} {told.get('code')}: {told.get('detail')}"
        if told.get("code") in _REFUSED:
            raise KeyRefused(message)
        raise KeyUnavailable(message, retry_after_seconds=retry_after_seconds(response))


def _document(response: httpx.Response) -> Mapping[str, Any]:
    """Empty for anything that is no object in JSON of bounded length."""
    body = b""
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MOST_ANSWER_BYTES:
            return {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


class ContentKeys:
    """From the app's store, else from the service. A store that fails costs a request, and nothing else."""

    def __init__(self, service: KeyService, store: KeyStore) -> None:
        self._service, self._store = service, store

    def key(self, key_id: str) -> bytes:
        """Raises KeyUnavailable or KeyRefused."""
        found = None
        with suppress(Exception):  # the platform's key store raises what it likes
            found = self._store.get(key_id)
        if found is None:
            found = self._service.fetch(key_id)
            with suppress(Exception):
                self._store.put(key_id, found)
        return found

    def forget(self, key_id: str) -> None:
        """One that opens nothing: the next one is asked of the service."""
        with suppress(Exception):
            self._store.forget(key_id)
