"""Typed, bounded reading of JSON objects whose errors say where, what was expected and what was got. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import re

# Integers in signed documents must survive every JSON parser a phone may have: 2**53 - 1 is the widest safe one.
LARGEST_INTEGER = 2**53 - 1


class DocumentError(ValueError):
    """A document does not have the form it must have. `at` is a dotted path into it."""

    def __init__(self, at: str, expected: str, got: object) -> None:
        self.at = at
        self.expected = expected
        self.got = brief(got)
        super().__init__(f"{at}: expected {expected}, got {self.got}")


def brief(value: object, limit: int = 80) -> str:
    """One line of at most `limit` characters that shows a value in an error message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Members:
    """The members of one JSON object. Every reader raises `error` (a `DocumentError`) on a wrong type or bound."""

    def __init__(self, document: object, at: str, error: type[DocumentError] = DocumentError) -> None:
        if not isinstance(document, Mapping):
            raise error(at, "an object", document)
        self.document: Mapping[str, Any] = document
        self.at = at
        self.error = error

    def fail(self, name: str, expected: str) -> DocumentError:
        return self.error(f"{self.at}.{name}", expected, self.document.get(name))

    def has(self, name: str) -> bool:
        """True if the member is there and not null."""
        return self.document.get(name) is not None

    def text(
        self, name: str, default: str | None = None, *, pattern: re.Pattern[str] | None = None, most: int = 1024
    ) -> str:
        value = self.document.get(name, default)
        if not isinstance(value, str) or len(value) > most:
            raise self.fail(name, f"a string of at most {most} characters")
        if pattern is not None and not pattern.fullmatch(value):
            raise self.fail(name, f"a string like {pattern.pattern}")
        return value

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        value = self.document.get(name)
        if not isinstance(value, str) or value not in allowed:
            raise self.fail(name, "one of " + ", ".join(allowed))
        return value

    def integer(self, name: str, *, least: int = 0, most: int = LARGEST_INTEGER) -> int:
        value = self.document.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.fail(name, f"an integer from {least} to {most}")
        return value

    def integer_or_none(self, name: str, *, least: int = 0, most: int = LARGEST_INTEGER) -> int | None:
        return self.integer(name, least=least, most=most) if self.has(name) else None

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.document.get(name, default)
        if not isinstance(value, bool):
            raise self.fail(name, "true or false")
        return value

    def texts(self, name: str, *, most: int = 1000) -> tuple[str, ...]:
        value = self._sequence(name, most)
        if not all(isinstance(item, str) for item in value):
            raise self.fail(name, "a list of strings")
        return tuple(value)

    def integers(self, name: str, *, most: int = 1000) -> tuple[int, ...]:
        value = self._sequence(name, most)
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in value):
            raise self.fail(name, "a list of integers")
        return tuple(value)

    def object(self, name: str) -> Members:
        return Members(self.document.get(name), f"{self.at}.{name}", self.error)

    def object_or_none(self, name: str) -> Members | None:
        return self.object(name) if self.has(name) else None

    def objects(self, name: str, *, most: int = 1000) -> tuple[Members, ...]:
        items = self._sequence(name, most)
        return tuple(Members(item, f"{self.at}.{name}[{index}]", self.error) for index, item in enumerate(items))

    def mapping(self, name: str, *, most: int = 10_000) -> dict[str, Members]:
        """The objects under `name` by their keys, in the document's order."""
        inner = self.object(name)
        if len(inner.document) > most:
            raise self.fail(name, f"at most {most} members")
        return {key: inner.object(key) for key in inner.document}

    def _sequence(self, name: str, most: int) -> Sequence[Any]:
        value = self.document.get(name, [])
        if not isinstance(value, list | tuple) or len(value) > most:
            raise self.fail(name, f"a list of at most {most} items")
        return value
