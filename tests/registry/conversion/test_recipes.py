import dataclasses
import re

import pytest

from registry.conversion.recipes import RECIPES, RUNTIME_OF_FAMILY, UnknownRecipeError, recipe_named

SLUGS = {
    "tflite-float32",
    "tflite-float16",
    "tflite-dynamic-int8",
    "tflite-full-int8",
    "coreml-fp16",
    "tflite-as-is",
    "tflite-repaired",
}


def test_the_recipes_are_those_of_the_api() -> None:
    assert set(RECIPES) == SLUGS
    assert all(slug == recipe.slug for slug, recipe in RECIPES.items())


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.slug)
def test_a_recipe_runs_on_the_runtime_of_its_family(recipe) -> None:
    assert recipe.runtime == RUNTIME_OF_FAMILY[recipe.family]
    assert recipe.entry == ("model.mlpackage" if recipe.family == "coreml" else "model.tflite")


def test_only_full_int8_needs_calibration() -> None:
    assert [slug for slug, recipe in RECIPES.items() if recipe.needs_calibration] == ["tflite-full-int8"]


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
