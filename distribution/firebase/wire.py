"""Names, times and errors as Firebase ML writes them on the wire (API version v1beta2). Pure.

Both planes use it: the admin API of the control plane and the download route of the device plane.
"""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

NOT_FOUND = "Requested entity was not found."
INVALID_ARGUMENT = "Request contains an invalid argument."
NO_FILE = "No model file has been uploaded."
INVALID_FILE = "Invalid flatbuffer format"
NOT_VERIFIED = "Cannot publish a model that is not verified."
TYPE = "type.googleapis.com/google.firebase.ml.v1beta2."

DISPLAY_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
TAG = DISPLAY_NAME
MODEL_ID = re.compile(r"[A-Za-z0-9_-]{1,60}")
# google.rpc.Code and the HTTP status that Google's APIs give with it.
CODES = {
    "INVALID_ARGUMENT": (3, 400),
    "FAILED_PRECONDITION": (9, 400),
    "UNAUTHENTICATED": (16, 401),
    "PERMISSION_DENIED": (7, 403),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "ABORTED": (10, 409),
    "RESOURCE_EXHAUSTED": (8, 429),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
}
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_BUCKET_SUFFIXES = (".appspot.com", ".firebasestorage.app")


def error_body(status: int, word: str, message: str, detail: str = "") -> dict[str, Any]:
    """The body of an error answer. `word` is a name of google.rpc.Code; `detail` says more than Google's own words."""
    error: dict[str, Any] = {"code": status, "message": message, "status": word}
    if detail and detail != message:
        error["details"] = [_debug(detail)]
    return {"error": error}


def rpc_status(word: str, message: str, detail: str = "") -> dict[str, Any]:
    """google.rpc.Status, as operations and `state.validationError` carry it."""
    status: dict[str, Any] = {"code": CODES[word][0], "message": message}
    if detail and detail != message:
        status["details"] = [_debug(detail)]
    return status


def _debug(detail: str) -> dict[str, str]:
    return {"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": detail}


def milliseconds(at: datetime) -> str:
    """`2030-01-31T12:00:00.000Z`. Android reads exactly three digits: six would be so many milliseconds, none an error.

    >>> milliseconds(datetime(2030, 1, 31, 12, 0, 0, 1999, UTC))
    '2030-01-31T12:00:00.001Z'
    """
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def microseconds(at: datetime) -> str:
    """`2030-01-31T12:00:00.000000Z`: the admin package for Python demands a fraction.

    >>> microseconds(datetime(2030, 1, 31, 12, 0, tzinfo=UTC))
    '2030-01-31T12:00:00.000000Z'
    """
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def slug_of(display_name: str) -> str:
    """The registered model that a display name stands for: its own name where that is a slug already.

    Else a readable part and the first eight hex digits of the SHA-256 of the display name, so that both planes know
    it without asking each other. Two names of one slug are refused where the second is made.

    >>> slug_of("digits"), slug_of("Mobile_Net")
    ('digits', 'mobile-net-6ea1b941')
    """
    if _SLUG.fullmatch(display_name):
        return display_name
    readable = re.sub(r"[^a-z0-9]+", "-", display_name.lower()).strip("-") or "model"
    return f"{readable}-{hashlib.sha256(display_name.encode()).hexdigest()[:8]}"


def application_of_bucket(bucket: str) -> str:
    """An application's bucket has its name, or that with the endings of Firebase's default buckets."""
    for suffix in _BUCKET_SUFFIXES:
        bucket = bucket.removesuffix(suffix)
    return bucket


def bucket_and_object(uri: str) -> tuple[str, str]:
    """From `gs://bucket/object`, or from the signed URL that the admin packages make of it.

    Nothing is ever fetched from such a URL: who asks has shown a token. Raises ValueError.

    >>> bucket_and_object("https://storage.example/demo/Firebase/ML/a%20b.tflite?X-Goog-Signature=00")
    ('demo', 'Firebase/ML/a b.tflite')
    """
    parts = urlsplit(uri)
    if parts.scheme == "gs":
        bucket, name = parts.netloc, uri.removeprefix(f"gs://{parts.netloc}/")
    elif parts.scheme in {"http", "https"}:
        bucket, _, name = unquote(parts.path).removeprefix("/").partition("/")
    else:
        bucket = name = ""
    if not bucket or not name or name == uri:
        raise ValueError(f"expected gs://<bucket>/<object> or its signed URL, got {uri[:200]!r}")
    return bucket, name
