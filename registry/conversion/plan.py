"""Which recipes apply to a source, and why the others do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.conversion.recipes import RECIPES, TRACE, Recipe, recipe_named
from registry.inspection.source import SourceInspection

FOR_READY_FILES = ("tflite-as-is", "tflite-repaired")


@dataclass(frozen=True)
class Plan:
    """`steps` begins with `trace`, then come other traces, then recipes: each after its `recipes.base_of`."""

    steps: tuple[str, ...]
    not_applicable: Mapping[str, str]


def plan(source: SourceInspection, has_evaluation_set: bool, requested: Sequence[str] | None = None) -> Plan:  # noqa: FBT001
    """Sort the requested recipes (those of the default profile when None) into steps and reasons.

    | source            | float32 | float16, dynamic-int8 | full-int8      | coreml | as-is, or repaired |
    | .keras, SavedModel| yes     | yes                   | with samples   | yes    | no                 |
    | .tflite, float32  | no      | yes                   | with samples   | no     | yes                |
    | .tflite, other    | no      | no                    | no             | no     | yes                |

    A ready file is published repaired in place of as it is where LiteRT refuses it for a defect that can be mended.
    Recipes for ready files are left out of the default, not listed as missed, where there is nothing of theirs to do.

    Raises UnknownRecipeError for a slug that is none.
    """
    slugs = _default(source) if requested is None else tuple(dict.fromkeys(requested))
    reasons = {slug: _reason_against(recipe_named(slug), source, has_evaluation_set) for slug in slugs}
    chosen = tuple(slug for slug in slugs if not reasons[slug])
    bases = tuple(dict.fromkeys(RECIPES[slug].base for slug in chosen if RECIPES[slug].base != TRACE))
    return Plan((TRACE, *bases, *chosen), {slug: reason for slug, reason in reasons.items() if reason})


def _default(source: SourceInspection) -> tuple[str, ...]:
    pointless = set(FOR_READY_FILES) if source.format != "tflite" else {"tflite-float32"}
    if not source.details.get("warnings"):
        pointless.add("tflite-repaired")
    return tuple(slug for slug, recipe in RECIPES.items() if slug not in pointless and not recipe.on_request)


def _reason_against(recipe: Recipe, source: SourceInspection, has_evaluation_set: bool) -> str:  # noqa: FBT001
    ready = source.format == "tflite"
    if recipe.slug in FOR_READY_FILES:
        return _reason_against_ready(recipe, source)
    if ready and recipe.slug == "tflite-float32":
        return "a ready .tflite source is published as it is (tflite-as-is)"
    if ready and recipe.family == "coreml":
        return "a ready .tflite source cannot be converted to Core ML; register the .keras file or the SavedModel"
    if ready and source.details.get("precision") != "float32":
        return f"the source is already {source.details.get('precision')}; only float32 weights can be quantised"
    if recipe.needs_calibration and not has_evaluation_set:
        return "needs an evaluation set to calibrate on, and the model version has none"
    return ""


def _reason_against_ready(recipe: Recipe, source: SourceInspection) -> str:
    if source.format != "tflite":
        return f"only a ready .tflite source is published as it is or repaired; this one is {source.format}"
    defects = "; ".join(source.details.get("warnings", ()))
    if recipe.slug == "tflite-repaired":
        return "" if defects else "the source has nothing to repair"
    return f"LiteRT refuses the file: {defects}" if defects else ""
