"""What `push` takes beside a source: extra files of the bundle, and parts that are versions of other models."""

from pathlib import Path
from typing import Any

import click

from registry.bundles import FILE_ROLES

FILE_HELP = f"A file that every variant holds too, at PATH in its bundle; ROLE is {', '.join(FILE_ROLES)}. Repeatable."
PART_HELP = "Another model's version whose files switch along, below NAME: a decoder for an encoder. Repeatable."


class ExtraFile(click.ParamType[tuple[str, Path, str]]):
    """`graph=face.pbtxt` or `vocabulary=en.txt:words/en.txt` -> (role, file, path in the bundle)."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path, str]:
        role, _, rest = str(value).partition("=")
        if role not in FILE_ROLES:
            self.fail(f"expected a role among {', '.join(FILE_ROLES)}, got {role!r}", param, ctx)
        # A colon may be part of the name that the file has here, and never of its path in a bundle.
        name, _, path = (rest, "", "") if Path(rest).is_file() else rest.rpartition(":")
        if not Path(name).is_file():
            self.fail(f"expected a file, got {name or rest!r}", param, ctx)
        return role, Path(name), path or Path(name).name


class Part(click.ParamType[dict[str, Any]]):
    """`decoder=captions-decoder:3` -> the part as the API takes it."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        name, _, rest = str(value).partition("=")
        model, _, version = rest.partition(":")
        if not name or not model or not version.isdecimal():
            self.fail(f"expected NAME=MODEL:VERSION, got {value!r}", param, ctx)
        return {"name": name, "model": model, "version": int(version)}


FILE, PART = ExtraFile(), Part()
