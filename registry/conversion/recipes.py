"""What each variant of a model version is made of, as data.

A recipe names one step of the worker and its parameters; the worker holds one function per step. Changing any member
of a recipe changes its digest, so that a variant built by an older recipe is never taken for one built by a newer.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

Family = Literal["tflite", "coreml"]

RUNTIME_OF_FAMILY: Mapping[str, str] = MappingProxyType({"tflite": "litert", "coreml": "coreml"})


@dataclass(frozen=True)
class ParityLimits:
    """How far a variant's outputs may lie from its source's before it is `parity_missed`.

    `max_abs_error` and `mean_abs_error` are in units of the output, and scaled by the largest absolute reference
    value of that output when it exceeds 1 (probabilities are compared as they are, raw scores relative to their size).
    `min_top1_agreement` is a share in 0..1 and counts only on an evaluation set: on random inputs the two best classes
    lie so close that their order says nothing.
    """

    max_abs_error: float
    mean_abs_error: float
    min_top1_agreement: float


@dataclass(frozen=True)
class Recipe:
    """One way to build a variant.

    `step` is the function of `worker.optimise` that builds it, `parameters` are that function's keyword arguments.
    `expected_size_ratio` is the variant's size over the float32 `.tflite`'s, for models of more than a few layers.
    `min_runtime_version` is dotted; for Core ML it is the iOS version, for LiteRT it is empty (see docs/conversion.md).
    """

    slug: str
    family: Family
    step: str
    parity: ParityLimits
    parameters: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = "litert"
    min_runtime_version: str = ""
    needs_calibration: bool = False
    expected_size_ratio: float = 1.0

    @property
    def entry(self) -> str:
        """Path, relative to the output directory, of the file or directory a runtime loads."""
        return "model.mlpackage" if self.family == "coreml" else "model.tflite"

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the recipe's data as canonical JSON: sorted keys, no spaces, ASCII."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


_WEIGHTS_INT8 = {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"}
_WEIGHTS_FLOAT16 = {"num_bits": 16, "symmetric": True, "granularity": "TENSORWISE", "dtype": "FLOAT"}
_ACTIVATIONS_INT8 = {"num_bits": 8, "symmetric": False, "granularity": "TENSORWISE", "dtype": "INT"}

CALIBRATION_SAMPLES = 100
COREML_IOS16_SPECIFICATION = 7

_ALL = (
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
    Recipe(
        "coreml-fp16",
        "coreml",
        "copy_coreml",
        ParityLimits(0.01, 0.002, 0.99),
        {"specification_version": COREML_IOS16_SPECIFICATION},
        runtime="coreml",
        min_runtime_version="16.0",
    ),
    Recipe("tflite-as-is", "tflite", "publish_as_is", ParityLimits(1e-6, 1e-6, 1.0)),
    Recipe("tflite-repaired", "tflite", "publish_as_is", ParityLimits(1e-6, 1e-6, 1.0)),
)

RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.slug: recipe for recipe in _ALL})


class UnknownRecipeError(ValueError):
    """The caller asked for a recipe that does not exist."""


def recipe_named(slug: str) -> Recipe:
    try:
        return RECIPES[slug]
    except KeyError:
        raise UnknownRecipeError(f"expected a recipe among {', '.join(RECIPES)}; got {slug!r}") from None
