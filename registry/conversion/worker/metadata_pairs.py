"""What a version says of itself that a model file has no field for, as pairs of key and text."""

import json
from typing import Any

from registry.conversion.metadata import InputMetadata, Metadata

LABELS, NAME, NORMALISATION = "labels", "name", "normalization"


def pairs(metadata: Metadata) -> dict[str, str]:
    """Labels and normalisation as JSON, sorted and without spaces; the name as it is. Without what is empty."""
    found = {NAME: metadata.name} if metadata.name else {}
    if metadata.labels:
        found[LABELS] = _json(list(metadata.labels))
    contents = {name: _content(given) for name, given in metadata.inputs.items() if _content(given)}
    return {**found, NORMALISATION: _json(contents)} if contents else found


def _content(given: InputMetadata) -> dict[str, Any]:
    members = {
        "content": given.content,
        "color_space": given.color_space,
        "sample_rate": given.sample_rate,
        "mean": list(given.mean),
        "std": list(given.std),
    }
    return {key: value for key, value in members.items() if value}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
