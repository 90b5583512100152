"""The names that one chip goes by: Play's, LiteRT's and the shop's resolve to one. Pure.

The table (`soc_aliases.json`) has makers with their spellings ("Qualcomm", "QTI") and chips with theirs ("SM8550",
"Snapdragon 8 Gen 2"). Published selectors list every spelling, so that a phone compares names exactly and needs no
table of its own.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_LETTER = re.compile(r"[^a-z0-9+]")


def canonical(name: str) -> str:
    """The table's name of a chip; a name that it does not know comes back as it is.

    >>> canonical("QTI SM8550"), canonical("snapdragon 8 gen 2"), canonical("Tensor_G3"), canonical("X1")
    ('SM8550', 'SM8550', 'Tensor G3', 'X1')
    """
    return _names().get(_plain(name), name)


def spellings(name: str) -> tuple[str, ...]:
    """Every way in which a phone may name the chip, the canonical one first, and `name` itself."""
    found = _spellings().get(canonical(name), ())
    return tuple(dict.fromkeys((*found, name)))


def all_spellings(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(spelling for name in names for spelling in spellings(name)))


def _plain(name: str) -> str:
    return _NO_LETTER.sub("", name.lower())


@cache
def _spellings() -> dict[str, tuple[str, ...]]:
    table: dict[str, Any] = json.loads(Path(__file__).with_name("soc_aliases.json").read_text("utf-8"))
    found = {}
    for row in table["socs"]:
        bare = [row["name"], *row["also"]]
        # An app joins maker and model as Android reports them, or sends the model alone.
        joined = [
            f"{maker}{between}{name}" for maker in table["makers"][row["maker"]] for name in bare for between in " /"
        ]
        found[row["name"]] = tuple(dict.fromkeys([*bare, *joined]))
    return found


@cache
def _names() -> dict[str, str]:
    return {_plain(spelling): name for name, known in _spellings().items() for spelling in known}
