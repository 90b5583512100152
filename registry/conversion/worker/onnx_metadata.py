"""A version's metadata in an ONNX file: the model's texts, and pairs of key and text for what has no field."""

from pathlib import Path

import onnx

from registry.conversion.metadata import Metadata
from registry.conversion.report import Signature
from registry.conversion.worker.metadata_pairs import pairs


def embed(path: Path, metadata: Metadata, signature: Signature) -> None:
    """Write into the file; members that are empty leave what is there. Raises MetadataError."""
    metadata.require_fits(signature)
    model = onnx.load(str(path))
    if metadata.description:
        model.doc_string = metadata.description
    texts = {"version": metadata.version, "author": metadata.author, "license": metadata.license}
    kept = {entry.key: entry.value for entry in model.metadata_props}
    given = {**kept, **{key: text for key, text in texts.items() if text}, **pairs(metadata)}
    del model.metadata_props[:]
    for key in sorted(given):
        model.metadata_props.add(key=key, value=given[key])
    described = {name: given.description for name, given in metadata.inputs.items()}
    described.update({name: given.description for name, given in metadata.outputs.items()})
    for value in (*model.graph.input, *model.graph.output):
        if described.get(value.name):
            value.doc_string = described[value.name]
    path.write_bytes(model.SerializeToString(deterministic=True))
