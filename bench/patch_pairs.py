"""`python -m bench.patch_pairs FOLDER`: MobileNetV2 and what fine-tuning makes of it, converted. Needs TensorFlow.

FOLDER/<format>/<state>, one file each. Formats: float32, float16, dynamic int8 and full int8 as .tflite; float16,
linear 8 bits and a table of 4 bits as Core ML's weight.bin. States: `base`, and made from it `all` (every weight, 8
steps of Adam at 1e-4), `gentle` (the same at 1e-6), `last` (only the last layer), `seed` (nothing in common), `added`
(`all` with a layer more in the middle), and `moved` (`all` with its tensors in another order).

Weights are random, since no trained ones can be had offline; the statistics of batch normalisation are real ones.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

STATES = ("base", "all", "gentle", "last", "added", "moved", "seed")
TFLITE_RECIPES = {"fp16": "tflite-float16", "int8": "tflite-dynamic-int8", "full-int8": "tflite-full-int8"}
FORMATS = ("fp32", *TFLITE_RECIPES, "coreml-fp16", "linear-8", "lut-4")
STEPS, BATCH, CLASSES, CALIBRATION = 8, 16, 1000, 8
AFTER = "block_8_add"  # where a layer is added


def write_pairs(folder: Path, say: Callable[[str], None]) -> None:
    """Every file that is not there yet."""
    models = _Models()
    for state in STATES:
        wanted = [name for name in FORMATS if not (folder / name / state).exists()]
        if state == "moved" or not wanted:
            continue
        say(f"{state}: fine-tuning and converting")
        for name, content in _converted(models.make(state)).items():
            _write(folder / name / state, content)
    for name in FORMATS:
        if not (folder / name / "moved").exists():
            move = _moved_tflite if name in ("fp32", *TFLITE_RECIPES) else _moved_weights
            _write(folder / name / "moved", move((folder / name / "all").read_bytes()))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.rename(path)


class _Models:
    """Keras models of each state; `base` is made once."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def make(self, state: str) -> Any:
        if state not in self._made:
            makers = {
                "base": lambda: _new_model(7),
                "seed": lambda: _new_model(8),
                "all": lambda: _fine_tuned(self.make("base"), 1e-4),
                "gentle": lambda: _fine_tuned(self.make("base"), 1e-6),
                "last": lambda: _fine_tuned(self.make("base"), 1e-4, only_last=True),
                "added": lambda: _with_another_layer(self.make("all")),
            }
            self._made[state] = makers[state]()
        return self._made[state]


def _pictures(seed: int, count: int) -> Any:
    """Smooth noise of -1..1: what a camera sees is smooth too."""
    import numpy as np  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 14, 14, 3)).astype("float32")
    return tf.image.resize(coarse, (224, 224), "bicubic").numpy().clip(-1, 1)


