"""Bodies in JSON, bounded, and without what PostgreSQL cannot keep."""

import json
import math
from typing import Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

MAX_BODY_BYTES = 32 << 20  # a version's labels: 100 000 of 200 characters
MAX_DEPTH = 32


class BoundedJSONParser(BaseParser):
    """Refuses a body that is too long or too deep, numbers that are none, NUL characters and broken Unicode."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:  # noqa: ARG002
        data = stream.read(MAX_BODY_BYTES + 1)
        if len(data) > MAX_BODY_BYTES:
            raise ParseError(f"expected a body of at most {MAX_BODY_BYTES} bytes, got more")
        try:
            document = json.loads(data.decode("utf-8"), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise ParseError(f"expected JSON in UTF-8: {error}") from error
        _require_storable(document)
        return document


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _require_storable(document: Any) -> None:
    stack: list[tuple[Any, int]] = [(document, 0)]
    while stack:
        value, depth = stack.pop()
        if depth > MAX_DEPTH:
            raise ParseError(f"expected at most {MAX_DEPTH} levels, got more")
        if isinstance(value, dict):
            stack.extend((inner, depth + 1) for pair in value.items() for inner in pair)
        elif isinstance(value, list):
            stack.extend((inner, depth + 1) for inner in value)
        elif isinstance(value, str) and not _is_storable(value):
            raise ParseError("expected text without NUL characters and lone surrogates, got one")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ParseError("expected finite numbers, got one that is not")


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text
