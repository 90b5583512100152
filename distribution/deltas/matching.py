"""Byte matching with differences, for what is no tensor of a known container.

Windows of 16 bytes of the base are indexed; where one of the target equals one of them, the match is extended over
unequal bytes too as long as most are equal, as bsdiff does: code and tables that moved differ in their offsets only.
Own code, since a library for it would bring a format or a suffix array of eight times the base with it.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

WINDOW = 16
MOST_WINDOWS = 1 << 22  # of the base; a larger base is indexed more coarsely
SEARCH_AT_ONCE = 1 << 20  # bytes of the target
FIRST_LOOK, LONGEST_LOOK = 1 << 10, 1 << 22
GIVE_UP_AFTER = 64  # unequal bytes more than equal ones
SHORTEST_MATCH = 24
_FACTORS = tuple(
    np.uint64(factor) for factor in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77)
)


class BaseIndex:
    """Where windows stand in the base."""

    def __init__(self, base: Bytes) -> None:
        self.base = base
        self._stride = 4
        while len(base) // self._stride > MOST_WINDOWS:
            self._stride *= 2
        hashes = _hashes(base, 0)[:: self._stride // 4]
        self._order = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._order]

    def matches(self, target: Bytes, start: int, stop: int) -> Iterator[tuple[int, int, int | None]]:
        """(place, length, place in the base or None) for all of target[start:stop], in order."""
        place, shift = start, None
        for found, origin in self._found(target, start, stop):
            if found < place:
                continue
            shift = shift if shift is not None and self._is_like(target, found, shift) else origin - found
            before = self._run(target[place:found][::-1], self.base[max(0, place + shift) : found + shift][::-1])
            after = self._run(target[found:stop], self.base[found + shift :])
            if before + after < SHORTEST_MATCH:
                continue
            if found - before > place:
                yield place, found - before - place, None
            yield found - before, before + after, found - before + shift
            place = found + after
        yield place, stop - place, None

    def _found(self, target: Bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Places of windows that the base has, rising, with one place in the base for each."""
        for first in range(start, stop - WINDOW + 1, SEARCH_AT_ONCE):
            piece = target[first : min(first + SEARCH_AT_ONCE + WINDOW - 1, stop)]
            origins = np.full(len(piece), -1, np.int64)
            for phase in range(4):
                hashes = _hashes(piece, phase)
                if len(hashes) and len(self._sorted):
                    at = np.searchsorted(self._sorted, hashes)
                    at[at == len(self._sorted)] = 0
                    origin = self._order[at] * self._stride
                    origins[phase : phase + 4 * len(hashes) : 4] = np.where(self._sorted[at] == hashes, origin, -1)
            for place in np.flatnonzero(origins >= 0):
                yield first + int(place), int(origins[place])

    def _is_like(self, target: Bytes, place: int, shift: int) -> bool:
        """Whether the shift of the match before holds here too: then a match continues instead of a new one."""
        origin = place + shift
        if not 0 <= origin <= len(self.base) - WINDOW:
            return False
        return bool(np.array_equal(self.base[origin : origin + WINDOW], target[place : place + WINDOW]))

    @staticmethod
    def _run(ours: Bytes, theirs: Bytes) -> int:
        """How far to go so that equal bytes outnumber unequal ones by most."""
        size = min(len(ours), len(theirs))
        done = best = score = best_score = 0
        look = FIRST_LOOK
        while done < size:
            equal = ours[done : min(done + look, size)] == theirs[done : min(done + look, size)]
            scores = np.cumsum(equal * np.int64(2) - 1) + score
            top = int(np.argmax(scores))
            if scores[top] > best_score:
                best, best_score = done + top + 1, int(scores[top])
            score, done = int(scores[-1]), done + len(equal)
            if best_score - score > GIVE_UP_AFTER:
                break
            look = min(2 * look, LONGEST_LOOK)
        return best


def _hashes(content: Bytes, phase: int) -> Hashes:
    """Of the windows at phase, phase + 4, …; equal for equal windows and hardly ever for others."""
    words = np.frombuffer(content.tobytes(), "<u4", max(0, len(content) - phase) // 4, min(phase, len(content)))
    count = max(0, len(words) - WINDOW // 4 + 1)
    total = np.zeros(count, np.uint64)
    for index, factor in enumerate(_FACTORS):
        total = (total ^ words[index : index + count].astype(np.uint64)) * factor
        total ^= total >> np.uint64(29)
    return total
