"""A version's metadata in a Core ML model's own fields, where Xcode and the app find them.

Description, author, license and version are fields of the specification, and so is a text for each input and output.
The rest has no field of its own and goes under `user-defined`, as JSON: class labels (making the model a classifier
would change its interface), and what kind of content an input takes and how it was normalised.
"""

from pathlib import Path
from typing import Any

from registry.conversion.metadata import Metadata
from registry.conversion.report import Signature
from registry.conversion.worker.coreml import rewrite_specification
from registry.conversion.worker.metadata_pairs import pairs


def embed(package: Path, metadata: Metadata, signature: Signature) -> None:
    """Write into the package's specification; members that are empty leave what is there. Raises MetadataError."""
    metadata.require_fits(signature)
    rewrite_specification(package, lambda spec: describe(spec, metadata))


def describe(spec: Any, metadata: Metadata) -> None:
    described = spec.description.metadata
    for field, text in (
        ("shortDescription", metadata.description),
        ("versionString", metadata.version),
        ("author", metadata.author),
        ("license", metadata.license),
    ):
        if text:
            setattr(described, field, text)
    described.userDefined.update(pairs(metadata))
    _describe(spec.description.input, {name: given.description for name, given in metadata.inputs.items()})
    _describe(spec.description.output, {name: given.description for name, given in metadata.outputs.items()})


def _describe(features: Any, texts: dict[str, str]) -> None:
    for feature in features:
        if texts.get(feature.name):
            feature.shortDescription = texts[feature.name]