def _new_model(seed: int) -> Any:
    import keras  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    keras.utils.set_random_seed(seed)
    model = keras.applications.MobileNetV2(weights=None, classes=CLASSES)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(_pictures(seed, 2 * BATCH), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    kernel, bias = model.layers[-1].get_weights()
    # Biases of nought are left out by converters, which then turn the last layer's weights round.
    model.layers[-1].set_weights([kernel, bias + 0.01 * np.random.default_rng(seed).standard_normal(bias.shape)])
    return model


def _fine_tuned(model: Any, rate: float, *, only_last: bool = False) -> Any:
    import keras  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    keras.utils.set_random_seed(11)
    tuned = keras.models.clone_model(model)
    tuned.set_weights(model.get_weights())
    for layer in tuned.layers[:-1] if only_last else ():
        layer.trainable = False
    tuned.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    labels = np.random.default_rng(12).integers(0, CLASSES, STEPS * BATCH)
    tuned.fit(_pictures(13, STEPS * BATCH), labels, batch_size=BATCH, epochs=1, verbose=0)
    return tuned


def _with_another_layer(model: Any) -> Any:
    """The same network with a residual 1×1 convolution after one of its blocks."""
    import keras  # noqa: PLC0415

    def call(layer: Any, *arguments: Any, **named: Any) -> Any:
        result = layer(*arguments, **named)
        if layer.name != AFTER:
            return result
        return keras.layers.Add()([result, keras.layers.Conv2D(result.shape[-1], 1, name="added")(result)])

    keras.utils.set_random_seed(14)
    longer = keras.models.clone_model(model, clone_function=_same_layer, call_function=call)
    for layer in model.layers:
        longer.get_layer(layer.name).set_weights(layer.get_weights())
    return longer


def _same_layer(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


def _converted(model: Any) -> dict[str, bytes]:
    import tensorflow as tf  # noqa: PLC0415

    function = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    concrete = function.get_concrete_function(inputs=tf.TensorSpec((1, 224, 224, 3), tf.float32, name="inputs"))
    module = tf.Module()
    module.variables_of_the_model = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    float32 = bytes(converter.convert())
    quantised = {name: _quantised(float32, recipe) for name, recipe in TFLITE_RECIPES.items()}
    return {"fp32": float32, **quantised, **_coreml(concrete)}


def _quantised(float32: bytes, recipe: str) -> bytes:
    """As the recipes of Aerogram do it, without their checks."""
    from ai_edge_quantizer import quantizer  # noqa: PLC0415

    from registry.conversion.recipes import RECIPES  # noqa: PLC0415

    parameters = RECIPES[recipe].parameters
    tool = quantizer.Quantizer(bytearray(float32))
    config = {**parameters["config"], "skip_checks": False, "min_weight_elements": 0}
    settings = {
        "regex": ".*",
        "operation": "*",
        "algorithm_key": parameters["algorithm"],
        "op_config": config,
    }
    tool.load_quantization_recipe([settings])
    ranges = None
    if tool.need_calibration:
        samples = [{"inputs": picture[None]} for picture in _pictures(15, CALIBRATION)]
        ranges = tool.calibrate({"serving_default": samples})
    return bytes(tool.quantize(ranges).quantized_model)


def _coreml(concrete: Any) -> dict[str, bytes]:
    import coremltools as ct  # noqa: PLC0415
    from coremltools.optimize import coreml as optimize  # noqa: PLC0415

    model = ct.convert(
        [concrete],
        source="tensorflow",
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS16,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    linear = optimize.OptimizationConfig(optimize.OpLinearQuantizerConfig(mode="linear_symmetric"))
    table = optimize.OptimizationConfig(optimize.OpPalettizerConfig(mode="kmeans", nbits=4))
    made = {
        "coreml-fp16": model,
        "linear-8": optimize.linear_quantize_weights(model, linear),
        "lut-4": optimize.palettize_weights(model, table),
    }
    return {name: (Path(each.weights_dir) / "weight.bin").read_bytes() for name, each in made.items()}


def _moved_tflite(content: bytes) -> bytes:
    """The same model with its buffers in another order, the first (always empty) in its place."""
    import flatbuffers  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # behind the flatbuffer, where packing would lose it
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    order = list(range(1, len(model.buffers)))
    random.Random(16).shuffle(order)  # noqa: S311  # an order, not a secret
    model.buffers = [model.buffers[index] for index in (0, *order)]
    place = {old: new for new, old in enumerate((0, *order))}
    for tensor in (tensor for graph in model.subgraphs for tensor in graph.tensors):
        tensor.buffer = place[tensor.buffer]
    for metadata in model.metadata or ():
        metadata.buffer = place[metadata.buffer]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _moved_weights(content: bytes) -> bytes:
    """The same blobs in another order, each header pointing at its bytes; the program's offsets are not in here."""
    from distribution.deltas.containers import weight_blobs  # noqa: PLC0415

    blobs = list(weight_blobs(content))
    random.Random(16).shuffle(blobs)  # noqa: S311  # an order, not a secret
    out = bytearray(content[:64])
    for offset, length in blobs:
        header = bytearray(content[offset - 64 : offset])
        header[16:24] = (len(out) + 64).to_bytes(8, "little")
        out += header + content[offset : offset + length] + b"\0" * (-length % 64)
    return bytes(out)


if __name__ == "__main__":
    write_pairs(Path(sys.argv[1]), print)
