"""A small share of the campaign (python -m tests.hostile.campaign): readers name what they refuse, workers end."""

from itertools import islice
from pathlib import Path

import pytest

from tests.hostile.campaign import read_all, work_all
from tests.hostile.mutants import SUFFIXES, mutants, sound

READ, WORKED = 150, 4
SEED = 1


def some(file_format: str) -> list:
    if file_format == "tflite":
        pytest.importorskip("ai_edge_litert", reason="the schema's object interface comes with LiteRT (extra light)")
    return list(islice(mutants(file_format, [sound(file_format)], SEED), READ))


@pytest.mark.parametrize("file_format", SUFFIXES)
def test_a_seed_names_the_same_files_each_time(file_format: str) -> None:
    assert some(file_format) == some(file_format)


@pytest.mark.parametrize("file_format", SUFFIXES)
def test_every_damaged_file_is_read_or_refused_by_name_within_bounds(file_format: str, tmp_path: Path) -> None:
    figures, _ = read_all(some(file_format), SUFFIXES[file_format], tmp_path, 0)
    assert figures.findings == []
    assert figures.outcomes.total() == READ
    assert 0 < figures.outcomes["accepted"] < READ
    assert len(figures.outcomes) > 5


@pytest.mark.light
@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_damaged_files_that_inspection_accepts_end_in_a_report(file_format: str, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra light")
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    _, chosen = read_all(some(file_format), SUFFIXES[file_format], tmp_path, WORKED)
    figures = work_all(chosen, file_format, tmp_path)
    assert figures.findings == []
    assert figures.outcomes.total() == WORKED
