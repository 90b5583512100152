"""Recipes of the `tflite` family: every one but the copies is made from the float32 file by ai-edge-quantizer."""

from registry.conversion.recipes.recipe import ParityLimits, Recipe

_WEIGHTS_INT8 = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
_WEIGHTS_FLOAT16 = {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"}
_ACTIVATIONS_INT8 = {"num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "INT"}

CALIBRATION_SAMPLES = 100

RECIPES = (
    Recipe("tflite-float32", "tflite", "copy_tflite", ParityLimits(1e-4, 1e-5, 0.999)),
    Recipe(
        "tflite-float16",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.01, 0.002, 0.99),
        {
            "algorithm": "float_casting",
            "config": {
                "weight_tensor_config": _WEIGHTS_FLOAT16,
                "compute_precision": "FLOAT",
                "explicit_dequantize": True,
            },
        },
        expected_size_ratio=0.55,
    ),
    Recipe(
        "tflite-dynamic-int8",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.25, 0.03, 0.97),
        {
            "algorithm": "min_max_uniform_quantize",
            "config": {
                "weight_tensor_config": _WEIGHTS_INT8,
                "compute_precision": "INTEGER",
                "explicit_dequantize": False,
            },
        },
        expected_size_ratio=0.35,
    ),
    Recipe(
        "tflite-full-int8",
        "tflite",
        "quantise_tflite",
        ParityLimits(0.4, 0.05, 0.95),
        {
            "algorithm": "min_max_uniform_quantize",
            "config": {
                "activation_tensor_config": _ACTIVATIONS_INT8,
                "weight_tensor_config": _WEIGHTS_INT8,
                "compute_precision": "INTEGER",
                "explicit_dequantize": False,
            },
            "calibration_samples": CALIBRATION_SAMPLES,
            "calibration_ranges": "min_max",
        },
        needs_calibration=True,
        expected_size_ratio=0.35,
    ),
    Recipe("tflite-as-is", "tflite", "publish_as_is", ParityLimits(1e-6, 1e-6, 1.0)),
    Recipe("tflite-repaired", "tflite", "publish_as_is", ParityLimits(1e-6, 1e-6, 1.0)),
)
