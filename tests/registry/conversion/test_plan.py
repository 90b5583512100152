import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.plan import plan
from registry.conversion.recipes import NOT_OFFERED, RECIPES, TRACE, TRACES, UnknownRecipeError, base_of
from registry.inspection import SourceInspection

DEFAULT = {slug for slug, recipe in RECIPES.items() if not recipe.on_request}
COREML = {slug for slug in DEFAULT if slug.startswith("coreml-")} - {"coreml-as-is"}
QUANTISABLE = {"tflite-float16", "tflite-dynamic-int8"}
TRAINED = {"tflite-float32"} | COREML | QUANTISABLE
PRUNED = [slug for slug in RECIPES if TRACES[RECIPES[slug].base].step == "trace_prune"]


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
        (source("onnx"), False, {"onnx-float32"}),
    ],
)
def test_what_applies_to_which_source(inspected: SourceInspection, *, has_evaluation_set: bool, expected: set) -> None:
    planned = plan(inspected, has_evaluation_set, None)
    assert planned.steps[0] == TRACE
    assert set(planned.steps[1:]) == expected
    assert set(planned.not_applicable) <= set(RECIPES) - expected
    assert all(planned.not_applicable.values())


SOURCES = st.builds(
    source,
    st.sampled_from(["keras", "saved_model", "tflite", "coreml", "onnx"]),
    st.sampled_from(["float32", "float16", "quantised"]),
    st.sampled_from([(), ("an axis too far",)]),
)


@given(
    inspected=SOURCES,
    has_evaluation_set=st.booleans(),
    has_training_set=st.booleans(),
    slugs=st.sets(st.sampled_from(sorted(RECIPES))),
)
def test_every_recipe_that_is_asked_for_is_planned_after_its_base_or_has_its_reason(
    inspected: SourceInspection, *, has_evaluation_set: bool, has_training_set: bool, slugs: set[str]
) -> None:
    planned = plan(inspected, has_evaluation_set, sorted(slugs), has_training_set=has_training_set)
    made = [step for step in planned.steps if step not in TRACES]
    assert set(made) | set(planned.not_applicable) == slugs
    assert set(made).isdisjoint(planned.not_applicable)
    assert all(planned.not_applicable.values())
    assert len(set(planned.steps)) == len(planned.steps)
    order = {step: position for position, step in enumerate(planned.steps)}
    for step in planned.steps[1:]:
        assert order[base_of(step, inspected.format)] < order[step]
    assert {base_of(step, inspected.format) for step in made} | {TRACE} == set(planned.steps) - set(made)


def test_recipes_without_a_point_are_not_listed_as_missed() -> None:
    assert not plan(source("keras"), True, None).not_applicable


def test_only_what_was_requested_is_planned_once_and_in_order() -> None:
    planned = plan(source("keras"), True, ["tflite-float16", "tflite-as-is", "tflite-float32", "tflite-float16"])
    assert planned.steps == ("trace", "tflite-float16", "tflite-float32")
    assert set(planned.not_applicable) == {"tflite-as-is"}


@pytest.mark.parametrize(
    ("file_format", "has_training_set", "expected"),
    [
        ("keras", True, set(PRUNED)),
        ("keras", False, {"tflite-prune-50", "tflite-prune-50-dynamic-int8"}),
        ("saved_model", True, set()),
        ("tflite", True, set()),
        ("onnx", True, set()),
    ],
)
def test_pruning_needs_a_keras_file_and_above_half_a_training_set(
    file_format: str, *, has_training_set: bool, expected: set
) -> None:
    planned = plan(source(file_format, "float32"), True, PRUNED, has_training_set=has_training_set)
    assert set(planned.steps) - set(TRACES) == expected
    for slug in set(PRUNED) - expected:
        assert ("training set" if file_format == "keras" else "register") in planned.not_applicable[slug]


def test_a_pruned_recipe_brings_its_trace_along_once() -> None:
    planned = plan(source("keras"), True, ["tflite-prune-80", "tflite-prune-80-dynamic-int8"], has_training_set=True)
    assert planned.steps == ("trace", "trace-prune-80", "tflite-prune-80", "tflite-prune-80-dynamic-int8")


def test_reasons_name_what_is_missing() -> None:
    assert "evaluation set" in plan(source("keras"), False, None).not_applicable["tflite-full-int8"]
    assert "already quantised" in plan(source("tflite", "quantised"), True, None).not_applicable["tflite-float16"]


def test_a_family_whose_converters_are_not_installed_is_planned_away_with_that_reason() -> None:
    planned = plan(source("keras"), True, None, missing={"coreml": "needs the extra `light`"})
    assert COREML
    assert planned.not_applicable == dict.fromkeys(COREML, "needs the extra `light`")


@pytest.mark.parametrize("slug", ["onnx-float33", *NOT_OFFERED])
def test_a_recipe_that_is_none_or_not_offered_is_refused(slug: str) -> None:
    with pytest.raises(UnknownRecipeError) as caught:
        plan(source("keras"), True, [slug])
    assert NOT_OFFERED.get(slug, "tflite-float32") in str(caught.value)
