"""Reads the bodies and queries of the admin API. Raises `FirebaseInvalid` with what was expected and what came."""

from collections.abc import Mapping
from typing import Any

from distribution.firebase import wire
from distribution.firebase.errors import FirebaseInvalid

MOST_TAGS = 100
USUAL_PAGE, LARGEST_PAGE = 100, 100
# The members that a caller may set, by the spellings in which a mask may name them.
PATHS = {
    "displayName": "display_name",
    "display_name": "display_name",
    "tags": "tags",
    "tfliteModel": "file",
    "tflite_model": "file",
    "tfliteModel.gcsTfliteUri": "file",
    "tflite_model.gcs_tflite_uri": "file",
    "state.published": "published",
}
_ALL = ("display_name", "tags", "file")


def document(data: Any) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise FirebaseInvalid(f"expected a model as a JSON object, got {type(data).__name__}")
    return data


def wanted(query: Mapping[str, str], body: Mapping[str, Any]) -> set[str]:
    """Which members a PATCH sets: those of its mask; without one those of the body, but never `state`."""
    mask = query.get("updateMask", query.get("update_mask", ""))
    if not mask:
        return {name for name in _ALL if _has(body, name)}
    unknown = sorted(set(mask.split(",")) - set(PATHS))
    if unknown:
        raise FirebaseInvalid(f"updateMask: expected some of {', '.join(PATHS)}, got {', '.join(unknown)[:200]}")
    return {PATHS[path] for path in mask.split(",")}


def display_name(body: Mapping[str, Any]) -> str:
    return _word(body.get("displayName"), "displayName")


def tags(body: Mapping[str, Any]) -> list[str]:
    found = body.get("tags") or []
    if not isinstance(found, list) or len(found) > MOST_TAGS:
        raise FirebaseInvalid(f"tags: expected a list of at most {MOST_TAGS}", field="tags")
    return list(dict.fromkeys(_word(tag, "tags") for tag in found))


def gcs_uri(body: Mapping[str, Any]) -> str | None:
    """None where the body has no file. An empty `tfliteModel`, as the Python package sends it, is none either."""
    model = body.get("tfliteModel") or {}
    uri = model.get("gcsTfliteUri") if isinstance(model, dict) else 0
    if uri is None:
        return None
    if not isinstance(uri, str):
        raise FirebaseInvalid("tfliteModel.gcsTfliteUri: expected a string", field="tfliteModel.gcsTfliteUri")
    return uri


def published(body: Mapping[str, Any]) -> bool:
    state = body.get("state") or {}
    found = state.get("published", False) if isinstance(state, dict) else None
    if not isinstance(found, bool):
        raise FirebaseInvalid("state.published: expected true or false", field="state.published")
    return found


def page(query: Mapping[str, str]) -> tuple[int, int]:
    """(how many, the row's id after which it begins)."""
    size = query.get("page_size", query.get("pageSize", ""))
    if size and not (size.isascii() and size.isdigit() and 1 <= int(size[:9]) <= LARGEST_PAGE):
        raise FirebaseInvalid(f"page_size: expected 1 to {LARGEST_PAGE}, got {size[:40]!r}", field="page_size")
    token = query.get("page_token", query.get("pageToken", ""))
    if token and not (token.isascii() and token.isdigit() and len(token) <= 18):  # noqa: PLR2004  # 64 bits
        raise FirebaseInvalid(f"page_token: expected one that a list gave, got {token[:40]!r}", field="page_token")
    return int(size or USUAL_PAGE), int(token or 0)


def _has(body: Mapping[str, Any], name: str) -> bool:
    return gcs_uri(body) is not None if name == "file" else {"display_name": "displayName"}.get(name, name) in body


def _word(value: Any, field: str) -> str:
    if not isinstance(value, str) or not wire.DISPLAY_NAME.fullmatch(value):
        raise FirebaseInvalid(
            f"{field}: expected 1 to 32 letters, digits, _ or -, got {str(value)[:80]!r}", field=field
        )
    return value
