import pytest

from registry.conversion.plan import plan
from registry.conversion.recipes import RECIPES, UnknownRecipeError
from registry.inspection import SourceInspection

QUANTISABLE = {"tflite-float16", "tflite-dynamic-int8"}
TRAINED = {"tflite-float32", "coreml-fp16"} | QUANTISABLE


def source(file_format: str, precision: str = "", defects: tuple[str, ...] = ()) -> SourceInspection:
    return SourceInspection(file_format, (), (), 1, {"precision": precision, "warnings": list(defects)})


@pytest.mark.parametrize(
    ("inspected", "has_evaluation_set", "expected"),
    [
        (source("keras"), True, TRAINED | {"tflite-full-int8"}),
        (source("keras"), False, TRAINED),
        (source("saved_model"), True, TRAINED | {"tflite-full-int8"}),
        (source("saved_model"), False, TRAINED),
        (source("tflite", "float32"), True, QUANTISABLE | {"tflite-full-int8", "tflite-as-is"}),
        (source("tflite", "float32"), False, QUANTISABLE | {"tflite-as-is"}),
        (source("tflite", "float16"), True, {"tflite-as-is"}),
        (source("tflite", "quantised"), True, {"tflite-as-is"}),
        (source("tflite", "quantised"), False, {"tflite-as-is"}),
        (source("tflite", "quantised", ("an axis too far",)), False, {"tflite-repaired"}),
    ],
)
def test_what_applies_to_which_source(inspected: SourceInspection, *, has_evaluation_set: bool, expected: set) -> None:
    planned = plan(inspected, has_evaluation_set, None)
    assert planned.steps[0] == "trace"
    assert set(planned.steps[1:]) == expected
    assert set(planned.not_applicable) <= set(RECIPES) - expected
    assert all(planned.not_applicable.values())


@pytest.mark.parametrize("inspected", [source("keras"), source("tflite"), source("tflite", "", ("an axis too far",))])
def test_every_recipe_that_is_asked_for_is_planned_or_has_its_reason(inspected: SourceInspection) -> None:
    planned = plan(inspected, True, list(RECIPES))
    assert set(planned.steps[1:]) | set(planned.not_applicable) == set(RECIPES)
    assert all(planned.not_applicable.values())


def test_recipes_without_a_point_are_not_listed_as_missed() -> None:
    assert not plan(source("keras"), True, None).not_applicable


def test_only_what_was_requested_is_planned_once_and_in_order() -> None:
    planned = plan(source("keras"), True, ["tflite-float16", "tflite-as-is", "tflite-float32", "tflite-float16"])
    assert planned.steps == ("trace", "tflite-float16", "tflite-float32")
    assert set(planned.not_applicable) == {"tflite-as-is"}


def test_reasons_name_what_is_missing() -> None:
    assert "evaluation set" in plan(source("keras"), False, None).not_applicable["tflite-full-int8"]
    assert "already quantised" in plan(source("tflite", "quantised"), True, None).not_applicable["tflite-float16"]


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UnknownRecipeError):
        plan(source("keras"), True, ["onnx-float32"])
