"""Power cuts before any change to a device's store.

Python announces every opened, made, renamed, linked and removed file to its audit hooks, and a hook that raises stops
what was announced. After the cut nothing is written any more, not even by what cleans up: as when the power is gone.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

CHANGES = frozenset({"os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.symlink"})
_active: "PowerCut | None" = None


class PowerIsGone(BaseException):
    """No handler of errors may catch it."""


class PowerCut:
    """`at`: which change is the first not to be made, counted from 0; None only counts. `changes`: what was begun."""

    def __init__(self, folder: Path, at: int | None) -> None:
        self._folder, self._at = str(folder), at
        self.changes: list[str] = []

    def announced(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._is_change(event, arguments):
            return
        if self._at is not None and len(self.changes) >= self._at:
            raise PowerIsGone
        self.changes.append(f"{event} {arguments[0]!s}".replace(self._folder, "…"))

    def _is_change(self, event: str, arguments: tuple[object, ...]) -> bool:
        if event == "open":
            path, _, flags = arguments
            is_write = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            return bool(is_write) and str(path).startswith(self._folder) and not str(path).endswith(".lock")
        return event in CHANGES and any(str(path).startswith(self._folder) for path in arguments[:2])


@contextmanager
def power_cut(folder: Path, at: int | None) -> Iterator[PowerCut]:
    """Swallows the cut itself."""
    global _active  # noqa: PLW0603 - an audit hook stays for ever; this says whether it has anything to do
    _install_hook()
    _active = cut = PowerCut(folder, at)
    try:
        yield cut
    except PowerIsGone:
        pass
    finally:
        _active = None


@cache
def _install_hook() -> None:
    sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _active is not None:
        _active.announced(event, arguments)
