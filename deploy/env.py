"""Typed readers of environment variables.

A variable that is absent or empty counts as not set: Compose and systemd pass empty strings for "nothing here".
Every refusal is an `EnvError` naming the variable, what was expected and what was got, because it is read by
whoever starts the server and not by whoever wrote it. Passwords inside URLs are masked in messages.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self, TypeVar, overload
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_SECONDS_PER_UNIT: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_T = TypeVar("_T")


class EnvError(ValueError):
    """A variable that whoever starts the process must set or correct."""

    def __init__(self, name: str, *, expected: str, got: str) -> None:
        super().__init__(f"{name}: expected {expected}, got {got}")
        self.name = name
        self.expected = expected
        self.got = got


class Required:
    """The default of a variable that has none."""


REQUIRED: Final = Required()


class ParsedUrl(str):
    """A URL that passed its checks: the text as it was given, and its parts decoded.

    `path` keeps its leading slash: `file:///var/blobs` has the path `/var/blobs`, `redis://host/1` has `/1`.
    """

    __slots__ = ("_parts",)
    _parts: SplitResult

    def __new__(cls, text: str) -> Self:
        url = super().__new__(cls, text)
        url._parts = urlsplit(text)
        return url

    @property
    def scheme(self) -> str:
        return self._parts.scheme

    @property
    def host(self) -> str:
        """Host name without brackets; empty where the URL has none (`file:///…`, a database's Unix socket)."""
        return unquote(self._parts.hostname or "")

    @property
    def port(self) -> int | None:
        return self._parts.port

    @property
    def username(self) -> str:
        return unquote(self._parts.username or "")

    @property
    def password(self) -> str:
        return unquote(self._parts.password or "")

    @property
    def path(self) -> str:
        return unquote(self._parts.path)

    @property
    def query(self) -> dict[str, str]:
        """Query parameters; of one given twice the last."""
        return dict(parse_qsl(self._parts.query, keep_blank_values=True))

    @property
    def masked(self) -> str:
        """The URL for messages and logs: `***` in place of the password."""
        if self._parts.password is None:
            return str(self)
        return str(self).replace(f":{self._parts.password}@", ":***@", 1)


def text(name: str, default: str | Required = REQUIRED) -> str:
    """A string, without surrounding white space."""
    raw = _read(name)
    return _default(name, default, "a value") if raw is None else raw


def flag(name: str, *, default: bool | Required = False) -> bool:
    """A boolean: 1/true/yes/on or 0/false/no/off, in any case."""
    expected = "one of 1/true/yes/on or 0/false/no/off"
    raw = _read(name)
    if raw is None:
        return _default(name, default, expected)
    if raw.lower() in _TRUE:
        return True
    if raw.lower() in _FALSE:
        return False
    raise EnvError(name, expected=expected, got=repr(raw))


def integer(
    name: str, default: int | Required = REQUIRED, *, minimum: int | None = None, maximum: int | None = None
) -> int:
    """A whole number in decimal, within the bounds (both inclusive)."""
    expected = "a whole number" + _range(minimum, maximum)
    raw = _read(name)
    if raw is None:
        return _default(name, default, expected)
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", raw) or not _within(int(raw), minimum, maximum):
        raise EnvError(name, expected=expected, got=repr(raw))
    return int(raw)


def seconds(
    name: str, default: int | Required = REQUIRED, *, minimum: int | None = 0, maximum: int | None = None
) -> int:
    """A duration in seconds: a whole number, optionally with a unit s, m, h or d (`90`, `15m`, `4h`, `7d`)."""
    expected = "a whole number of seconds, or with a unit s, m, h, d" + _range(minimum, maximum)
    raw = _read(name)
    if raw is None:
        return _default(name, default, expected)
    found = re.fullmatch(r"([0-9]{1,12})([smhd]?)", raw)
    value = int(found[1]) * _SECONDS_PER_UNIT[found[2]] if found else None
    if value is None or not _within(value, minimum, maximum):
        raise EnvError(name, expected=expected, got=repr(raw))
    return value


@overload
def url(name: str, default: str | Required = REQUIRED, *, schemes: Sequence[str]) -> ParsedUrl: ...
@overload
def url(name: str, default: None, *, schemes: Sequence[str]) -> ParsedUrl | None: ...
def url(name: str, default: str | Required | None = REQUIRED, *, schemes: Sequence[str]) -> ParsedUrl | None:
    """A URL of one of the schemes. A scheme of `file` needs an absolute path and no host."""
    expected = "a URL starting with " + " or ".join(f"{scheme}://" for scheme in schemes)
    raw = _read(name)
    if raw is None:
        fallback = _default(name, default, expected)
        return None if fallback is None else ParsedUrl(fallback)
    try:
        parsed = ParsedUrl(raw)
        _ = parsed.port  # the only part that is checked late
    except ValueError as error:
        raise EnvError(name, expected=expected, got=f"one that cannot be parsed ({error})") from None
    if parsed.scheme not in schemes or f"{parsed.scheme}://" not in raw[: len(parsed.scheme) + 3].lower():
        raise EnvError(name, expected=expected, got=repr(parsed.masked))
    if parsed.scheme == "file" and (parsed.host or not parsed.path.startswith("/")):
        raise EnvError(name, expected="file:// and an absolute path (file:///srv/blobs)", got=repr(raw))
    return parsed


def items(name: str, default: Sequence[str] | Required = REQUIRED) -> list[str]:
    """A list separated by commas; white space around items and empty items are dropped."""
    raw = _read(name)
    if raw is None:
        return list(_default(name, default, "a list separated by commas"))
    return [item.strip() for item in raw.split(",") if item.strip()]


def folder(name: str, default: Path | Required = REQUIRED) -> Path:
    """An absolute path of a folder, which need not exist yet; `~` stands for the home folder."""
    expected = "an absolute path of a folder"
    raw = _read(name)
    if raw is None:
        return _default(name, default, expected)
    path = Path(raw).expanduser()
    if not path.is_absolute():
        raise EnvError(name, expected=expected, got=repr(raw))
    if path.exists() and not path.is_dir():
        raise EnvError(name, expected=expected, got=f"{raw!r}, which is not a folder")
    return path


def _read(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def _default(name: str, default: _T | Required, expected: str) -> _T:
    if isinstance(default, Required):
        raise EnvError(name, expected=expected, got="nothing (the variable is not set)")
    return default


def _within(value: int, minimum: int | None, maximum: int | None) -> bool:
    return (minimum is None or value >= minimum) and (maximum is None or value <= maximum)


def _range(minimum: int | None, maximum: int | None) -> str:
    if minimum is not None and maximum is not None:
        return f" from {minimum} to {maximum}"
    if minimum is not None:
        return f" of at least {minimum}"
    return "" if maximum is None else f" of at most {maximum}"
