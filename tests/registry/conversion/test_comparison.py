import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.comparison import compare
from registry.conversion.measures import accuracy, encoded
from registry.conversion.report import HostLatency, Outcomes, Parity, ProducedFile, Report, not_applicable

SAMPLES = "ab" * 32


def report(metric: str, output: np.ndarray, labels: np.ndarray, *, size: int = 100, samples: str = SAMPLES) -> Report:
    found, outcome = accuracy(metric, output, labels, None, "y")
    return Report(
        state="succeeded",
        files=(ProducedFile("model.tflite", "model", size, "cd" * 32),),
        parity=Parity(0.25, 0.1, 1.0, len(labels)),
        accuracy=found,
        accuracies=(found,),
        latency_host=HostLatency(200, 250, 50, 1, "x86, relative"),
        compressed_size_bytes=size // 2,
        outcomes=Outcomes(samples, {"y": encoded(metric, outcome)}),
    )


LABELS = np.zeros(20, np.int64)


def hits(right: list[bool]) -> np.ndarray:
    """Scores of two classes, the first of them where it is right."""
    return np.array([[1.0, 0.0] if hit else [0.0, 1.0] for hit in right])


def test_the_same_samples_are_compared_in_pairs() -> None:
    """Of 20 the older hits 18, the newer 14: 5 lost and 1 won."""
    older = report("accuracy", hits([True] * 18 + [False] * 2), LABELS, size=100)
    newer = report("accuracy", hits([False] * 5 + [True] * 13 + [True, False]), LABELS, size=60)
    newer = replace(newer, latency_host=replace(newer.latency_host, p50_us=300), parity=Parity(0.5, 0.1, 1.0, 20))
    (row,) = compare({"tflite-float32": older}, {"tflite-float32": newer})
    difference = row.difference
    assert (difference.size_bytes, difference.compressed_size_bytes, difference.latency_ratio) == (-40, -20, 1.5)
    assert difference.max_abs_error == 0.25
    (lost,) = difference.lost
    assert (lost.metric, lost.output, lost.is_paired) == ("accuracy", "y", True)
    assert lost.lost == pytest.approx(0.2)
    assert lost.p_value == pytest.approx(2 * (1 + 6) / 2**6)
    assert lost.low < 0.2 < lost.high


def test_other_samples_are_compared_as_independent_ones() -> None:
    older = report("accuracy", hits([True] * 18 + [False] * 2), LABELS)
    newer = report("accuracy", hits([True] * 14 + [False] * 6), LABELS, samples="ef" * 32)
    (lost,) = compare({"r": older}, {"r": newer})[0].difference.lost
    assert (lost.is_paired, lost.p_value) == (False, None)
    assert lost.lost == pytest.approx(0.2)
    assert lost.low < 0 < lost.high


def test_errors_of_independent_samples_add_their_variances() -> None:
    targets = np.zeros(4)
    older = report("mse", np.array([[1.0], [2.0], [1.0], [2.0]]), targets)
    newer = report("mse", np.array([[2.0], [3.0], [2.0], [3.0]]), targets, samples="ef" * 32)
    (lost,) = compare({"r": older}, {"r": newer})[0].difference.lost
    half = 1.959964 * np.sqrt(3 / 4 + (25 / 3) / 4)
    assert (lost.lost, lost.low, lost.high) == pytest.approx((4.0, 4 - half, 4 + half), abs=1e-4)


def test_errors_of_the_same_samples_are_paired() -> None:
    targets = np.zeros(4)
    older = report("mae", np.array([[1.0], [2.0], [3.0], [4.0]]), targets)
    newer = report("mae", np.array([[2.0], [3.0], [4.0], [5.0]]), targets)
    (lost,) = compare({"r": older}, {"r": newer})[0].difference.lost
    assert (lost.lost, lost.low, lost.high, lost.is_paired, lost.p_value) == (1.0, 1.0, 1.0, True, None)


def test_what_only_one_version_has_stands_alone() -> None:
    only = report("accuracy", hits([True] * 20), LABELS)
    rows = compare({"old": only, "both": only}, {"new": only, "both": not_applicable("needs samples")})
    assert [(row.recipe, row.older is None, row.newer is None) for row in rows] == [
        ("old", False, True),
        ("both", False, False),
        ("new", True, False),
    ]
    assert [row.difference for row in rows] == [None, None, None]
    assert rows[1].newer.state == "not_applicable"


def test_a_report_of_before_outcomes_were_kept_is_compared_unpaired() -> None:
    now = report("accuracy", hits([True] * 20), LABELS)
    before = Report.from_json({k: v for k, v in now.to_json().items() if k not in {"outcomes", "accuracies"}})
    (lost,) = compare({"r": before}, {"r": now})[0].difference.lost
    assert (lost.is_paired, lost.lost) == (False, 0.0)


def test_another_metric_is_not_compared() -> None:
    one = report("accuracy", hits([True] * 20), LABELS)
    other = report("top5", hits([True] * 20), LABELS)
    assert compare({"r": one}, {"r": other})[0].difference.lost == ()


@given(st.lists(st.booleans(), min_size=20, max_size=20), st.lists(st.booleans(), min_size=20, max_size=20))
def test_rows_are_plain_json_and_turning_the_versions_round_turns_the_sign(one: list[bool], other: list[bool]) -> None:
    older, newer = report("accuracy", hits(one), LABELS), report("accuracy", hits(other), LABELS)
    (row,), (back,) = compare({"r": older}, {"r": newer}), compare({"r": newer}, {"r": older})
    json.dumps(row.to_json(), allow_nan=False)
    assert row.difference.lost[0].lost == pytest.approx(-back.difference.lost[0].lost)
    assert row.difference.lost[0].low == pytest.approx(-back.difference.lost[0].high)
