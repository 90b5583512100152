"""Acting on the n-th write below some folders, the moment the kernel reports it."""

import ctypes
import os
import select
import struct
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

IN_MOVED_TO, IN_CREATE = 0x80, 0x100
_EVENT = struct.Struct("iIII")


class Writes(AbstractContextManager["Writes"]):
    """Names that appear in the folders, temporary ones too, in their order. Linux only (inotify)."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        for folder in folders:
            if self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), IN_CREATE | IN_MOVED_TO) < 0:
                raise OSError(ctypes.get_errno(), f"inotify_add_watch {folder}")
        self._waiting: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def next(self, timeout_seconds: float) -> str:
        """The next name; raises TimeoutError."""
        while not self._waiting:
            if not select.select([self._descriptor], [], [], timeout_seconds)[0]:
                raise TimeoutError(f"expected a write within {timeout_seconds:g} s")
            self._waiting = list(_names(os.read(self._descriptor, 65536)))
        return self._waiting.pop(0)


def _names(data: bytes) -> Iterable[str]:
    at = 0
    while at < len(data):
        *_, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield data[at : at + length].rstrip(b"\0").decode()
        at += length
