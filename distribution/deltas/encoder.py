"""Making weightdiff-1 patches. The same base and target give the same patch, with the same zlib.

Needs memory of some fifteen times the larger file; a caller bounds memory and time from outside.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from distribution.deltas.alignment import Stretch, align
from distribution.deltas.decoder import (
    ADD,
    COPY,
    DIFF_WIDTHS,
    MOST_BYTES,
    MOST_SEGMENTS,
    PLANES,
    Header,
)

Bytes = npt.NDArray[np.uint8]

OPERATION_OF_WIDTH = {width: operation for operation, width in DIFF_WIDTHS.items()}
TRIAL_BYTES = 1 << 16
LONG_GAP = 255
SPARSE_ENOUGH = 0.3  # of a plane's bytes are not zero: above, gaps cannot pay and would decode slowly
STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY)


class TooLarge(ValueError):
    """Base or target is longer than the format can say, or they differ in too many places."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What the control stream says of `length` bytes: an operation, and for all but ADD where in the base."""

    operation: int
    place: int
    length: int
    origin: int = 0

    def continues(self, other: "Segment") -> bool:
        """Whether `other` and this, right after it, are one."""
        near = self.operation == ADD or self.origin == other.origin + other.length
        return self.operation == other.operation and near


def make_patch(base: bytes, target: bytes) -> bytes:
    """Raises TooLarge."""
    if max(len(base), len(target)) > MOST_BYTES:
        raise TooLarge(f"expected at most {MOST_BYTES} bytes, got {len(base)} and {len(target)}")
    segments = list(_merged(_segments(base, target, align(base, target))))
    if len(segments) > MOST_SEGMENTS:
        raise TooLarge(f"expected at most {MOST_SEGMENTS} segments, got {len(segments)}")
    streams = _Streams.of(base, target, segments).deflated()
    header = Header(
        hashlib.sha256(base).digest(),
        hashlib.sha256(target).digest(),
        len(base),
        len(target),
        len(segments),
        tuple(map(len, streams)),
    )
    return b"".join((header.pack(), *streams))


def _segments(base: bytes, target: bytes, stretches: Iterable[Stretch]) -> Iterator[Segment]:
    """Each stretch by the cheapest operation, tried on its middle."""
    for stretch in stretches:
        if stretch.origin is None:
            yield Segment(ADD, stretch.place, stretch.length)
        elif base[stretch.origin : stretch.origin + stretch.length] == target[stretch.place : stretch.end]:
            yield Segment(COPY, stretch.place, stretch.length, stretch.origin)
        else:
            yield from _changed_segments(base, target, stretch.place, stretch.origin, stretch.length)


def _changed_segments(base: bytes, target: bytes, place: int, origin: int, length: int) -> Iterator[Segment]:
    operation = _cheapest(base, target, place, origin, length)
    whole = length - length % DIFF_WIDTHS.get(operation, 1)
    if whole:
        yield Segment(operation, place, whole, origin)
    if whole < length:
        yield Segment(OPERATION_OF_WIDTH[1], place + whole, length - whole, origin + whole)


def _cheapest(base: bytes, target: bytes, place: int, origin: int, length: int) -> int:
    size = min(length, TRIAL_BYTES) // 4 * 4
    if not size:
        return OPERATION_OF_WIDTH[1]
    skip = (length - size) // 2 // 4 * 4
    ours, theirs = target[place + skip : place + skip + size], base[origin + skip : origin + skip + size]
    costs = {ADD: _trial(ours)} | {
        operation: sum(_trial(plane.tobytes()) for plane in _planes(theirs, ours, width))
        for operation, width in DIFF_WIDTHS.items()
    }
    return min(costs, key=lambda operation: (costs[operation], operation))


def _trial(content: bytes) -> int:
    return len(_deflate(content, zlib.Z_HUFFMAN_ONLY)) if any(content) else 0


