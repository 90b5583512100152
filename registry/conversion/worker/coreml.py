"""Core ML packages: converting a concrete function, and writing a package whose bytes depend on its content only."""

import hashlib
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813 the name its own documentation uses
from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import register_tf_op

from registry.conversion.report import Signature

AUTHOR = "com.apple.CoreML"
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
    data = path / "Data" / AUTHOR
    data.mkdir(parents=True)
    specification = _timeless(model.get_spec()).SerializeToString(deterministic=True)
    (data / "model.mlmodel").write_bytes(specification)
    weights = Path(model.weights_dir) if model.weights_dir else None
    (data / "weights").mkdir()
    if weights and (weights / "weight.bin").is_file():
        shutil.copyfile(weights / "weight.bin", data / "weights" / "weight.bin")
    (path / "Manifest.json").write_text(_manifest(specification), "utf-8")
    normalise_modes(path)


def _timeless(spec: Any) -> Any:
    spec.description.metadata.userDefined.pop(CONVERSION_DATE, None)
    return spec


def _manifest(specification: bytes) -> str:
    digest = hashlib.sha256(specification).hexdigest()
    model_id, weights_id = (str(uuid.uuid5(uuid.NAMESPACE_OID, f"{what}:{digest}")) for what in ("model", "weights"))
    entries = {
        model_id: {
            "author": AUTHOR,
            "description": "CoreML Model Specification",
            "name": "model.mlmodel",
            "path": f"{AUTHOR}/model.mlmodel",
        },
        weights_id: {
            "author": AUTHOR,
            "description": "CoreML Model Weights",
            "name": "weights",
            "path": f"{AUTHOR}/weights",
        },
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": model_id}
    return json.dumps(manifest, indent=4, sort_keys=True) + "\n"


def normalise_modes(path: Path) -> None:
    path.chmod(0o755)
    for member in path.rglob("*"):
        member.chmod(0o755 if member.is_dir() else 0o644)
