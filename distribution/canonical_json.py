"""Signed JSON: the bytes a signature is made over, and the file that holds a document with its signatures. Pure.

Format: OLPC canonical JSON, as TUF uses it; `sdk_stubs/vectors/canonical_json.json` binds every implementation.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from securesystemslib.formats import encode_canonical

from registry.json_members import LARGEST_INTEGER, DocumentError

_DEEPEST = 20


class Unsignable(DocumentError):
    """A document holds what has no one canonical form, or what a phone's parser may not survive."""


def canonical_bytes(document: Mapping[str, Any]) -> bytes:
    """OLPC canonical JSON: sorted members, no white space, no floats. The bytes a signature is made over.

    Raises `Unsignable`.
    """
    refuse_unsignable(document, "document")
    text = encode_canonical(dict(document))
    assert text is not None
    return text.encode("utf-8")


def envelope(signed: Mapping[str, Any], signatures: Sequence[Mapping[str, str]]) -> bytes:
    """The stored file: compact JSON that the device plane splices into its answers as it stands.

    Ordinary JSON, because canonical JSON leaves control characters unescaped and phones' parsers refuse them.
    """
    document = {
        "signatures": [{"keyid": item["keyid"], "sig": item["sig"]} for item in signatures],
        "signed": signed,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def refuse_unsignable(value: object, at: str, error: type[DocumentError] = Unsignable, depth: int = 0) -> None:
    """Raise `error` unless `value` is text, integers, booleans, nulls, lists and objects of bounded depth."""
    if depth > _DEEPEST:
        raise error(at, f"at most {_DEEPEST} levels", "more")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise error(at, "members named by text", key)
            refuse_unsignable(inner, f"{at}.{key}", error, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            refuse_unsignable(inner, at, error, depth + 1)
    elif isinstance(value, str):
        _refuse_lone_surrogate(value, at, error)
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_INTEGER:
        raise error(at, f"integers up to {LARGEST_INTEGER}", value)
    elif value is not None and not isinstance(value, int):
        raise error(at, "no floats, only text, integers, booleans, lists and objects", value)


def _refuse_lone_surrogate(text: str, at: str, error: type[DocumentError]) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise error(at, "text that UTF-8 can encode", ascii(text)) from None
