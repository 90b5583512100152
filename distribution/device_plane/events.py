"""Event batches of phones: decompressed within bounds, checked one by one, appended to the event stream.

A batch is accepted (202) only after the stream has it. A bad event is reported by its index and sinks nothing else.
"""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import zstandard

from distribution.catalog import NAME
from distribution.device_plane.problems import Problem, bad_field
from distribution.device_plane.query import profile_of
from registry.json_members import brief

MOST_COMPRESSED_BYTES = 512 * 1024
MOST_BYTES = 8 * 1024 * 1024
MOST_EVENTS = 500
MOST_HISTOGRAM_BINS = 64
# What the columns of a stored event hold: beyond it one event would sink its whole batch in the database.
LONGEST_ERROR = 200
LARGEST_VERSION = 2**31 - 1
OLDEST = timedelta(days=30)
# A phone stamps `sent_at` after its newest event; a clock set back in between may put one a little ahead.
NEWEST = timedelta(minutes=10)

STAGES = (
    "assigned", "offered", "download", "verify", "unpack", "compile", "sanity", "activate",
    "first_inference", "inference", "fallback", "rollback",
)  # fmt: skip
OUTCOMES = ("ok", "failed", "skipped")

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?Z")
_LARGEST = 2**53 - 1


class SinkUnavailableError(Exception):
    """The event stream did not take a batch in time; the phone keeps it and tries again."""


class EventSink(Protocol):
    async def append(self, fields: Mapping[str, str]) -> None:
        """Return once the batch is in the stream. Raises SinkUnavailableError."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Rejected:
    index: int
    code: str
    detail: str


class Batch(NamedTuple):
    """`document` is what goes to the stream: the accepted events only."""

    document: dict[str, Any]
    rejected: list[Rejected]

    @property
    def accepted(self) -> int:
        return len(self.document["events"])


class EventError(ValueError):
    """One event is not of the right form."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def read_batch(data: bytes, encoding: str) -> Batch:
    """Raises Problem: 400 if the batch as a whole is wrong, 413 if it is too large, 415 on an unknown encoding."""
    document = _parse(decompress(data, encoding))
    sent_at = _read_sent_at(document)
    events = document.get("events")
    if not isinstance(events, list):
        raise bad_field("events", "a list", brief(events))
    if len(events) > MOST_EVENTS:
        raise Problem(
            413, "too_many_events", f"events: expected at most {MOST_EVENTS}, got {len(events)}", field="events"
        )
    accepted, rejected = _sort_out(events, sent_at)
    stated = {"profile": _read_profile(document.get("profile", {})), "sent_at": document["sent_at"]}
    return Batch(stated | _read_channel(document) | {"events": accepted}, rejected)


def decompress(data: bytes, encoding: str) -> bytes:
    """At most MOST_BYTES, however small the compressed body is. Raises Problem."""
    if encoding in ("", "identity"):
        return data
    try:
        if encoding == "gzip":
            plain = _gunzip(data)
        elif encoding == "zstd":
            plain = _unzstd(data)
        else:
            raise Problem(
                415,
                "unsupported_encoding",
                f"Content-Encoding: expected gzip, zstd or identity, got {encoding[:40]}",
                field="Content-Encoding",
                headers={"accept-encoding": "gzip, zstd, identity"},
            )
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        detail = f"body: expected {encoding} data, got {error or 'a truncated stream'}"
        raise Problem(400, "invalid_body", detail, field="body") from None
    if len(plain) > MOST_BYTES:
        raise too_large(f"{MOST_BYTES} bytes decompressed")
    return plain


def too_large(bound: str) -> Problem:
    return Problem(413, "body_too_large", f"body: expected at most {bound}, got more", field="body")


def _gunzip(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    plain = stream.decompress(data, MOST_BYTES + 1)
    if not stream.eof and len(plain) <= MOST_BYTES:
        raise EOFError
    return plain


def _unzstd(data: bytes) -> bytes:
    # Without a bound on the window a few bytes of header could ask for gigabytes of memory.
    with zstandard.ZstdDecompressor(max_window_size=MOST_BYTES).stream_reader(data) as reader:
        return reader.read(MOST_BYTES + 1)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "invalid_json", f"body: expected JSON in UTF-8, got {error}", field="body") from None
    if not isinstance(document, dict):
        raise bad_field("body", "an object", brief(document))
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name}, which is not JSON")


