"""Which bytes of the base each byte of the target is made from: tensor by tensor, then byte by byte for the rest."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distribution.deltas.containers import Part, parts_of
from distribution.deltas.matching import BaseIndex

Bytes = npt.NDArray[np.uint8]

SAMPLES = 512
WIDEST = 4  # bytes of an element
SAME_LABEL_BITS = 0.5  # how much worse a tensor of the same name and shape may look and still be the one
SHORTEST_SEARCH = 32  # bytes between two tensors below which no match is looked for


@dataclass(frozen=True, slots=True)
class Stretch:
    """`length` bytes at `place` of the target; `origin`: where like ones stand in the base, None for nowhere."""

    place: int
    length: int
    origin: int | None = None

    @property
    def end(self) -> int:
        return self.place + self.length


def align(base: bytes, target: bytes) -> list[Stretch]:
    """Stretches that cover the target in order, without overlap."""
    arrays = np.frombuffer(base, np.uint8), np.frombuffer(target, np.uint8)
    anchors = list(_widened(list(_paired(base, target)), *arrays))
    index = BaseIndex(arrays[0])
    return [stretch for stretch in _filled(anchors, arrays[1], index) if stretch.length]


def _paired(base: bytes, target: bytes) -> Iterator[Stretch]:
    """Each tensor of the target with the one of the base, of equal size, that it differs least from."""
    known: dict[tuple[int, int], list[Part]] = defaultdict(list)
    for part in parts_of(base):
        known[part.length, part.width].append(part)
    samples = {key: np.stack([_sample(base, part) for part in parts]) for key, parts in known.items()}
    for part in parts_of(target):
        key = part.length, part.width
        if key not in known:
            continue
        bits = _difference_bits(samples[key], _sample(target, part))
        bits -= [SAME_LABEL_BITS * (part.label == other.label != "") for other in known[key]]
        yield Stretch(part.offset, part.length, known[key][int(np.argmin(bits))].offset)


def _sample(content: bytes, part: Part) -> npt.NDArray[np.unsignedinteger]:
    elements = np.frombuffer(content, f"<u{part.width}", part.length // part.width, part.offset)
    return elements[:: max(1, len(elements) // SAMPLES)][:SAMPLES]


def _difference_bits(
    rows: npt.NDArray[np.unsignedinteger], row: npt.NDArray[np.unsignedinteger]
) -> npt.NDArray[np.float64]:
    """Mean bits of the absolute difference, modulo the element's size, of each row from one."""
    difference = rows - row
    smallest = np.minimum(difference, row - rows).astype(np.float64)
    bits: npt.NDArray[np.float64] = np.log2(smallest + 1).mean(axis=1)
    return bits


def _widened(anchors: Sequence[Stretch], base: Bytes, target: Bytes) -> Iterator[Stretch]:
    """Anchors with the equal bytes on both sides, which are lengths, headers and padding.

    To the front by whole elements of any width: differences of numbers begin where a number begins.
    """
    end = 0
    for index, anchor in enumerate(anchors):
        assert anchor.origin is not None
        room = anchors[index + 1].place if index + 1 < len(anchors) else len(target)
        before = _equal_run(
            base[anchor.origin - min(anchor.origin, anchor.place - end) : anchor.origin][::-1],
            target[end : anchor.place][::-1],
        )
        before -= before % WIDEST
        stop = anchor.origin + anchor.length
        after = _equal_run(base[stop : stop + room - anchor.end], target[anchor.end : room])
        widened = Stretch(anchor.place - before, anchor.length + before + after, anchor.origin - before)
        end = widened.end
        yield widened


def _equal_run(ours: Bytes, theirs: Bytes) -> int:
    size = min(len(ours), len(theirs))
    unequal = np.flatnonzero(ours[:size] != theirs[:size])
    return int(unequal[0]) if len(unequal) else size


def _filled(anchors: Sequence[Stretch], target: Bytes, index: BaseIndex) -> Iterator[Stretch]:
    """Anchors, and between them what byte matching finds."""
    place = 0
    for anchor in (*anchors, Stretch(len(target), 0)):
        if anchor.place - place < SHORTEST_SEARCH:
            yield Stretch(place, anchor.place - place)
        else:
            yield from (Stretch(*found) for found in index.matches(target, place, anchor.place))
        if anchor.length:
            yield anchor
        place = anchor.end
