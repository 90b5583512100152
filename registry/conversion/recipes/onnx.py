"""Recipes of the `onnx` family: the traced file, and what ONNX Runtime's quantiser makes of it."""

from typing import Any

from registry.conversion.recipes.recipe import ParityLimits, Recipe

ONNX_TRACE = "trace-onnx"
CALIBRATION_SAMPLES = 100

# Convolutions of signed weights run four times slower than those of unsigned ones where activations are quantised as
# they come; with calibrated ones signed weights and activations are the faster pair.
_DYNAMIC = {"weights": "QUInt8", "per_channel": True}
_STATIC = {
    "weights": "QInt8",
    "activations": "QInt8",
    "per_channel": True,
    "calibration_samples": CALIBRATION_SAMPLES,
}


def _recipe(slug: str, step: str, parity: ParityLimits, **more: Any) -> Recipe:
    return Recipe(slug, "onnx", step, parity, base=ONNX_TRACE, on_request=True, **more)


RECIPES: tuple[Recipe, ...] = (
    _recipe("onnx-float32", "copy_onnx", ParityLimits(1e-3, 1e-4, 0.999)),
    _recipe(
        "ort-dynamic-int8",
        "quantise_dynamically",
        ParityLimits(0.25, 0.03, 0.95),
        parameters=_DYNAMIC,
        expected_size_ratio=0.35,
    ),
    _recipe(
        "ort-static-int8",
        "quantise_statically",
        ParityLimits(0.4, 0.05, 0.95),
        parameters=_STATIC,
        needs_calibration=True,
        expected_size_ratio=0.4,
    ),
)
