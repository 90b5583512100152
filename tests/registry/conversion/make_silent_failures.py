"""Writes a network and files that converters make of it without an error, and that are no good. Run as a program."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import coremltools as ct
import coremltools.optimize.coreml as optimize
import keras
import numpy as np
import tensorflow as tf

SHAPE = (1, 16, 16, 1)
INT16_ACTIVATIONS = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
Converter = tf.lite.TFLiteConverter


def network() -> keras.Model:
    """A thousand classes, which groups of sixteen do not divide; most weights lie in the last layer."""
    layers = keras.layers
    image = keras.Input(SHAPE[1:], name="image")
    x = layers.Conv2D(16, 3, activation="relu")(image)
    x = layers.Activation("hard_swish")(layers.DepthwiseConv2D(3)(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(64, 1, activation="relu")(x))
    return keras.Model(image, layers.Dense(1000, activation="softmax", name="scores")(x))


def traced(call: Callable[[Any], Any], shape: tuple[int, ...] = SHAPE) -> Any:
    return tf.function(lambda image: {"scores": call(image)}).get_concrete_function(
        tf.TensorSpec(shape, tf.float32, name="image")
    )


def held(function: Any, variables: list[Any]) -> tf.Module:
    module = tf.Module()
    module.function, module.held = function, variables
    return module


def noise() -> Iterator[dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    for _ in range(10):
        yield {"image": generator.random(SHAPE, np.float32)}


def calibrated(converter: Any, *operators: Any) -> bytes:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = noise
    converter.target_spec.supported_ops = list(operators)
    return converter.convert()


def not_allocating() -> bytes:
    """Depthwise weights so small that the scale of their results overflows the integers it is stored in."""
    weights = tf.constant(np.random.default_rng(0).normal(0, 1e-6, (3, 3, 1, 1)).astype(np.float32))
    function = traced(lambda image: tf.nn.relu6(tf.nn.depthwise_conv2d(image, weights, (1, 1, 1, 1), "SAME")))
    return calibrated(Converter.from_concrete_functions([function], held(function, [])), INT16_ACTIVATIONS)


def sparse(model: keras.Model) -> bytes:
    """Four weights in five are zero, stored as sparse tensors and quantised as well."""
    for variable in model.trainable_variables:
        values = variable.numpy()
        if values.ndim > 1:
            variable.assign(values * (np.abs(values) > np.quantile(np.abs(values), 0.8)))
    function = traced(lambda image: model(image, training=False))
    converter = Converter.from_concrete_functions([function], held(function, [v.value for v in model.variables]))
    converter.optimizations = [tf.lite.Optimize.DEFAULT, tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    return converter.convert()


def float16_features(function: Any, path: Path) -> None:
    """From iOS 16 on, coremltools makes inputs and outputs float16 unless it is told otherwise."""
    model = ct.convert(
        [function],
        source="tensorflow",
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS16,
        inputs=[ct.TensorType(name="image", shape=SHAPE)],
        skip_model_load=True,
    )
    spec = model.get_spec()
    (output,) = spec.description.output
    ct.utils.rename_feature(spec, output.name, "scores")
    ct.models.MLModel(spec, weights_dir=model.weights_dir, skip_model_load=True).save(str(path))


def palette_skipped(function: Any, path: Path) -> None:
    """Groups of sixteen do not divide a thousand channels: coremltools leaves that weight as it is, with a log line."""
    features = {"inputs": [ct.TensorType(name="image", shape=SHAPE, dtype=np.float32)]}
    features["outputs"] = [ct.TensorType(name=function.outputs[0].name.partition(":")[0], dtype=np.float32)]
    model = ct.convert(
        [function],
        source="tensorflow",
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
        **features,
    )
    grouped = optimize.OpPalettizerConfig(nbits=4, mode="uniform", granularity="per_grouped_channel", group_size=16)
    config = optimize.OptimizationConfig(op_type_configs={"linear": grouped})
    optimize.palettize_weights(model, config).save(str(path))


def main(folder: Path) -> None:
    keras.utils.set_random_seed(1)
    model = network()
    model.save(folder / "network.keras")
    function = traced(lambda image: model(image, training=False))
    module = held(function, [variable.value for variable in model.variables])

    def converter() -> Any:
        return Converter.from_concrete_functions([function], module)

    int8 = converter()
    int8.inference_input_type = int8.inference_output_type = tf.int8
    files = {
        "empty": Converter.from_concrete_functions([function], model).convert(),
        "not_allocating": not_allocating(),
        "slow": calibrated(converter(), INT16_ACTIVATIONS, tf.lite.OpsSet.TFLITE_BUILTINS),
        "int8": calibrated(int8, tf.lite.OpsSet.TFLITE_BUILTINS_INT8),
    }
    float16_features(function, folder / "float16_features.mlpackage")
    palette_skipped(function, folder / "palette_skipped.mlpackage")
    files["sparse"] = sparse(model)
    for name, data in files.items():
        (folder / f"{name}.tflite").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
