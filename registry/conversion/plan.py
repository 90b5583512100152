"""Which recipes apply to a source, and why the others do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from registry.conversion.recipes import RECIPES, TRACE, TRACES, Recipe, base_of, recipe_named
from registry.inspection.source import SourceInspection

FOR_READY_FILES = ("tflite-as-is", "tflite-repaired", "coreml-as-is")
# What ready files of other formats than .tflite are good for.
_OF_READY: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "coreml": frozenset({"coreml-as-is"}),
        "onnx": frozenset(slug for slug, recipe in RECIPES.items() if recipe.family == "onnx"),
    }
)
_DEFAULT_OF_READY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"coreml": ("coreml-as-is",), "onnx": ("onnx-float32",)}
)
_FORMAT_NAMES: Mapping[str, str] = MappingProxyType(
    {"tflite": ".tflite", "coreml": "Core ML", "onnx": ".onnx", "keras": ".keras", "saved_model": "SavedModel"}
)
_FAMILY_NAMES: Mapping[str, str] = MappingProxyType(
    {"tflite": "LiteRT", "coreml": "Core ML", "onnx": "ONNX", "executorch": "ExecuTorch"}
)
_NOTHING_MISSING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Plan:
    """`steps` begins with `trace`, then come other traces, then recipes: each after its `recipes.base_of`."""

    steps: tuple[str, ...]
    not_applicable: Mapping[str, str]


@dataclass(frozen=True)
class _Given:
    """What there is to plan with."""

    source: SourceInspection
    has_evaluation_set: bool
    has_training_set: bool
    missing: Mapping[str, str]


def plan(
    source: SourceInspection,
    has_evaluation_set: bool,  # noqa: FBT001
    requested: Sequence[str] | None = None,
    *,
    has_training_set: bool = False,
    missing: Mapping[str, str] = _NOTHING_MISSING,
) -> Plan:
    """Sort the requested recipes (those of the default profile when None) into steps and reasons.

    | source            | float32 | other tflite | pruned      | coreml, onnx | as-is, or repaired |
    | .keras            | yes     | yes          | see below   | yes          | no                 |
    | SavedModel        | yes     | yes          | no          | yes          | no                 |
    | .tflite, float32  | no      | yes          | no          | no           | yes                |
    | .tflite, other    | no      | no           | no          | no           | yes                |
    | Core ML           | no      | no           | no          | no           | coreml-as-is       |
    | .onnx             | no      | no           | no          | onnx family  | onnx-float32       |

    A recipe that calibrates needs an evaluation set; one that prunes more than half of the weights needs a training
    set. `missing` maps a family whose converters are not installed to the reason.

    A ready file is published repaired in place of as it is where LiteRT refuses it for a defect that can be mended.
    Recipes for ready files are left out of the default, not listed as missed, where there is nothing of theirs to do.

    Raises UnknownRecipeError for a slug that is none, or that is not offered.
    """
    slugs = _default(source) if requested is None else tuple(dict.fromkeys(requested))
    given = _Given(source, has_evaluation_set, has_training_set, missing)
    reasons = {slug: _reason_against(recipe_named(slug), given) for slug in slugs}
    chosen = tuple(slug for slug in slugs if not reasons[slug])
    bases = tuple(dict.fromkeys(base for slug in chosen if (base := base_of(slug, source.format)) != TRACE))
    return Plan((TRACE, *bases, *chosen), {slug: reason for slug, reason in reasons.items() if reason})


def _default(source: SourceInspection) -> tuple[str, ...]:
    if source.format in _DEFAULT_OF_READY:
        return _DEFAULT_OF_READY[source.format]
    pointless = {"coreml-as-is", "tflite-float32"} if source.format == "tflite" else set(FOR_READY_FILES)
    if not source.details.get("warnings"):
        pointless.add("tflite-repaired")
    return tuple(slug for slug, recipe in RECIPES.items() if slug not in pointless and not recipe.on_request)


def _reason_against(recipe: Recipe, given: _Given) -> str:
    """The first reason that holds, the least mendable first; empty where the recipe applies."""
    return (
        _reason_of_ready(recipe, given.source)
        or _reason_of_pruning(recipe, given)
        or given.missing.get(recipe.family, "")
        or _reason_of_calibration(recipe, given)
    )


def _reason_of_ready(recipe: Recipe, source: SourceInspection) -> str:
    """What stands against a recipe because the source is, or is not, a ready file."""
    if source.format in _OF_READY:
        return "" if recipe.slug in _OF_READY[source.format] else _published_as_it_is(recipe, source)
    if recipe.slug in FOR_READY_FILES:
        return _reason_against_publishing(recipe, source)
    if source.format != "tflite":
        return ""
    if recipe.family != "tflite" or recipe.slug == "tflite-float32":
        return _published_as_it_is(recipe, source)
    precision = source.details.get("precision")
    if precision != "float32":
        return f"the source is already {precision}; only float32 weights can be quantised or clustered"
    return ""


def _published_as_it_is(recipe: Recipe, source: SourceInspection) -> str:
    name, family = _FORMAT_NAMES[source.format], _FAMILY_NAMES[recipe.family]
    if recipe.family == source.format:
        return f"a ready {name} source is published as it is ({source.format}-as-is)"
    return f"a ready {name} source cannot be converted to {family}; register the .keras file or the SavedModel"


def _reason_against_publishing(recipe: Recipe, source: SourceInspection) -> str:
    if recipe.family != source.format:
        expected = _FORMAT_NAMES[recipe.family]
        return f"only a ready {expected} source is published as it is or repaired; this one is {source.format}"
    defects = "; ".join(source.details.get("warnings", ()))
    if recipe.slug == "tflite-repaired":
        return "" if defects else "the source has nothing to repair"
    return f"LiteRT refuses the file: {defects}" if defects else ""


def _reason_of_pruning(recipe: Recipe, given: _Given) -> str:
    trace = TRACES[recipe.base]
    if trace.step != "trace_prune":
        return ""
    if given.source.format != "keras":
        name = _FORMAT_NAMES[given.source.format]
        return f"pruning trains a model on, which a {name} source does not allow; register the .keras file"
    if trace.needs_training_set and not given.has_training_set:
        return "needs a training set to make up for what is pruned, and the model version has none"
    return ""


def _reason_of_calibration(recipe: Recipe, given: _Given) -> str:
    if recipe.needs_calibration and not given.has_evaluation_set:
        return "needs an evaluation set to calibrate on, and the model version has none"
    return ""
