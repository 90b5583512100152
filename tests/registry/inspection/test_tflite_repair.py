"""The one defect that is mended, on files with it and without."""

from pathlib import Path

import pytest

from registry.inspection import InspectionError
from registry.inspection.tflite_file import inspect_tflite
from registry.inspection.tflite_repair import repaired_axes
from tests.registry.inspection.builders import ModelPlan, TensorPlan


def planned(folder: Path, shape: tuple[int, ...], axis: int, scales: int = 4) -> Path:
    plan = ModelPlan()
    plan.tensors[1] = TensorPlan("w", shape, buffer=1, scales=(0.5,) * scales, axis=axis)
    path = folder / "model.tflite"
    path.write_bytes(plan.build())
    return path


def test_the_only_possible_axis_is_set_and_nothing_else(tmp_path: Path) -> None:
    path = planned(tmp_path, (1, 4), axis=3)
    before = path.read_bytes()
    after = repaired_axes(path)
    assert len(after) == len(before)
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1
    path.write_bytes(after)
    assert not inspect_tflite(path).details["warnings"]


def test_a_sound_file_stays_as_it_is(tmp_path: Path) -> None:
    path = planned(tmp_path, (1, 4), axis=0)
    assert repaired_axes(path) == path.read_bytes()


@pytest.mark.parametrize("shape", [(2, 2), (4, 1)])
def test_where_it_cannot_be_told_the_file_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InspectionError, match="one axis of 'w' with 2 entries"):
        repaired_axes(planned(tmp_path, shape, axis=3, scales=2))
