"""Reads what was taken out of Firebase ML: the list of models as its admin API gives it, and files beside it. Pure.

The list is the answer of `GET projects/{project}/models`, several of them in an array, or a bare array of models.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distribution.firebase import wire
from registry.digests import is_sha256_hex, sha256_of_file

MODEL_ID = re.compile(r"projects/[^/]+/models/([A-Za-z0-9_-]{1,60})")


class ExportError(ValueError):
    """The export is not of the form that the admin API gives."""


@dataclass(frozen=True)
class ExportedModel:
    """`sha256` and `object_name` are empty where Firebase had no file, or told no hash that we know."""

    display_name: str
    model_id: str
    tags: tuple[str, ...]
    published: bool
    sha256: str
    object_name: str

    @classmethod
    def read(cls, document: Any) -> "ExportedModel":
        """Raises ExportError."""
        if not isinstance(document, dict):
            raise ExportError(f"expected a model as a JSON object, got {type(document).__name__}")
        name, tags = document.get("displayName"), document.get("tags") or []
        found = MODEL_ID.fullmatch(str(document.get("name", "")))
        if not isinstance(name, str) or not wire.DISPLAY_NAME.fullmatch(name):
            raise ExportError(f"displayName: expected 1 to 32 letters, digits, _ or -, got {name!r}")
        if not isinstance(tags, list) or not all(isinstance(tag, str) and wire.TAG.fullmatch(tag) for tag in tags):
            raise ExportError(f"{name}: expected tags of 1 to 32 letters, digits, _ or -, got {tags!r}"[:300])
        told = str(document.get("modelHash") or "").lower()
        return cls(
            display_name=name,
            model_id=found[1] if found else "",
            tags=tuple(tags),
            published=_member(document, "state", "published") is True,
            sha256=told if is_sha256_hex(told) else "",
            object_name=_object_name(name, _member(document, "tfliteModel", "gcsTfliteUri")),
        )

    @property
    def has_file(self) -> bool:
        return bool(self.sha256 or self.object_name)


def read_export(document: Any) -> list[ExportedModel]:
    """Raises ExportError, also when two models have one name."""
    models = [ExportedModel.read(model) for model in _models(document)]
    names = [model.display_name for model in models]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExportError(f"expected each display name once, got {', '.join(twice)} again")
    return models


def find_file(model: ExportedModel, folder: Path) -> Path:
    """The model's file below `folder`. Raises FileNotFoundError with what was looked for.

    By its object's path, its object's name, its display name or its id; the first that has the hash that Firebase
    told, or the first at all where it told none. A file of that hash is found under any name ending in .tflite.
    """
    names = (
        model.object_name,
        Path(model.object_name).name,
        f"{model.display_name}.tflite",
        f"{model.model_id}.tflite",
    )
    candidates = [folder / name for name in dict.fromkeys(names) if name and not name.startswith("/")]
    present = [path for path in candidates if path.is_file() and path.resolve().is_relative_to(folder.resolve())]
    if not model.sha256 and present:
        return present[0]
    for path in [*present, *sorted(folder.rglob("*.tflite"))] if model.sha256 else []:
        if sha256_of_file(path)[0] == model.sha256:
            return path
    expected = f"a file of sha256 {model.sha256}" if model.sha256 else f"one of {', '.join(filter(None, names))}"
    got = f"{present[0].name} with another one" if present else "none"
    raise FileNotFoundError(f"{model.display_name}: expected {expected} in {folder.name}/, got {got}")


def _models(document: Any) -> Iterator[Any]:
    pages: Sequence[Any] = document if isinstance(document, list) else [document]
    for page in pages:
        if isinstance(page, dict) and "displayName" not in page:
            models = page.get("models", [])
            if not isinstance(models, list):
                raise ExportError(f"models: expected a list, got {type(models).__name__}")
            yield from models
        else:
            yield page


def _member(document: dict[str, Any], outer: str, inner: str) -> Any:
    within = document.get(outer)
    return within.get(inner) if isinstance(within, dict) else None


def _object_name(name: str, uri: Any) -> str:
    if not uri:
        return ""
    try:
        return wire.bucket_and_object(str(uri))[1]
    except ValueError as error:
        raise ExportError(f"{name}: tfliteModel.gcsTfliteUri: {error}") from error
