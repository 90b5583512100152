"""Which recipes apply to a source, and why the others do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.conversion.recipes import RECIPES, Recipe, recipe_named
from registry.inspection.source import SourceInspection

TRACE = "trace"


@dataclass(frozen=True)
class Plan:
    """`steps` begins with `trace`; the rest are slugs of recipes, each of which needs only the trace."""

    steps: tuple[str, ...]
    not_applicable: Mapping[str, str]


def plan(source: SourceInspection, has_evaluation_set: bool, requested: Sequence[str] | None = None) -> Plan:  # noqa: FBT001
    """Sort the requested recipes (all of them when None) into steps and reasons.

    | source            | float32 | float16, dynamic-int8 | full-int8      | coreml | as-is |
    | .keras, SavedModel| yes     | yes                   | with samples   | yes    | no    |
    | .tflite, float32  | no      | yes                   | with samples   | no     | yes   |
    | .tflite, other    | no      | no                    | no             | no     | yes   |

    Raises UnknownRecipeError for a slug that is none.
    """
    slugs = tuple(RECIPES) if requested is None else tuple(dict.fromkeys(requested))
    reasons = {slug: _reason_against(recipe_named(slug), source, has_evaluation_set) for slug in slugs}
    chosen = tuple(slug for slug in slugs if not reasons[slug])
    return Plan((TRACE, *chosen), {slug: reason for slug, reason in reasons.items() if reason})


def _reason_against(recipe: Recipe, source: SourceInspection, has_evaluation_set: bool) -> str:  # noqa: FBT001
    ready = source.format == "tflite"
    if recipe.slug == "tflite-as-is":
        return "" if ready else f"only a ready .tflite source is published as it is; this one is {source.format}"
    if ready and recipe.slug == "tflite-float32":
        return "a ready .tflite source is published as it is (tflite-as-is)"
    if ready and recipe.family == "coreml":
        return "a ready .tflite source cannot be converted to Core ML; register the .keras file or the SavedModel"
    if ready and source.details.get("precision") != "float32":
        return f"the source is already {source.details.get('precision')}; only float32 weights can be quantised"
    if recipe.needs_calibration and not has_evaluation_set:
        return "needs an evaluation set to calibrate on, and the model version has none"
    return ""
