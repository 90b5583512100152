"""What a poll asks for: every field bounded in length and alphabet, a bad one named. Pure."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from distribution.catalog import NAME
from distribution.device_plane.problems import Problem, bad_field
from registry.device_classes import DeviceProfile

LONGEST_QUERY = 8_192
MOST_MODELS = 50
MOST_ACCELERATORS = 16
LARGEST_RAM_MB = 100_000_000

UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}")
_TOKEN = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,7}(?:[-+._ ]?[A-Za-z][A-Za-z0-9.+_-]{0,31})?")
_HARDWARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._/+(),:-]{0,63}")
_INTEGER = re.compile(r"[0-9]{1,15}")

_TEXT_FIELDS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "os": (_TOKEN, "a lower-case token of at most 32 characters (a-z 0-9 . _ -)"),
    "os_version": (_VERSION, "a dotted version (14.0.3)"),
    "app_version": (_VERSION, "a dotted version (14.0.3)"),
    "runtime": (_TOKEN, "a lower-case token of at most 32 characters (a-z 0-9 . _ -)"),
    "runtime_version": (_VERSION, "a dotted version (14.0.3)"),
    "device": (_HARDWARE, "at most 64 characters of A-Z a-z 0-9 space . _ / + ( ) , : -"),
    "soc": (_HARDWARE, "at most 64 characters of A-Z a-z 0-9 space . _ / + ( ) , : -"),
}
_PROFILE_FIELDS = frozenset(_TEXT_FIELDS) | {"ram_mb", "accelerators"}
_KNOWN_FIELDS = _PROFILE_FIELDS | {"models", "current"}


class PollQuery(NamedTuple):
    """`current` maps a model's name to the version the device runs now."""

    profile: DeviceProfile
    models: tuple[str, ...]
    current: Mapping[str, int]


def parse_query(raw: bytes, model: str | None = None) -> PollQuery:
    """The query string of a poll; `model` is the one in the path, in place of `models`. Raises Problem (400).

    Parameters this version does not know are ignored, so that newer phones can talk to older servers.
    """
    fields = _single_values(raw)
    if model is None:
        models = _read_models(fields.get("models", ""))
    elif "models" in fields:
        raise bad_field("models", "nothing when the model is in the path", fields["models"])
    else:
        models = (_checked("model", model, NAME, "a model's name"),)
    return PollQuery(profile_of(fields), models, _read_current(fields.get("current", "")))


def profile_of(fields: Mapping[str, Any], prefix: str = "") -> DeviceProfile:
    """A profile from a query or from the `profile` of an event batch; absent and empty mean unknown.

    `ram_mb` may be text or an integer, `accelerators` a comma list or a list. Raises Problem naming `prefix` + field.
    """
    texts = {}
    for name, (pattern, expected) in _TEXT_FIELDS.items():
        value = fields.get(name)
        texts[name] = _checked(prefix + name, value, pattern, expected) if value else ""
    return DeviceProfile(
        **texts,
        ram_mb=_read_ram(fields.get("ram_mb"), prefix + "ram_mb"),
        accelerators=_read_accelerators(fields.get("accelerators"), prefix + "accelerators"),
    )


def read_unit(raw: bytes) -> str:
    """The installation id of header Aerogram-Unit. The value stays out of the message: it must never be logged."""
    unit = raw.decode("latin-1")
    if not UNIT.fullmatch(unit):
        raise Problem(
            400,
            "invalid_field",
            f"Aerogram-Unit: expected 1 to 128 characters of A-Z a-z 0-9 . _ : ~ -, got {len(unit)} characters",
            field="Aerogram-Unit",
        )
    return unit


def _single_values(raw: bytes) -> dict[str, str]:
    if len(raw) > LONGEST_QUERY:
        raise Problem(
            400, "query_too_long", f"query: expected at most {LONGEST_QUERY} bytes, got {len(raw)}", field="query"
        )
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=64, errors="strict")
    except ValueError as error:
        raise Problem(
            400, "invalid_query", f"query: expected percent-encoded UTF-8, got {error}", field="query"
        ) from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields and name in _KNOWN_FIELDS:
            raise bad_field(name, "one value", f"{fields[name]}, {value}")
        fields[name] = value
    return fields


def _read_models(text: str) -> tuple[str, ...]:
    names = text.split(",") if text else []
    if not 1 <= len(names) <= MOST_MODELS:
        raise bad_field("models", f"1 to {MOST_MODELS} names separated by commas", text)
    return tuple(dict.fromkeys(_checked("models", name, NAME, "names like digits or face-mesh") for name in names))


def _read_current(text: str) -> dict[str, int]:
    pairs = text.split(",") if text else []
    if len(pairs) > MOST_MODELS:
        raise bad_field("current", f"at most {MOST_MODELS} pairs model:version", text)
    current = {}
    for pair in pairs:
        name, _, version = pair.partition(":")
        if not (NAME.fullmatch(name) and _INTEGER.fullmatch(version)):
            raise bad_field("current", "pairs model:version separated by commas", pair)
        current[name] = int(version)
    return current


def _read_ram(value: object, field: str) -> int | None:
    if value is None or value == "":
        return None
    text = str(value)
    if isinstance(value, bool) or not _INTEGER.fullmatch(text) or int(text) > LARGEST_RAM_MB:
        raise bad_field(field, f"MiB as an integer from 0 to {LARGEST_RAM_MB}", text)
    return int(text)


def _read_accelerators(value: object, field: str) -> frozenset[str]:
    if not value:
        return frozenset()
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or len(names) > MOST_ACCELERATORS:
        raise bad_field(field, f"at most {MOST_ACCELERATORS} tokens", str(value))
    return frozenset(_checked(field, name, _TOKEN, "tokens like gpu or npu") for name in names)


def _checked(field: str, value: object, pattern: re.Pattern[str], expected: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise bad_field(field, expected, str(value))
    return value