def _read_profile(value: object) -> dict[str, Any]:
    """The known members that are stated; accelerators as a sorted list."""
    if not isinstance(value, dict):
        raise bad_field("profile", "an object", brief(value))
    stated = asdict(profile_of(value, "profile."))
    stated["accelerators"] = sorted(stated["accelerators"])
    return {name: item for name, item in stated.items() if item not in ("", None, [])}


def _read_channel(document: Mapping[str, Any]) -> dict[str, str]:
    """Of the right form, whether there is such a channel or not: nothing stands there that events could belong to."""
    name = document.get("channel")
    if name is None:
        return {}
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise bad_field("channel", "a channel's name", brief(name))
    return {"channel": name}


def _read_sent_at(document: Mapping[str, Any]) -> datetime:
    try:
        return parse_time(document.get("sent_at"))
    except ValueError as error:
        raise bad_field("sent_at", str(error), brief(document.get("sent_at"))) from None


def parse_time(text: object) -> datetime:
    """A UTC time with up to microseconds. Raises ValueError saying what was expected."""
    if isinstance(text, str) and _TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except ValueError:
            pass
    raise ValueError("a time like 2030-01-31T12:00:00Z")


def _sort_out(events: list[Any], sent_at: datetime) -> tuple[list[dict[str, Any]], list[Rejected]]:
    accepted, rejected = [], []
    for index, event in enumerate(events):
        try:
            accepted.append(check_event(event, sent_at))
        except EventError as error:
            rejected.append(Rejected(index, error.code, str(error)))
    return accepted, rejected


def check_event(event: object, sent_at: datetime) -> dict[str, Any]:
    """The event's known members, all within bounds; others are dropped. Raises EventError."""
    if not isinstance(event, dict):
        raise EventError("invalid_event", f"expected an object, got {brief(event)}")
    checked: dict[str, Any] = {
        "id": _text(event, "id", _UUID, "a UUID").lower(),
        "at": _read_at(event, sent_at),
        "stage": _one_of(event, "stage", STAGES),
        "outcome": _one_of(event, "outcome", OUTCOMES),
        "model": _text(event, "model", NAME, "a model's name"),
    }
    optional = {
        "version": _integer(event, "version", LARGEST_VERSION),
        "variant": _optional_text(event, "variant", NAME),
        "experiment": _optional_text(event, "experiment", NAME),
        "phase": _integer(event, "phase", LARGEST_VERSION),
        "ms": _integer(event, "ms"),
        "bytes": _integer(event, "bytes"),
        "error": _read_error(event),
        "histogram": _read_histogram(event),
    }
    return checked | {name: value for name, value in optional.items() if value is not None}


def _read_at(event: Mapping[str, Any], sent_at: datetime) -> str:
    text = event.get("at")
    try:
        at = parse_time(text)
    except ValueError as error:
        raise EventError("invalid_at", f"at: expected {error}, got {brief(text)}") from None
    if sent_at - at > OLDEST:
        raise EventError("too_old", f"at: expected at most {OLDEST.days} days before sent_at, got {text}")
    if at - sent_at > NEWEST:
        raise EventError("in_future", f"at: expected no later than sent_at, got {text}")
    return str(text)


def _one_of(event: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = event.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise EventError(f"invalid_{name}", f"{name}: expected one of {', '.join(allowed)}, got {brief(value)}")
    return value


def _text(event: Mapping[str, Any], name: str, pattern: re.Pattern[str], expected: str) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise EventError(f"invalid_{name}", f"{name}: expected {expected}, got {brief(value)}")
    return value


def _optional_text(event: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str | None:
    return _text(event, name, pattern, f"text like {pattern.pattern}") if event.get(name) is not None else None


def _integer(event: Mapping[str, Any], name: str, most: int = _LARGEST) -> int | None:
    value = event.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or not _is_count(value) or value > most:
        raise EventError(f"invalid_{name}", f"{name}: expected an integer from 0 to {most}, got {brief(value)}")
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def _read_error(event: Mapping[str, Any]) -> str | None:
    value = event.get("error")
    if value is None:
        return None
    # NUL and lone surrogates cannot be stored in PostgreSQL, and would sink the whole batch there.
    if not isinstance(value, str) or len(value) > LONGEST_ERROR or not value.isprintable():
        raise EventError("invalid_error", f"error: expected printable text up to {LONGEST_ERROR}, got {brief(value)}")
    return value


def _read_histogram(event: Mapping[str, Any]) -> list[int] | None:
    value = event.get("histogram")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MOST_HISTOGRAM_BINS or not all(map(_is_count, value)):
        detail = f"histogram: expected at most {MOST_HISTOGRAM_BINS} counts, got {brief(value)}"
        raise EventError("invalid_histogram", detail)
    return value
