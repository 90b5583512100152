"""Applying a weightdiff-1 patch with the standard library alone; docs/weightdiff.md gives the format to the byte.

This file exists twice, on the server and in the Python SDK, byte for byte the same (a test compares them). Memory does
not depend on the size of the files: base, patch and result are read and written in pieces.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

MAGIC = b"AGWD\x01\0\0\0"
MOST_BYTES = 2**31 - 1  # of base, result and patch: lengths fit a signed 32-bit integer in every language
MOST_SEGMENTS = 1 << 18
PIECE = 1 << 16  # bytes worked on at once; a multiple of every width
DEFLATED_AT_ONCE = 1 << 14
GAPS_AT_ONCE = 1 << 12

ADD, COPY = 0, 1
DIFF_WIDTHS = {2: 1, 3: 2, 4: 4}  # operation -> bytes of an element
PLANES = ((1, 0), (2, 0), (2, 1), (4, 0), (4, 1), (4, 2), (4, 3))  # (width, which byte of the element, lowest first)
CONTROL_STREAM, LITERAL_STREAM, FIRST_PLANE, FIRST_GAPS = 0, 1, 2, 2 + len(PLANES)
STREAMS = FIRST_GAPS + len(PLANES)
HEADER = struct.Struct(f"<8s32s32sIII{STREAMS}I")


class PatchError(ValueError):
    """The patch was not applied; what was written is not the target."""


class PatchInvalid(PatchError):
    """Not a weightdiff-1 patch, damaged, or beyond its limits."""


class BaseMismatch(PatchError):
    """The patch is for another base."""


class ResultMismatch(PatchError):
    """The patch makes another file than the one wanted."""


@dataclass(frozen=True)
class Header:
    """`stream_lengths` are bytes as deflated, in the order in which the streams follow the header."""

    base_sha256: bytes
    target_sha256: bytes
    base_length: int
    target_length: int
    segments: int
    stream_lengths: tuple[int, ...]

    def pack(self) -> bytes:
        lengths = (self.base_length, self.target_length, self.segments)
        return HEADER.pack(MAGIC, self.base_sha256, self.target_sha256, *lengths, *self.stream_lengths)

    @classmethod
    def read(cls, patch: BinaryIO) -> "Header":
        """Raises PatchInvalid also if the streams do not fill the patch exactly."""
        content = patch.read(HEADER.size)
        if len(content) != HEADER.size or not content.startswith(MAGIC):
            raise PatchInvalid(f"patch: expected {HEADER.size} bytes of header from {MAGIC!r}, got {content[:8]!r}")
        _, base_sha256, target_sha256, base_length, target_length, segments, *streams = HEADER.unpack(content)
        size = patch.seek(0, 2)
        if max(base_length, target_length, size) > MOST_BYTES or segments > min(MOST_SEGMENTS, target_length):
            raise PatchInvalid(f"patch: expected sizes within the limits, got {target_length} in {segments} segments")
        if HEADER.size + sum(streams) != size:
            raise PatchInvalid(f"patch: expected {HEADER.size + sum(streams)} bytes, got {size}")
        return cls(base_sha256, target_sha256, base_length, target_length, segments, tuple(streams))


def apply_patch(patch: BinaryIO, base: BinaryIO, result: BinaryIO, *, sha256: str, length: int) -> None:
    """Write the file of `length` bytes and digest `sha256` to `result`. Never writes more. Raises PatchError."""
    header = Header.read(patch)
    if (header.target_sha256.hex(), header.target_length) != (sha256, length):
        raise ResultMismatch(f"patch: expected the target {sha256} of {length} bytes, got another")
    _require_base(base, header)
    digest = hashlib.sha256()
    for piece in _pieces(patch, base, header):
        digest.update(piece)
        result.write(piece)
    if digest.digest() != header.target_sha256:
        raise ResultMismatch(f"patch: expected to make {sha256}, got {digest.hexdigest()}")


def _require_base(base: BinaryIO, header: Header) -> None:
    size = base.seek(0, 2)
    digest = hashlib.sha256()
    base.seek(0)
    while size == header.base_length and (piece := base.read(PIECE)):
        digest.update(piece)
    if size != header.base_length or digest.digest() != header.base_sha256:
        raise BaseMismatch(f"patch: expected the base {header.base_sha256.hex()}, got another")


def _pieces(patch: BinaryIO, base: BinaryIO, header: Header) -> Iterator[bytes]:
    streams = _streams(patch, header)
    planes: list[_Buffered] = [
        _GapPlane(streams[FIRST_PLANE + index], streams[FIRST_GAPS + index])
        if header.stream_lengths[FIRST_GAPS + index]
        else streams[FIRST_PLANE + index]
        for index in range(len(PLANES))
    ]
    for operation, place, length in _segments(streams[CONTROL_STREAM], header):
        base.seek(place)
        for start in range(0, length, PIECE):
            size = min(PIECE, length - start)
            if operation == ADD:
                yield streams[LITERAL_STREAM].read(size)
            elif operation == COPY:
                yield base.read(size)
            else:
                yield _changed(base.read(size), planes, DIFF_WIDTHS[operation])
    for stream in (*planes, *streams):
        stream.finish()


def _segments(control: "_Stream", header: Header) -> Iterator[tuple[int, int, int]]:
    """(operation, offset in the base, length), every one checked against base and result."""
    made = cursor = 0
    for _ in range(header.segments):
        operation, length = control.read(1)[0], _varint(control)
        made += length
        if operation not in (ADD, COPY, *DIFF_WIDTHS) or not length or made > header.target_length:
            raise PatchInvalid(f"segment: expected a known one within the result, got {operation} of {length} bytes")
        if length % DIFF_WIDTHS.get(operation, 1):
            raise PatchInvalid(f"segment: expected whole elements, got {length} bytes")
        if operation != ADD:
            step = _varint(control)
            cursor += (step >> 1) ^ -(step & 1)
            if not 0 <= cursor <= header.base_length - length:
                raise PatchInvalid(f"segment: expected {length} bytes inside the base, got them from {cursor}")
            yield operation, cursor, length
            cursor += length
        else:
            yield operation, 0, length
    if made != header.target_length:
        raise PatchInvalid(f"segments: expected {header.target_length} bytes in all, got {made}")


def _varint(stream: "_Stream") -> int:
    value = 0
    for shift in range(0, 35, 7):
        byte = stream.read(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:  # noqa: PLR2004 - the bit that says another byte follows
            return value
    raise PatchInvalid("control: expected a number of at most 5 bytes, got a longer one")


def _streams(patch: BinaryIO, header: Header) -> "list[_Stream]":
    offsets = [HEADER.size + sum(header.stream_lengths[:index]) for index in range(STREAMS)]
    return [_Stream(patch, *place) for place in zip(offsets, header.stream_lengths, strict=True)]


class _Buffered:
    """Bytes that are asked for in exact amounts and arrive in others."""

    def __init__(self) -> None:
        self._ready, self._taken = b"", 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, at most a piece. Raises PatchInvalid."""
        missing = size - (len(self._ready) - self._taken)
        if missing > 0:
            parts = [self._ready[self._taken :]]
            while missing > 0:
                parts.append(self._more(missing))
                missing -= len(parts[-1])
            self._ready, self._taken = b"".join(parts), 0
        self._taken += size
        return self._ready[self._taken - size : self._taken]

    def finish(self) -> None:
        """Raises PatchInvalid unless everything was read and nothing follows."""
        if self._taken != len(self._ready):
            raise PatchInvalid("stream: expected its end, got more")

    def _more(self, missing: int) -> bytes:
        """At least one byte, at most some pieces."""
        raise NotImplementedError


