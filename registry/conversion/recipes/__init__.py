"""All recipes and traces by slug. A new one is an entry in its family's file and a step in the worker."""

from collections.abc import Mapping
from types import MappingProxyType

from registry.conversion.recipes import coreml, onnx, tflite, traces
from registry.conversion.recipes.not_offered import NOT_OFFERED
from registry.conversion.recipes.recipe import RUNTIME_OF_FAMILY, TRACE, Family, ParityLimits, Recipe, Trace
from registry.conversion.recipes.traces import ADOPTION_STEPS

__all__ = [
    "ADOPTION_STEPS",
    "NOT_OFFERED",
    "RECIPES",
    "RUNTIME_OF_FAMILY",
    "TRACE",
    "TRACES",
    "Family",
    "ParityLimits",
    "Recipe",
    "Trace",
    "UnknownRecipeError",
    "base_of",
    "recipe_named",
    "trace_named",
]

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {recipe.slug: recipe for recipe in (*tflite.RECIPES, *coreml.RECIPES, *onnx.RECIPES)}
)
TRACES: Mapping[str, Trace] = MappingProxyType({trace.slug: trace for trace in traces.TRACES})


class UnknownRecipeError(ValueError):
    """The caller asked for a recipe that does not exist, or is not offered."""


def recipe_named(slug: str) -> Recipe:
    if slug in NOT_OFFERED:
        raise UnknownRecipeError(f"expected a recipe that is offered; got {slug!r}: {NOT_OFFERED[slug]}")
    try:
        return RECIPES[slug]
    except KeyError:
        raise UnknownRecipeError(f"expected a recipe among {', '.join(RECIPES)}; got {slug!r}") from None


def trace_named(slug: str) -> Trace:
    try:
        return TRACES[slug]
    except KeyError:
        raise UnknownRecipeError(f"expected a trace among {', '.join(TRACES)}; got {slug!r}") from None


def base_of(slug: str, source_format: str = "") -> str:
    """The trace that a recipe, or another trace, starts from; empty for the main trace, whose start is the source.

    A ready file has no trace but the main one, which holds the file itself.
    """
    if slug == TRACE:
        return ""
    return TRACE if slug in TRACES or source_format in ADOPTION_STEPS else recipe_named(slug).base
