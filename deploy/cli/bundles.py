"""What `push` takes beside a source: extra files of the bundle, and parts that are versions of other models."""

from pathlib import Path
from typing import Any

import click

from registry.bundles import FILE_ROLES

FILE_HELP = f"A file that every variant holds too, at PATH in its bundle; ROLE is {', '.join(FILE_ROLES)}. Repeatable."
PART_HELP = "Another model's version whose files switch along, below NAME: a decoder for an encoder. Repeatable."


def extra_files(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, Path, str], ...]:
    """`graph=face.pbtxt` or `vocabulary=en.txt:words/en.txt` -> (role, file, path in the bundle)."""
    return tuple(map(_extra_file, values))


def parts(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """`decoder=captions-decoder:3` -> the part as the API takes it."""
    return tuple(map(_part, values))


def _extra_file(value: str) -> tuple[str, Path, str]:
    role, _, rest = value.partition("=")
    if role not in FILE_ROLES:
        raise click.BadParameter(f"expected a role among {', '.join(FILE_ROLES)}, got {role!r}")
    # A colon may be part of the name that the file has here, and never of its path in a bundle.
    name, _, path = (rest, "", "") if Path(rest).is_file() else rest.rpartition(":")
    if not Path(name).is_file():
        raise click.BadParameter(f"expected a file, got {name or rest!r}")
    return role, Path(name), path or Path(name).name


def _part(value: str) -> dict[str, Any]:
    name, _, rest = value.partition("=")
    model, _, version = rest.partition(":")
    if not name or not model or not version.isdecimal():
        raise click.BadParameter(f"expected NAME=MODEL:VERSION, got {value!r}")
    return {"name": name, "model": model, "version": int(version)}
