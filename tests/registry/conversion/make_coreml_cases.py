"""Writes Core ML models that coremltools makes, or leaves, other than one would think. Run as a program: FOLDER

Prints JSON: case -> the code and text of the error it ends in, or what was found.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813 the name its own documentation uses
from coremltools.converters.mil.mil import types
from coremltools.models.neural_network import NeuralNetworkBuilder
from coremltools.optimize import coreml as optimize

from registry.conversion.worker.coreml import write_package
from registry.conversion.worker.coreml_compression import compress, require_compressed, weights_of
from registry.conversion.worker.job import WorkerError
from registry.conversion.worker.mil_interpreter import CoreMlModel

RANDOM = np.random.default_rng(4)
IOS18 = 9


def values(*shape: int) -> Any:
    return RANDOM.standard_normal(shape).astype(np.float32)


def program(body: Callable[[Any], Any], shape: tuple[int, ...], dtype: Any = types.fp32) -> Any:
    spec = mb.TensorSpec(shape=shape, dtype=dtype)
    made = mb.program(input_specs=[spec], opset_version=ct.target.iOS18)(body)
    return ct.convert(made, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS18, skip_model_load=True)


def classes(count: int) -> Any:
    weight = values(count, 128)
    return program(lambda x: mb.linear(x=x, weight=weight), (1, 128))


def transposed() -> Any:
    """A transposed convolution and both ways round of a matrix product: their channels lie on other axes."""
    kernel, left, right = values(24, 36, 3, 3), values(40, 36), values(40, 36)

    def body(x: Any) -> Any:
        y = mb.reduce_mean(x=mb.conv_transpose(x=x, weight=kernel), axes=[2, 3])
        y = mb.matmul(x=y, y=left, transpose_y=True)
        return mb.matmul(x=y, y=right)

    return program(body, (1, 24, 5, 5))


def skipped() -> Any:
    """What coremltools does with groups of 16 and 1000 classes: nothing, and no error."""
    config = optimize.OpPalettizerConfig(nbits=4, granularity="per_grouped_channel", group_size=16)
    return require_compressed(optimize.palettize_weights(classes(1000), optimize.OptimizationConfig(config)), 512)


def grouped(model: Any, kind: dict[str, Any]) -> dict[str, Any]:
    made = compress(model, [kind], IOS18, 512)
    require_compressed(made, 512)
    return {weight.name: weight.compressed for weight in weights_of(made)}


def half_interface(folder: Path) -> None:
    model = program(lambda x: mb.relu(x=x), (1, 8), types.fp16)
    write_package(model, folder / "half.mlpackage")
    wanted = CoreMlModel(folder / "half.mlpackage").signature
    floats = type(wanted)(*(tuple(type(s)(s.name, s.shape, "float32") for s in side) for side in vars(wanted).values()))
    CoreMlModel(folder / "half.mlpackage", floats)


def other_version(folder: Path) -> None:
    write_package(classes(4), folder / "newer.mlpackage")
    CoreMlModel(folder / "newer.mlpackage", None, 7)


def unknown_operation(folder: Path) -> None:
    model = program(lambda x: mb.non_zero(x=x), (1, 4))
    write_package(model, folder / "unknown.mlpackage")
    CoreMlModel(folder / "unknown.mlpackage")


def neural_network(folder: Path) -> None:
    array = ct.models.datatypes.Array
    builder = NeuralNetworkBuilder([("x", array(4))], [("y", array(2))])
    builder.add_inner_product("fc", np.ones((2, 4)), None, 4, 2, has_bias=False, input_name="x", output_name="y")
    (folder / "network.mlmodel").write_bytes(builder.spec.SerializeToString())


def ended(case: Callable[[], Any]) -> Any:
    try:
        return case()
    except WorkerError as error:
        return {"code": error.code, "detail": error.detail}


def main(folder: Path) -> dict[str, Any]:
    palette, block = {"kind": "palette", "bits": 4, "group": 16}, {"kind": "linear", "dtype": "int4", "block": 32}
    neural_network(folder)
    return {
        "skipped": ended(skipped),
        "thousand classes": ended(lambda: grouped(classes(1000), palette)),
        "a prime of classes": ended(lambda: grouped(classes(17), palette)),
        "other axes, groups": ended(lambda: grouped(transposed(), palette)),
        "other axes, blocks": ended(lambda: grouped(transposed(), block)),
        "small weights": ended(lambda: compress(classes(4), [palette], IOS18, 512)),
        "nothing pruned": ended(lambda: compress(classes(64), [{"kind": "prune"}], IOS18, 512)),
        "float16 interface": ended(lambda: half_interface(folder)),
        "other version": ended(lambda: other_version(folder)),
        "unknown operation": ended(lambda: unknown_operation(folder)),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
