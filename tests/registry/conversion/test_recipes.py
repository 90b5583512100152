import dataclasses
import re
from importlib.util import find_spec

import pytest

from registry.conversion.recipes import (
    NOT_OFFERED,
    RECIPES,
    RUNTIME_OF_FAMILY,
    TRACES,
    UnknownRecipeError,
    base_of,
    recipe_named,
)

DEFAULT = {
    "tflite-float32",
    "tflite-float16",
    "tflite-dynamic-int8",
    "tflite-full-int8",
    "tflite-as-is",
    "tflite-repaired",
}
ON_REQUEST = {
    "tflite-full-int8-float-io",
    "tflite-full-uint8",
    "tflite-weight-int8",
    "tflite-weight-int4",
    "tflite-dynamic-int4",
    "tflite-mixed-int8-int4",
    *(f"tflite-cluster-{clusters}{then}" for clusters in (16, 64) for then in ("", "-dynamic-int8")),
    *(f"tflite-prune-{percent}{then}" for percent in (50, 80, 90) for then in ("", "-dynamic-int8")),
}


def test_the_recipes_are_those_of_the_api() -> None:
    of_litert = {slug: recipe for slug, recipe in RECIPES.items() if recipe.family == "tflite"}
    assert {slug for slug, recipe in of_litert.items() if not recipe.on_request} == DEFAULT
    assert {slug for slug, recipe in of_litert.items() if recipe.on_request} == ON_REQUEST
    assert all(slug == recipe.slug for slug, recipe in RECIPES.items())


def test_every_recipe_has_a_step_and_starts_from_a_trace_there_is() -> None:
    for slug, recipe in RECIPES.items():
        assert base_of(slug) in TRACES
        family = pytest.importorskip(f"registry.conversion.worker.steps.{recipe.family}")
        assert recipe.step in family.STEPS


def test_every_trace_is_a_module_of_the_worker() -> None:
    for trace in TRACES.values():
        assert find_spec(f"registry.conversion.worker.{trace.step}"), trace


def test_what_is_not_offered_has_a_reason_and_is_no_recipe() -> None:
    assert set(NOT_OFFERED).isdisjoint(RECIPES)
    with pytest.raises(UnknownRecipeError, match="16x8"):
        recipe_named("tflite-int16x8")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.slug)
def test_a_recipe_runs_on_the_runtime_of_its_family(recipe) -> None:
    assert recipe.runtime == RUNTIME_OF_FAMILY[recipe.family]
    assert recipe.entry == {"coreml": "model.mlpackage", "onnx": "model.onnx"}.get(recipe.family, "model.tflite")


def test_only_what_quantises_activations_beforehand_needs_calibration() -> None:
    calibrated = {slug for slug, recipe in RECIPES.items() if recipe.needs_calibration}
    assert calibrated == {
        "tflite-full-int8",
        "tflite-full-int8-float-io",
        "tflite-full-uint8",
        "ort-static-int8",
    }


def test_every_digest_differs_and_follows_the_data() -> None:
    digests = {recipe.digest for recipe in RECIPES.values()}
    assert len(digests) == len(RECIPES)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)
    recipe = RECIPES["tflite-full-int8"]
    assert dataclasses.replace(recipe).digest == recipe.digest
    assert (
        dataclasses.replace(recipe, parameters={**recipe.parameters, "calibration_samples": 99}).digest != recipe.digest
    )


def test_tolerances_grow_with_what_a_recipe_gives_up() -> None:
    order = ["tflite-as-is", "tflite-float32", "tflite-float16", "tflite-dynamic-int8", "tflite-full-int8"]
    limits = [RECIPES[slug].parity.max_abs_error for slug in order]
    assert limits == sorted(limits)


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownRecipeError, match=r"tflite-float32.*got 'tflite-int3'"):
        recipe_named("tflite-int3")
