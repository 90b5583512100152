"""A Firebase ML client for tests: what the SDKs of Android and iOS do with an answer, rule by rule.

Each of the two `read_…` functions is one SDK's reading of the metadata reply; `download` is the rule about files that
both share. `get` is any function (url, headers) -> answer with `status`, `headers` (lower-case names) and `body`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

ANDROID_CODES = {400: "INVALID_ARGUMENT", 401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
ANDROID_CODES |= {429: "RESOURCE_EXHAUSTED"}
IOS_ERRORS = {400: "invalidArgument", 401: "permissionDenied", 403: "permissionDenied", 404: "notFound"}
IOS_ERRORS |= {429: "resourceExhausted"}
MOST_REFETCHES = {"android": 2, "ios": 1}
Get = Callable[[str, Mapping[str, str]], Any]


class ClientError(Exception):
    """`code` is the SDK's own word."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


@dataclass(frozen=True)
class ModelInfo:
    url: str
    expires_ms: int
    size_bytes: int
    model_hash: str


def android_time(text: str) -> int:
    """Milliseconds since 1970; 0 for what does not fit the fixed pattern. Six digits are so many milliseconds."""
    found = re.match(r"\s*(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d+)Z", text)
    if found is None:
        return 0
    *parts, fraction = map(int, found.groups())
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1000 + fraction


def ios_time(text: str) -> int:
    """Milliseconds since 1970; needs a fraction. Raises ClientError."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,3}(Z|[+-]\d\d:\d\d)", text):
        raise ClientError("internalError", f"unreadable time {text}")
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def read_android(answer: Any) -> ModelInfo | None:
    """None for 304. Raises ClientError."""
    if answer.status == 304:
        return None
    if answer.status != 200:
        message = json.loads(answer.body)["error"]["message"]
        raise ClientError(ANDROID_CODES.get(answer.status, "INTERNAL"), message)
    tag = answer.headers.get("etag", "")
    if answer.headers.get("content-encoding") == "gzip":
        tag = tag.replace("--gzip", "")
    document = json.loads(answer.body)
    expires_ms = android_time(document.get("expireTime", ""))
    if not tag or not document.get("downloadUri") or expires_ms <= 0:
        raise ClientError("INTERNAL", "the reply was rejected")
    return ModelInfo(document["downloadUri"], expires_ms, int(document["sizeBytes"]), tag)


def read_ios(answer: Any, local_hash: str | None) -> ModelInfo | None:
    """None for 304. Raises ClientError."""
    if answer.status == 304:
        if local_hash is None:
            raise ClientError("internalError", "Model info was deleted unexpectedly.")
        if answer.headers.get("etag") != local_hash:
            raise ClientError("internalError", "Unexpected model hash value.")
        return None
    if answer.status != 200:
        raise ClientError(IOS_ERRORS.get(answer.status, "internalError"))
    document = json.loads(answer.body)
    if "etag" not in answer.headers or not isinstance(document["sizeBytes"], str):
        raise ClientError("internalError", "the reply was rejected")
    expires_ms = ios_time(document["expireTime"])
    return ModelInfo(document["downloadUri"], expires_ms, int(document["sizeBytes"]), answer.headers["etag"])


@dataclass
class FirebaseClient:
    """One installed app. `now` is the device's clock; `hash` and `content` are what it has stored."""

    get: Get
    base_url: str
    project: str
    platform: str
    now: Callable[[], datetime]
    hash: str | None = None
    content: bytes | None = None
    refetches: int = 0

    def headers(self) -> dict[str, str]:
        if self.platform == "ios":
            sent = {"x-goog-firebase-installations-auth": "token", "x-ios-bundle-identifier": "org.example.app"}
        else:
            sent = {
                "X-Goog-Firebase-Installations-Auth": "token",
                "x-goog-api-key": "key",
                "X-Android-Package": "org.example.app",
                "Content-Type": "application/json; charset=UTF-8",
                "Accept-Encoding": "gzip",
            }
        return sent

    def info(self, model: str, *, conditional: bool = True) -> ModelInfo | None:
        headers = self.headers()
        if conditional and self.hash is not None:
            headers["if-none-match"] = self.hash
        key = "?key=key" if self.platform == "ios" else ""
        url = f"{self.base_url}/v1beta2/projects/{self.project}/models/{model}:download{key}"
        answer = self.get(url, headers)
        return read_ios(answer, self.hash) if self.platform == "ios" else read_android(answer)

    def latest(self, model: str) -> bytes | None:
        """The model's bytes, from the server when it has others. Raises ClientError."""
        info = self.info(model)
        if info is not None:
            self.content, self.hash = self.download(model, info), info.model_hash
        return self.content

    def download(self, model: str, info: ModelInfo) -> bytes:
        """Only a 400 together with a passed expireTime leads to another question, and that not for ever."""
        answer = self.get(info.url, {})
        if 200 <= answer.status <= 299:
            if int(answer.headers["content-length"]) != len(answer.body):
                raise ClientError("internalError", "progress needs a Content-Length")
            return bytes(answer.body)
        expired = self.now().timestamp() * 1000 > info.expires_ms
        if not (answer.status == 400 and expired):
            codes, usual = (IOS_ERRORS, "internalError") if self.platform == "ios" else ({}, "INTERNAL")
            raise ClientError(codes.get(answer.status, usual))
        if self.refetches >= MOST_REFETCHES[self.platform]:
            raise ClientError("expired", "Unable to update expired model info.")
        self.refetches += 1
        fresh = self.info(model, conditional=False)
        assert fresh is not None
        return self.download(model, fresh)