def _merged(segments: Iterable[Segment]) -> Iterator[Segment]:
    last: Segment | None = None
    for segment in segments:
        if last is not None and segment.continues(last):
            last = Segment(last.operation, last.place, last.length + segment.length, last.origin)
            continue
        if last is not None:
            yield last
        last = segment
    if last is not None:
        yield last


def _planes(base: bytes, target: bytes, width: int) -> list[Bytes]:
    """The bytes of the zig-zag differences, lowest first, each for all elements."""
    kind = f"<u{width}"
    difference = (np.frombuffer(target, kind) - np.frombuffer(base, kind)).view(f"<i{width}")
    coded = (difference << 1) ^ (difference >> (8 * width - 1))
    table = coded.view(np.uint8).reshape(-1, width)
    return [np.ascontiguousarray(table[:, index]) for index in range(width)]


@dataclass
class _Streams:
    """The streams before they are deflated."""

    control: bytearray = field(default_factory=bytearray)
    literals: list[bytes] = field(default_factory=list)
    planes: list[list[Bytes]] = field(default_factory=lambda: [[] for _ in PLANES])

    @classmethod
    def of(cls, base: bytes, target: bytes, segments: Iterable[Segment]) -> "_Streams":
        streams, cursor = cls(), 0
        for segment in segments:
            ours = target[segment.place : segment.place + segment.length]
            streams.control += bytes((segment.operation,)) + varint(segment.length)
            if segment.operation == ADD:
                streams.literals.append(ours)
                continue
            step = segment.origin - cursor
            streams.control += varint(2 * step if step >= 0 else -2 * step - 1)
            cursor = segment.origin + segment.length
            if segment.operation != COPY:
                streams._add_planes(base[segment.origin : cursor], ours, DIFF_WIDTHS[segment.operation])
        return streams

    def _add_planes(self, base: bytes, target: bytes, width: int) -> None:
        first = PLANES.index((width, 0))
        for index, plane in enumerate(_planes(base, target, width)):
            self.planes[first + index].append(plane)

    def deflated(self) -> list[bytes]:
        """In the format's order: control, literals, planes, gaps of planes."""
        planes = [_smallest_plane(np.concatenate(pieces)) if pieces else (b"", b"") for pieces in self.planes]
        head = [_smallest(bytes(self.control)), _smallest(b"".join(self.literals))]
        return head + [values for values, _ in planes] + [gaps for _, gaps in planes]


def _smallest_plane(plane: Bytes) -> tuple[bytes, bytes]:
    """(plane, nothing), or (values, gaps) where that is smaller."""
    plain = _smallest(plane.tobytes())
    places = np.flatnonzero(plane)
    if len(places) > SPARSE_ENOUGH * len(plane):
        return plain, b""
    values, gaps = (_smallest(part.tobytes()) for part in _gaps(plane, places))
    return (values, gaps) if gaps and len(values) + len(gaps) < len(plain) else (plain, b"")


def _gaps(plane: Bytes, places: npt.NDArray[np.intp]) -> tuple[Bytes, Bytes]:
    """(values, gaps). A plane that ends in zeros ends in a value of zero, or in gaps of 255."""
    rest = len(plane) - (int(places[-1]) + 1 if len(places) else 0)
    if rest % LONG_GAP:
        places = np.append(places, len(plane) - 1)
    zeros = np.diff(places, prepend=-1) - 1
    longs = zeros // LONG_GAP
    gaps = np.full(int(longs.sum()) + len(zeros), LONG_GAP, np.uint8)
    gaps[np.cumsum(longs + 1) - 1] = zeros % LONG_GAP
    if rest and not rest % LONG_GAP:
        gaps = np.append(gaps, np.full(rest // LONG_GAP, LONG_GAP, np.uint8))
    return plane[places], gaps


def _smallest(content: bytes) -> bytes:
    return min((_deflate(content, strategy) for strategy in STRATEGIES), key=len) if content else b""


def _deflate(content: bytes, strategy: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
    return deflater.compress(content) + deflater.flush()


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; the eighth bit says that another follows."""
    out = bytearray()
    while value > 127:  # noqa: PLR2004 - seven bits
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))
