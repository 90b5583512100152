"""Recipes of the `coreml` family: ML programs, and what `coremltools.optimize.coreml` makes of them."""

from registry.conversion.recipes.recipe import ParityLimits, Recipe

IOS16_SPECIFICATION = 7

RECIPES = (
    Recipe(
        "coreml-fp16",
        "coreml",
        "copy_coreml",
        ParityLimits(0.01, 0.002, 0.99),
        {"specification_version": IOS16_SPECIFICATION},
        min_runtime_version="16.0",
    ),
)
