"""Recipes of the `onnx` family: the traced file, and what ONNX Runtime's quantiser makes of it."""

from registry.conversion.recipes.recipe import Recipe

RECIPES: tuple[Recipe, ...] = ()