class _Stream(_Buffered):
    """One deflated stream of the patch, inflated only as far as it is read."""

    def __init__(self, patch: BinaryIO, offset: int, length: int) -> None:
        super().__init__()
        self._patch, self._offset, self._end = patch, offset, offset + length
        self._inflater = zlib.decompressobj(-15) if length else None

    def some(self, most: int) -> bytes:
        """At least one byte and at most `most`."""
        return self.read(max(1, min(most, len(self._ready) - self._taken)))

    def finish(self) -> None:
        super().finish()
        if self._inflate(1) or (self._inflater and self._inflater.unused_data) or self._offset != self._end:
            raise PatchInvalid("stream: expected nothing after its end, got more")

    def _more(self, missing: int) -> bytes:
        made = self._inflate(PIECE)
        if not made:
            raise PatchInvalid(f"stream: expected {missing} bytes more, got its end")
        return made

    def _inflate(self, most: int) -> bytes:
        """At most `most` bytes; none at the end of the stream, and only there."""
        made, given = b"", b""
        try:
            while self._inflater and not made and not self._inflater.eof:
                # Without input first: the inflater may still hold what did not fit the last time.
                made = self._inflater.decompress(self._inflater.unconsumed_tail or given, most)
                given = b"" if made or self._inflater.eof or self._inflater.unconsumed_tail else self._deflated()
        except zlib.error as error:
            raise PatchInvalid(f"stream: expected deflated bytes, got {error}") from error
        return made

    def _deflated(self) -> bytes:
        self._patch.seek(self._offset)
        content = self._patch.read(min(DEFLATED_AT_ONCE, self._end - self._offset))
        if not content:
            raise PatchInvalid("stream: expected more deflated bytes, got the end of them")
        self._offset += len(content)
        return content


