"""One mode by TensorFlow Lite's own converter, from the Keras file, in a process of its own.

`python -m bench.conversion_modes SOURCE.keras CALIBRATION.npz OUTPUT MODE`: what the converter's documentation
shows. Run once for each mode, it is the second reference of P7.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("float32", "float16", "dynamic-int8", "full-int8")


def main(source: Path, calibration: Path, output: Path, mode: str) -> None:
    import keras  # noqa: PLC0415  the modes' names are read without TensorFlow
    import tensorflow as tf  # noqa: PLC0415

    converter = tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model(source, compile=False))
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "full-int8":
        converter.representative_dataset = lambda: _samples(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    (output / f"{mode}.tflite").write_bytes(converter.convert())


def _samples(calibration: Path) -> Iterator[list[Any]]:
    for image in np.load(calibration)["inputs"]:
        yield [image[None].astype(np.float32)]


if __name__ == "__main__":
    source, calibration, output = map(Path, sys.argv[1:4])
    main(source, calibration, output, sys.argv[4])
