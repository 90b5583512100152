"""One byte range out of a Range header (RFC 9110 section 14). Pure."""

import re
from typing import NamedTuple

_RANGE = re.compile(rb"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*")


class ByteRange(NamedTuple):
    """The bytes [start, end) of a file."""

    start: int
    end: int


class Unsatisfiable(Exception):  # the word of RFC 9110
    """The range starts behind the last byte: 416."""


def parse_range(header: bytes, size: int) -> ByteRange | None:
    """The range asked for, clipped to `size` bytes; None if the header is to be ignored and the whole file sent.

    Ignored, as the RFC allows: other units, several ranges, anything malformed. Raises Unsatisfiable.

    >>> parse_range(b"bytes=10-", 100), parse_range(b"bytes=-10", 100), parse_range(b"bytes=0-0,5-6", 100)
    (ByteRange(start=10, end=100), ByteRange(start=90, end=100), None)
    """
    found = _RANGE.fullmatch(header)
    if found is None:
        return None
    first, last = found[1], found[2]
    if not first:
        return _suffix(int(last), size) if last else None
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, min(int(last) + 1, size) if last else size)


def _suffix(length: int, size: int) -> ByteRange:
    if length == 0 or size == 0:
        raise Unsatisfiable
    return ByteRange(max(0, size - length), size)