class _GapPlane(_Buffered):
    """A plane that is mostly zeros: how many come before each value, and the values.

    A gap of 255 stands for 255 zeros without a value after them.
    """

    def __init__(self, values: _Stream, gaps: _Stream) -> None:
        super().__init__()
        self._values, self._gaps = values, gaps

    def _more(self, missing: int) -> bytes:
        runs = self._gaps.some(min(missing, GAPS_AT_ONCE)).split(_LONG)
        return _LONG_ZEROS.join(self._run(run) for run in runs)

    def _run(self, gaps: bytes) -> bytes:
        values = self._values.read(len(gaps))
        return b"".join(
            chain.from_iterable(zip(map(_ZEROS.__getitem__, gaps), map(_ONE.__getitem__, values), strict=True))
        )


_ZEROS = tuple(bytes(count) for count in range(256))
_ONE = tuple(bytes((value,)) for value in range(256))
_LONG, _LONG_ZEROS = b"\xff", bytes(255)


def _lowest_bits(width: int) -> int:
    """An integer with the lowest bit of each element of a piece set."""
    return int.from_bytes((b"\1" + bytes(width - 1)) * (PIECE // width), "little")


_LOW = {width: _lowest_bits(width) for width in (1, 2, 4)}
_TOP = {width: low << (8 * width - 1) for width, low in _LOW.items()}
_BELOW_TOP = {width: (top << 1) - _LOW[width] - top for width, top in _TOP.items()}


def _changed(base: bytes, planes: "list[_Buffered]", width: int) -> bytes:
    """Base plus differences, element by element, modulo 2^(8 width).

    All elements of a piece are one large integer: carries are kept from crossing into the next element, so one
    addition does them all. In a language with fast loops, add in a loop.
    """
    parts = [plane.read(len(base) // width) for plane, (of, _) in zip(planes, PLANES, strict=True) if of == width]
    if not any(map(any, parts)):
        return base
    bits = 8 * width
    coded = int.from_bytes(parts[0] if width == 1 else _interleaved(parts), "little")
    low, top, below = _LOW[width], _TOP[width], _BELOW_TOP[width]
    negative = coded & low
    difference = ((coded >> 1) & below) ^ ((negative << bits) - negative)
    before = int.from_bytes(base, "little")
    total = ((before & below) + (difference & below)) ^ ((before ^ difference) & top)
    return total.to_bytes(len(base), "little")


def _interleaved(parts: list[bytes]) -> bytes:
    whole = bytearray(len(parts) * len(parts[0]))
    for index, part in enumerate(parts):
        whole[index :: len(parts)] = part
    return bytes(whole)
