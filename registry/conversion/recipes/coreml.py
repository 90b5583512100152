"""Recipes of the `coreml` family: ML programs, and what `coremltools.optimize.coreml` makes of them.

`compression` is a sequence of passes, each with a `kind`: `linear` (integers with a scale per channel, or per block of
`block` input channels), `palette` (a lookup table of 2^`bits` values per weight, or per `group` output channels) and
`prune` (the `sparsity` smallest values of each weight become zero, or without one those that are zero are left out).
Weights of at most `weight_threshold` values stay as they are: a table of values would cost what they save.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from registry.conversion.recipes.recipe import ParityLimits, Recipe

IOS15_SPECIFICATION, IOS16_SPECIFICATION, IOS18_SPECIFICATION = 6, 7, 9
IOS_OF_SPECIFICATION: Mapping[int, str] = MappingProxyType(
    {IOS15_SPECIFICATION: "15.0", IOS16_SPECIFICATION: "16.0", 8: "17.0", IOS18_SPECIFICATION: "18.0", 10: "26.0"}
)
WEIGHT_THRESHOLD = 512
FP32_TRACE = "trace-coreml-fp32"
PRUNED_TRACE = "trace-prune-75"


def ios_of(specification: int) -> str:
    """The first iOS that reads a package of that specification version. Packages themselves came with iOS 15."""
    return IOS_OF_SPECIFICATION.get(specification, IOS_OF_SPECIFICATION[IOS15_SPECIFICATION])


_LINEAR_INT8 = {"kind": "linear", "dtype": "int8"}
_LINEAR_INT4_BLOCK = {"kind": "linear", "dtype": "int4", "block": 32}


def _palette(bits: int, group: int = 0) -> dict[str, Any]:
    return {"kind": "palette", "bits": bits, "group": group}


def _compressed(
    slug: str,
    parity: ParityLimits,
    size: float,
    *passes: dict[str, Any],
    specification: int = IOS16_SPECIFICATION,
    base: str = "trace",
    on_request: bool = True,
) -> Recipe:
    return Recipe(
        f"coreml-{slug}",
        "coreml",
        "compress_coreml",
        parity,
        {"specification_version": specification, "compression": passes, "weight_threshold": WEIGHT_THRESHOLD},
        min_runtime_version=ios_of(specification),
        expected_size_ratio=size,
        base=base,
        on_request=on_request,
    )


def _copied(slug: str, parity: ParityLimits, size: float, specification: int, **more: Any) -> Recipe:
    parameters = {"specification_version": specification}
    runtime = ios_of(specification)
    return Recipe(slug, "coreml", "copy_coreml", parity, parameters, runtime, expected_size_ratio=size, **more)


RECIPES = (
    _copied(
        "coreml-fp32",
        ParityLimits(1e-4, 1e-5, 0.999),
        1.1,
        IOS15_SPECIFICATION,
        base=FP32_TRACE,
        on_request=True,
    ),
    _copied("coreml-fp16", ParityLimits(0.01, 0.002, 0.99), 0.55, IOS16_SPECIFICATION),
    _compressed("linear-int8", ParityLimits(0.25, 0.03, 0.97), 0.3, _LINEAR_INT8, on_request=False),
    _compressed("lut-4", ParityLimits(0.6, 0.06, 0.9), 0.17, _palette(4), on_request=False),
    _compressed("lut-8", ParityLimits(0.1, 0.02, 0.98), 0.3, _palette(8)),
    _compressed("lut-6", ParityLimits(0.3, 0.03, 0.97), 0.23, _palette(6)),
    _compressed("lut-3", ParityLimits(0.9, 0.1, 0.8), 0.14, _palette(3), specification=IOS18_SPECIFICATION),
    _compressed("lut-2", ParityLimits(1.0, 0.2, 0.6), 0.1, _palette(2)),
    _compressed("lut-1", ParityLimits(1.5, 0.4, 0.2), 0.07, _palette(1)),
    _compressed(
        "lut-4-grouped", ParityLimits(0.6, 0.06, 0.9), 0.19, _palette(4, group=16), specification=IOS18_SPECIFICATION
    ),
    _compressed(
        "linear-int4-block32",
        ParityLimits(0.8, 0.08, 0.9),
        0.2,
        _LINEAR_INT4_BLOCK,
        specification=IOS18_SPECIFICATION,
    ),
    _compressed("prune-50", ParityLimits(1.0, 0.2, 0.6), 0.36, {"kind": "prune", "sparsity": 0.5}),
    Recipe("coreml-as-is", "coreml", "publish_as_is", ParityLimits(1e-6, 1e-6, 1.0)),
    _compressed(
        "prune-75-lut-4",
        ParityLimits(1.0, 0.2, 0.5),
        0.13,
        {"kind": "prune"},
        _palette(4),
        specification=IOS18_SPECIFICATION,
        base=PRUNED_TRACE,
    ),
)
