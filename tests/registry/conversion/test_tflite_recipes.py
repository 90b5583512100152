"""The tflite recipes on request, for real: what each promises beside agreeing with its source."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from registry.conversion.recipes import RECIPES, TRACE
from registry.conversion.report import Report
from registry.conversion.runner import run_recipe
from tests.registry.conversion.conftest import Digits, Traced, no_heartbeat

pytestmark = [pytest.mark.convert, pytest.mark.light]

ON_REQUEST = [
    slug for slug, recipe in RECIPES.items() if recipe.family == "tflite" and recipe.on_request and recipe.base == TRACE
]
CLUSTERED = [slug for slug in ON_REQUEST if "cluster" in slug]
Variant = Callable[[str], tuple[Report, Path]]


@pytest.mark.parametrize("recipe", ON_REQUEST)
def test_every_recipe_on_request_agrees_with_its_source(variant: Variant, digits: Digits, recipe: str) -> None:
    report, _ = variant(recipe)
    assert report.state == "succeeded", (report.error, report.log_tail)
    assert report.parity.samples == 450
    assert abs(report.accuracy.value - digits.accuracy) <= 0.02


@pytest.mark.parametrize("recipe", ON_REQUEST)
def test_the_same_trace_gives_the_same_bytes(variant: Variant, traced: Traced, tmp_path: Path, recipe: str) -> None:
    again = run_recipe(
        recipe=recipe,
        trace=traced.directory,
        evaluation_set=traced.evaluation_set,
        output=tmp_path,
        on_heartbeat=no_heartbeat,
    )
    assert [(file.path, file.sha256) for file in again.files] == [
        (file.path, file.sha256) for file in variant(recipe)[0].files
    ]


@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        ("tflite-full-int8-float-io", "float32"),
        ("tflite-full-uint8", "uint8"),
        ("tflite-weight-int4", "float32"),
        ("tflite-cluster-16", "float32"),
    ],
)
def test_inputs_and_outputs_have_the_type_that_the_recipe_promises(variant: Variant, recipe: str, dtype: str) -> None:
    signature = variant(recipe)[0].signature
    assert {tensor.dtype for tensor in (*signature.inputs, *signature.outputs)} == {dtype}


def test_uint8_says_exactly_what_int8_says(variant: Variant) -> None:
    signed, unsigned = variant("tflite-full-int8")[0], variant("tflite-full-uint8")[0]
    assert unsigned.parity == signed.parity
    for before, after in zip(signed.signature.inputs, unsigned.signature.inputs, strict=True):
        assert after.name == before.name
        assert after.quantization.scale == before.quantization.scale
        assert after.quantization.zero_point == before.quantization.zero_point + 128


def test_four_bits_are_smaller_than_eight_and_eight_than_thirty_two(variant: Variant) -> None:
    sizes = {slug: variant(slug)[0].size_bytes for slug in ("tflite-float32", "tflite-dynamic-int8", *ON_REQUEST)}
    assert sizes["tflite-dynamic-int4"] < 0.65 * sizes["tflite-dynamic-int8"]
    assert sizes["tflite-weight-int4"] < 0.65 * sizes["tflite-weight-int8"]
    assert sizes["tflite-dynamic-int4"] <= sizes["tflite-mixed-int8-int4"] < sizes["tflite-dynamic-int8"]
    for slug in ON_REQUEST:
        assert sizes[slug] <= (RECIPES[slug].expected_size_ratio + 0.01) * sizes["tflite-float32"]


@pytest.mark.parametrize("recipe", CLUSTERED)
def test_a_clustered_variant_is_as_long_as_before_and_smaller_when_compressed(variant: Variant, recipe: str) -> None:
    from registry.conversion.worker.tflite_weights import weights_of

    plain = variant("tflite-dynamic-int8" if recipe.endswith("int8") else "tflite-float32")[0]
    report, output = variant(recipe)
    assert report.size_bytes == plain.size_bytes
    assert report.compressed_size_bytes < 0.95 * plain.compressed_size_bytes
    clusters = RECIPES[recipe].parameters["clusters"]
    found = list(weights_of((output / "model.tflite").read_bytes()))
    assert len(found) == 6
    for weights in found:
        rows = np.moveaxis(weights.values, weights.channel_axis, 0) if recipe.endswith("int8") else [weights.values]
        assert max(len(np.unique(row)) for row in rows) <= clusters
    assert any("distinct values" in note for note in report.notes)
