"""Core ML packages: converting a concrete function, and writing a package whose bytes depend on its content only."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813 the name its own documentation uses
from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import register_tf_op

from registry.conversion.report import Signature
from registry.conversion.worker.package_files import normalise_modes
from registry.inspection.coreml_package import MANIFEST, opened_package, specification_path

AUTHOR = "com.apple.CoreML"
WEIGHTS_FILE = "weight.bin"
CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"


def erfc(context: Any, node: Any) -> None:
    """One minus the error function. Exact GELU is written with it, and coremltools has no translation."""
    x = mb.erf(x=context[node.inputs[0]])
    context.add(node.name, mb.sub(x=np.float32(1), y=x, name=node.name))


register_tf_op(erfc, tf_alias=["Erfc"], override=True)


@dataclass(frozen=True)
class Precision:
    """What a program computes in, and the oldest system it is made for."""

    compute: Any
    target: Any


FLOAT16 = Precision(ct.precision.FLOAT16, ct.target.iOS16)
FLOAT32 = Precision(ct.precision.FLOAT32, ct.target.iOS15)


def convert(function: Any, signature: Signature, precision: Precision = FLOAT16) -> Any:
    """An ML program with float32 inputs and outputs, named as the signature names them.

    From iOS 16 on the converter's own default makes inputs and outputs float16, a different contract for the app.
    """
    inputs = [ct.TensorType(name=i.name, shape=i.shape, dtype=_feature_type(i.dtype)) for i in signature.inputs]
    traced = [tensor.name.partition(":")[0] for tensor in function.outputs]
    outputs = [
        ct.TensorType(name=name, dtype=_feature_type(output.dtype))
        for name, output in zip(traced, signature.outputs, strict=True)
    ]
    model = ct.convert(
        [function],
        source="tensorflow",
        convert_to="mlprogram",
        minimum_deployment_target=precision.target,
        compute_precision=precision.compute,
        inputs=inputs,
        outputs=outputs,
        skip_model_load=True,
    )
    spec = model.get_spec()
    _rename_outputs(spec, traced, signature)
    return ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True)


def _feature_type(dtype: str) -> type:
    return np.int32 if np.dtype(dtype).kind in "iub" else np.float32


def _rename_outputs(spec: Any, traced_names: list[str], signature: Signature) -> None:
    present = {output.name for output in spec.description.output}
    for traced, wanted in zip(traced_names, (output.name for output in signature.outputs), strict=True):
        if traced in present and traced != wanted:
            ct.utils.rename_feature(spec, traced, wanted)


def write_package(model: Any, path: Path) -> None:
    """Write `path` (a new directory) with identifiers derived from the content and modes that do not depend on umask.

    coremltools itself saves random identifiers, so the same model would have another digest every time.
    """
    specification = _timeless(model.get_spec()).SerializeToString(deterministic=True)
    weights = Path(model.weights_dir) / WEIGHTS_FILE if model.weights_dir else None
    wrap(specification, path, weights if weights and weights.is_file() else None)


def rewrite_specification(path: Path, change: Callable[[Any], None]) -> None:
    """Apply `change` to the specification of a package, made here or elsewhere; nothing else in it changes.

    Only a manifest of ours, whose identifiers are derived from the specification, follows it.
    """
    with opened_package(path) as package:
        file = path / specification_path(package)
    before = file.read_bytes()
    spec = ct.proto.Model_pb2.Model.FromString(before)
    change(spec)
    after = spec.SerializeToString(deterministic=True)
    file.write_bytes(after)
    manifest = path / MANIFEST
    for with_weights in (True, False):
        if manifest.read_text("utf-8") == _manifest(before, with_weights=with_weights):
            manifest.write_text(_manifest(after, with_weights=with_weights), "utf-8")


def wrap(specification: bytes, path: Path, weights: Path | None = None) -> None:
    """Write the package `path` of that specification and, where it has one, the file of its weights."""
    data = path / "Data" / AUTHOR
    data.mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(specification)
    if weights:
        (data / "weights").mkdir()
        shutil.copyfile(weights, data / "weights" / WEIGHTS_FILE)
    (path / MANIFEST).write_text(_manifest(specification, with_weights=weights is not None), "utf-8")
    normalise_modes(path)


def _timeless(spec: Any) -> Any:
    spec.description.metadata.userDefined.pop(CONVERSION_DATE, None)
    return spec


def _manifest(specification: bytes, *, with_weights: bool) -> str:
    """Lists a folder of weights only where there is one: an empty one would not survive being stored file by file."""
    digest = hashlib.sha256(specification).hexdigest()
    model_id, weights_id = (str(uuid.uuid5(uuid.NAMESPACE_OID, f"{what}:{digest}")) for what in ("model", "weights"))
    entries = {model_id: _item("CoreML Model Specification", "model.mlmodel")}
    if with_weights:
        entries[weights_id] = _item("CoreML Model Weights", "weights")
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": model_id}
    return json.dumps(manifest, indent=4, sort_keys=True) + "\n"


def _item(description: str, name: str) -> dict[str, str]:
    return {"author": AUTHOR, "description": description, "name": name, "path": f"{AUTHOR}/{name}"}
