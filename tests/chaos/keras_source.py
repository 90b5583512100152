"""A `.keras` file of one dense layer, written member by member: Keras itself takes ten seconds to import."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

KERAS_VERSION = "3.15.1"


def write_tiny_keras(path: Path) -> None:
    """Four inputs `image`, three outputs `score`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "metadata.json", json.dumps({"keras_version": KERAS_VERSION, "date_saved": "2026-11-22@12:00:00"})
        )
        archive.writestr("config.json", json.dumps(_model()))
        archive.writestr("model.weights.h5", _weights())


def _model() -> dict[str, Any]:
    given = _layer("InputLayer", name="image", batch_shape=[None, 4], dtype="float32")
    dense = _layer("Dense", name="score", units=3, activation="linear", use_bias=True)
    config = {"name": "tiny", "layers": [given, dense], "build_input_shape": [None, 4]}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None}


def _layer(class_name: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": class_name, "config": config, "registered_name": None}


def _weights() -> bytes:
    import h5py  # comes with Keras

    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.arange(12, dtype=np.float32).reshape(4, 3))
        file.create_dataset("layers/dense/vars/1", data=np.zeros(3, np.float32))
        file.create_group("vars")
    return content.getvalue()
