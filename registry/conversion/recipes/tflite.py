"""Recipes of the `tflite` family: what ai-edge-quantizer, clustering and pruning make of the float32 file.

Parameters of a quantising step: `algorithm` and `config` say how every operator is quantised, `exceptions` how single
ones are instead (later ones win); `clusters` how many distinct values a weight tensor keeps before that.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from registry.conversion.recipes.recipe import ParityLimits, Recipe

_WEIGHTS_INT8 = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
_WEIGHTS_INT4 = {**_WEIGHTS_INT8, "num_bits": 4}
_WEIGHTS_FLOAT16 = {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"}
_ACTIVATIONS_INT8 = {"num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "INT"}
_UNIFORM = "min_max_uniform_quantize"
_BORDER = ("INPUT", "OUTPUT")
# The operators whose 4-bit kernels LiteRT has. Depthwise convolutions and recurrent cells keep 8 bits.
_FOUR_BIT = ("CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP")

CALIBRATION_SAMPLES = 100


def _integer(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Activations are quantised as they come: integer arithmetic, float32 between operators."""
    return {"weight_tensor_config": weights, "compute_precision": "INTEGER", "explicit_dequantize": False}


def _stored(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Weights are stored narrow and computed with in float32."""
    return {"weight_tensor_config": weights, "compute_precision": "FLOAT", "explicit_dequantize": True}


def _quantised(config: Mapping[str, Any], *exceptions: Mapping[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = {"algorithm": _UNIFORM, "config": config}
    return {**parameters, "exceptions": exceptions} if exceptions else parameters


def _except(config: Mapping[str, Any], *operations: str) -> tuple[dict[str, Any], ...]:
    return tuple({"operation": name, "algorithm": _UNIFORM, "config": config} for name in operations)


_DYNAMIC_INT8 = _quantised(_integer(_WEIGHTS_INT8))
_FULL_INT8 = {
    "algorithm": _UNIFORM,
    "config": {
        "activation_tensor_config": _ACTIVATIONS_INT8,
        "weight_tensor_config": _WEIGHTS_INT8,
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
    },
    "calibration_samples": CALIBRATION_SAMPLES,
    "calibration_ranges": "min_max",
}
_LEFT_FLOAT = tuple({"operation": name, "algorithm": "no_quantize", "config": {}} for name in _BORDER)

_DEFAULT = (
    Recipe("tflite-float32", "tflite", "copy_tflite", ParityLimits(1e-4, 1e-5, 0.999)),
    Recipe(
        "tflite-float16",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.01, 0.002, 0.99),
        {"algorithm": "float_casting", "config": _stored(_WEIGHTS_FLOAT16)},
        expected_size_ratio=0.55,
    ),
    Recipe(
        "tflite-dynamic-int8",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.25, 0.03, 0.97),
        _DYNAMIC_INT8,
        expected_size_ratio=0.35,
    ),
    Recipe(
        "tflite-full-int8",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.4, 0.05, 0.95),
        _FULL_INT8,
        needs_calibration=True,
        expected_size_ratio=0.35,
        io_dtype="int8",
    ),
)

_QUANTISED = (
    replace(
        _DEFAULT[3],
        slug="tflite-full-int8-float-io",
        parameters={**_FULL_INT8, "exceptions": _LEFT_FLOAT},
        io_dtype="",
    ),
    replace(_DEFAULT[3], slug="tflite-full-uint8", step="quantise_tflite_to_uint8", io_dtype="uint8"),
    Recipe(
        "tflite-weight-int8",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.2, 0.02, 0.97),
        _quantised(_stored(_WEIGHTS_INT8)),
        expected_size_ratio=0.35,
    ),
    Recipe(
        "tflite-weight-int4",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.6, 0.08, 0.9),
        _quantised(_stored(_WEIGHTS_INT8), *_except(_stored(_WEIGHTS_INT4), *_FOUR_BIT)),
        expected_size_ratio=0.25,
    ),
    Recipe(
        "tflite-dynamic-int4",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.6, 0.08, 0.9),
        _quantised(_integer(_WEIGHTS_INT8), *_except(_integer(_WEIGHTS_INT4), *_FOUR_BIT)),
        expected_size_ratio=0.25,
    ),
    Recipe(
        "tflite-mixed-int8-int4",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.5, 0.06, 0.93),
        _quantised(_integer(_WEIGHTS_INT8), *_except(_integer(_WEIGHTS_INT4), "FULLY_CONNECTED")),
        expected_size_ratio=0.35,
    ),
)


def _clustered(clusters: int, plain: ParityLimits, quantised: ParityLimits) -> tuple[Recipe, Recipe]:
    slug = f"tflite-cluster-{clusters}"
    return (
        Recipe(slug, "tflite", "cluster_tflite", plain, {"clusters": clusters}),
        Recipe(
            f"{slug}-dynamic-int8",
            "tflite",
            "cluster_and_quantise_tflite",
            quantised,
            {**_DYNAMIC_INT8, "clusters": clusters},
            expected_size_ratio=0.35,
        ),
    )


def _pruned(percent: int, limits: ParityLimits) -> tuple[Recipe, Recipe]:
    """The model was trained on: single outputs may move anywhere, most may not. Its accuracy is what counts."""
    slug, base = f"tflite-prune-{percent}", f"trace-prune-{percent}"
    return (
        Recipe(slug, "tflite", "copy_pruned_tflite", limits, {"sparsity_percent": percent}, base=base),
        Recipe(
            f"{slug}-dynamic-int8",
            "tflite",
            "quantise_pruned_tflite",
            limits,
            {**_DYNAMIC_INT8, "sparsity_percent": percent},
            expected_size_ratio=0.35,
            base=base,
        ),
    )


_COMPRESSED = (
    *_clustered(16, ParityLimits(0.5, 0.06, 0.93), ParityLimits(0.55, 0.07, 0.92)),
    *_clustered(64, ParityLimits(0.3, 0.03, 0.97), ParityLimits(0.35, 0.04, 0.96)),
    *_pruned(50, ParityLimits(1.0, 0.08, 0.9)),
    *_pruned(80, ParityLimits(1.0, 0.1, 0.87)),
    *_pruned(90, ParityLimits(1.0, 0.15, 0.8)),
)

_READY = (
    Recipe("tflite-as-is", "tflite", "publish_as_is", ParityLimits(1e-6, 1e-6, 1.0)),
    Recipe("tflite-repaired", "tflite", "publish_as_is", ParityLimits(1e-6, 1e-6, 1.0)),
)

RECIPES = (*_DEFAULT, *_READY, *(replace(recipe, on_request=True) for recipe in (*_QUANTISED, *_COMPRESSED)))
