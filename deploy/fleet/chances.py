"""Whether a planted fault happens on a device. Pure.

`Drawn` is chance: each device's own, the same for the same seed, whatever the order of the devices. `Even` plants a
share exactly, every n-th device, so that a story goes the same way each time: what chance does to the rules is for
simulations of many runs to tell.
"""

from __future__ import annotations

from hashlib import sha256
from threading import Lock
from typing import Protocol


class Chances(Protocol):
    def strikes(self, share: float, unit: str, *what: object) -> bool:
        """Whether `what`, which strikes `share` (0..1) of the units, strikes this one. Each unit is asked once."""


def uniform(*names: object) -> float:
    """A number of [0, 1) that follows from the names alone."""
    digest = sha256(repr(names).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


class Drawn:
    """Each unit by itself, by a draw that the seed, the unit and `what` decide: the same in every run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def strikes(self, share: float, unit: str, *what: object) -> bool:
        return uniform(self._seed, unit, *what) < share


class Even:
    """Of each `what` the share is met to within one unit, in the order in which units come. Threads may share it."""

    def __init__(self) -> None:
        self._owed: dict[tuple[object, ...], float] = {}
        self._lock = Lock()

    def strikes(self, share: float, unit: str, *what: object) -> bool:  # noqa: ARG002  # it is anybody's turn
        with self._lock:
            owed = self._owed.get(what, 0.5) + share
            self._owed[what] = owed - (owed >= 1)
            return owed >= 1
