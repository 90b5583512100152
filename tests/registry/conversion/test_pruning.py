"""Which weights go, and a real network pruned and trained on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from registry.conversion.recipes import TRACES
from registry.conversion.report import Report
from registry.conversion.runner import run_recipe, run_trace
from registry.conversion.worker.pruning import magnitude_mask, ramp, sparsity_of
from tests.registry.conversion.conftest import Digits, Traced, no_heartbeat

WEIGHTS = arrays.arrays(np.float32, st.integers(1, 80), elements=st.floats(-9, 9, width=32))


@given(WEIGHTS, st.integers(0, 100))
def test_exactly_the_asked_share_of_the_smallest_weights_goes(weights: np.ndarray, percent: int) -> None:
    kept = magnitude_mask(weights, percent / 100)
    assert int(np.sum(~kept)) == round(percent / 100 * weights.size)
    if kept.any() and not kept.all():
        assert np.abs(weights[~kept]).max() <= np.abs(weights[kept]).min()


def test_of_equal_weights_the_first_go() -> None:
    kept = magnitude_mask(np.ones((2, 5_000), np.float32), 0.5)
    assert not kept[0].any()
    assert kept[1].all()


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_ramp_rises_from_nothing_to_its_end(final: float, first: float, second: float) -> None:
    assert ramp(final, 0) == 0
    assert ramp(final, 1) == ramp(final, 7) == final
    assert ramp(final, min(first, second)) <= ramp(final, max(first, second)) <= final


def test_sparsity_is_a_share_of_all_entries() -> None:
    assert sparsity_of([np.array([0.0, 1.0]), np.zeros(2)]) == 0.75


def prune(trace: str, digits: Digits, traced: Traced, output: Path, training_set: Path | None) -> Report:
    return run_trace(
        trace=trace,
        source=digits.keras,
        source_format="keras",
        evaluation_set=digits.evaluation_set,
        training_set=training_set,
        main=traced.directory,
        output=output,
        on_heartbeat=no_heartbeat,
    )


@pytest.fixture(scope="module")
def pruned(digits: Digits, traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """(report of the trace at 80 %, what it wrote laid over the main trace's files)."""
    output, merged = tmp_path_factory.mktemp("pruned"), tmp_path_factory.mktemp("merged")
    report = prune("trace-prune-80", digits, traced, output, digits.training_set)
    assert report.state == "succeeded", (report.error, report.log_tail)
    shutil.copytree(traced.directory, merged, dirs_exist_ok=True)
    shutil.copytree(output, merged, dirs_exist_ok=True)
    return report, merged


@pytest.mark.convert
@pytest.mark.light
@pytest.mark.parametrize(("recipe", "compressed"), [("tflite-prune-80", 0.35), ("tflite-prune-80-dynamic-int8", 0.12)])
def test_a_pruned_network_is_sparse_small_when_compressed_and_still_right(
    pruned: tuple[Report, Path],
    variant: Callable[[str], tuple[Report, Path]],
    digits: Digits,
    tmp_path: Path,
    recipe: str,
    compressed: float,
) -> None:
    _, merged = pruned
    report = run_recipe(
        recipe=recipe, trace=merged, evaluation_set=digits.evaluation_set, output=tmp_path, on_heartbeat=no_heartbeat
    )
    assert report.state == "succeeded", (report.error, report.log_tail)
    assert report.accuracy.value >= digits.accuracy - 0.02
    assert any("tensors pruned to 80%" in note for note in report.notes)
    assert report.compressed_size_bytes <= compressed * variant("tflite-float32")[0].size_bytes


@pytest.mark.convert
@pytest.mark.light
def test_the_trace_of_a_pruned_network_says_what_was_done_and_repeats_to_the_byte(
    pruned: tuple[Report, Path], digits: Digits, traced: Traced, tmp_path: Path
) -> None:
    report, _ = pruned
    assert any(note.startswith("80.0 % of the weights") for note in report.notes)
    assert any("fine-tuned over 6 epochs of 1347 samples towards its labels" in note for note in report.notes)
    written = {file.path for file in report.files}
    assert {"float32.tflite", "trace.json"} <= written
    assert written.isdisjoint({"golden.npz", "reference.npz"})
    again = prune("trace-prune-80", digits, traced, tmp_path, digits.training_set)
    assert [(file.path, file.sha256) for file in again.files] == [(file.path, file.sha256) for file in report.files]


@pytest.mark.convert
@pytest.mark.light
@pytest.mark.parametrize(("trace", "state"), [("trace-prune-50", "succeeded"), ("trace-prune-90", "failed")])
def test_without_a_training_set_half_of_the_weights_go_at_once_and_no_more(
    digits: Digits, traced: Traced, tmp_path: Path, trace: str, state: str
) -> None:
    report = prune(trace, digits, traced, tmp_path, None)
    assert report.state == state, (report.error, report.log_tail)
    assert TRACES[trace].needs_training_set == (state == "failed")
    if state == "failed":
        assert report.error.code == "no_training_set"
    else:
        assert any("without a training set" in note for note in report.notes)
