from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.evaluation_set import EvaluationSetError, dequantised, load_evaluation_set, quantised
from registry.conversion.report import Quantization, TensorSpec

IMAGE = TensorSpec("image", (1, 2, 2), "float32")
INT8 = TensorSpec("image", (1, 2, 2), "int8", Quantization(0.5, -10))


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


@pytest.mark.parametrize("name", ["image", "inputs"])
def test_arrays_are_found_by_the_inputs_name_or_as_the_only_input(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, **{name: np.ones((3, 2, 2), np.float32)}, labels=np.array([0, 1, 2]))
    found = load_evaluation_set(path, [IMAGE])
    assert found.inputs["image"].shape == (3, 2, 2)
    assert list(found.labels) == [0, 1, 2]


def test_labels_may_be_absent(tmp_path: Path) -> None:
    assert load_evaluation_set(saved(tmp_path, image=np.ones((3, 2, 2))), [IMAGE]).labels is None


def test_other_numbers_become_the_models_type_without_scaling(tmp_path: Path) -> None:
    path = saved(tmp_path, image=np.full((1, 2, 2), 200, np.uint8))
    assert load_evaluation_set(path, [IMAGE]).inputs["image"].tolist() == [[[200.0, 200.0], [200.0, 200.0]]]


def test_quantised_inputs_take_integers_as_they_are_and_quantise_real_values(tmp_path: Path) -> None:
    stored = load_evaluation_set(saved(tmp_path, image=np.full((1, 2, 2), 7, np.int8)), [INT8])
    assert stored.inputs["image"].max() == 7
    real = load_evaluation_set(saved(tmp_path, image=np.full((1, 2, 2), 8.5, np.float32)), [INT8])
    assert real.inputs["image"].dtype == np.int8
    assert real.inputs["image"].max() == 7
    with pytest.raises(EvaluationSetError, match="expected int8 or real values"):
        load_evaluation_set(saved(tmp_path, image=np.full((1, 2, 2), 200, np.uint8)), [INT8])


def test_a_large_set_is_thinned_evenly(tmp_path: Path) -> None:
    path = saved(tmp_path, image=np.arange(40, dtype=np.float32).reshape(10, 2, 2), labels=np.arange(10))
    assert list(load_evaluation_set(path, [IMAGE], limit=5).labels) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": np.ones((3, 2, 2))}, "named as the model's inputs"),
        ({"image": np.ones((3, 4, 2))}, "expected shape"),
        ({"image": np.ones((3, 2, 2)), "labels": np.zeros(2, np.int64)}, "same number of samples"),
        ({"image": np.ones((3, 2, 2)), "labels/y": np.zeros(2)}, "'labels/y': 2"),
        ({"image": np.ones((3, 2, 2)), "labels": np.full(3, np.nan)}, "finite labels"),
        ({"image": np.ones((0, 2, 2))}, "at least 1"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(EvaluationSetError, match=message):
        load_evaluation_set(saved(tmp_path, **arrays), [IMAGE])


@given(st.integers(-128, 127))
def test_quantising_undoes_dequantising(stored: int) -> None:
    array = np.array([stored], np.int8)
    assert quantised(dequantised(array, INT8), INT8) == array


@given(st.floats(-1e6, 1e6))
def test_values_beyond_the_type_are_clipped(value: float) -> None:
    (stored,) = quantised(np.array([value]), INT8)
    real = dequantised(np.array([stored], np.int8), INT8)[0]
    assert abs(real - np.clip(value, -59, 68.5)) <= 0.25 + 1e-6
