"""A runtime that needs nothing but numpy: its "model file" is JSON with a matrix. Fails as told, on what it is told."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aerogram_sdk.errors import InputInvalid
from aerogram_sdk.manifest import SignatureSchema

SCHEMA = {
    "inputs": [{"name": "image", "shape": [1, 2], "dtype": "float32"}],
    "outputs": [{"name": "score", "shape": [1, 1], "dtype": "float32"}],
    "labels_file": None,
}
IMAGE = np.array([[1.0, 2.0]], dtype=np.float32)


def model_file(factor: float, *, padding: int = 0, **members: Any) -> bytes:
    """Scores `factor` times the sum of the image; padded, so that a download can be broken in the middle."""
    return json.dumps(
        {"magic": "numpy-model", "weights": [[factor], [factor]], "padding": "x" * padding} | members
    ).encode()


def sanity_file(factor: float, tolerance: str = "0.02") -> bytes:
    sample = {"inputs": {"image": tensor(IMAGE)}, "outputs": {"score": tensor(IMAGE.sum(keepdims=True) * factor)}}
    return json.dumps({"tolerance": tolerance, "samples": [sample]}).encode()


def tensor(values: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
    return {"dtype": values.dtype.name, "shape": list(values.shape), "data": data}


class FakeRuntime:
    """`broken`: factors of models that no longer load, `mute`: of models that no longer run."""

    version = "1.0"

    def __init__(self) -> None:
        self.broken: set[float] = set()
        self.mute: set[float] = set()

    def load(self, entry: Path, schema: SignatureSchema | None, delegate_order: Sequence[str]) -> "FakeModel":
        path = entry / "model.json" if entry.is_dir() else entry
        document = json.loads(path.read_bytes())
        if document.get("magic") != "numpy-model" or document["weights"][0][0] in self.broken:
            raise RuntimeError(f"magic: expected numpy-model, got {document.get('magic')}")
        return FakeModel(np.array(document["weights"], dtype=np.float32), self)


class FakeModel:
    def __init__(self, weights: np.ndarray, runtime: FakeRuntime) -> None:
        self._weights, self._runtime = weights, runtime

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if inputs.keys() != {"image"}:
            raise InputInvalid(f"inputs: expected image, got {sorted(inputs)}")
        if float(self._weights[0, 0]) in self._runtime.mute:
            raise RuntimeError("the model gave up")
        return {"score": inputs["image"] @ self._weights}

    def close(self) -> None:
        pass
