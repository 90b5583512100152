"""The calls behind the default recipes, bare: one process, no isolation, no files in between, no checks.

`python -m bench.conversion_bare SOURCE.keras CALIBRATION.npz OUTPUT`: what somebody would write for one model on one
machine. The reference of P7.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize as cto
import keras
import numpy as np
import tensorflow as tf
from ai_edge_quantizer import quantizer, recipe


def main(source: Path, calibration: Path, output: Path) -> None:
    model = keras.models.load_model(source, compile=False)
    function, module = _traced(model)
    float32 = output / "float32.tflite"
    float32.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert())
    _quantise(float32, np.load(calibration)["inputs"], output)
    _compress(function, output)


def _traced(model: Any) -> tuple[Any, Any]:
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    traced = tf.function(lambda image: {"scores": model(image, training=False)}, autograph=False)
    shape = (1, *model.inputs[0].shape[1:])
    return traced.get_concrete_function(image=tf.TensorSpec(shape, tf.float32, name="image")), module


def _quantise(float32: Path, images: Any, output: Path) -> None:
    samples = {"serving_default": [{"image": image[None]} for image in images]}
    float16 = [
        {
            "regex": ".*",
            "operation": "*",
            "algorithm_key": "float_casting",
            "op_config": {
                "weight_tensor_config": {"num_bits": 16, "symmetric": True, "dtype": "FLOAT"},
                "compute_precision": "FLOAT",
                "explicit_dequantize": True,
            },
        }
    ]
    for name, chosen in (
        ("float16", float16),
        ("dynamic-int8", recipe.dynamic_wi8_afp32()),
        ("full-int8", recipe.static_wi8_ai8()),
    ):
        tool = quantizer.Quantizer(str(float32))
        tool.load_quantization_recipe(chosen)
        ranges = tool.calibrate(samples, num_threads=1) if tool.need_calibration else None
        (output / f"{name}.tflite").write_bytes(tool.quantize(ranges).quantized_model)


def _compress(function: Any, output: Path) -> None:
    image = ct.TensorType(name="image", shape=function.inputs[0].shape.as_list(), dtype=np.float32)
    package = ct.convert(
        [function],
        source="tensorflow",
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS16,
        inputs=[image],
        outputs=[ct.TensorType(dtype=np.float32)],
        skip_model_load=True,
    )
    package.save(str(output / "fp16.mlpackage"))
    linear = cto.coreml.OpLinearQuantizerConfig(mode="linear_symmetric")
    palette = cto.coreml.OpPalettizerConfig(mode="kmeans", nbits=4)
    for name, compress, settings in (
        ("linear-int8", cto.coreml.linear_quantize_weights, linear),
        ("lut-4", cto.coreml.palettize_weights, palette),
    ):
        compressed = compress(package, cto.coreml.OptimizationConfig(global_config=settings))
        compressed.save(str(output / f"{name}.mlpackage"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
