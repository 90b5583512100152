import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.report import (
    STATES,
    Accuracy,
    Failure,
    HostLatency,
    Outcomes,
    Parity,
    ProducedFile,
    Quantization,
    Report,
    ReportError,
    Signature,
    TensorSpec,
    merged,
    not_applicable,
)

FULL = Report(
    state="succeeded",
    seconds=1.5,
    peak_memory_bytes=2**30,
    files=(ProducedFile("model.tflite", "model", 10, "ab"), ProducedFile("sanity.json", "sanity", 5, "cd")),
    entry="model.tflite",
    converter_versions={"keras": "3.15.1"},
    parity=Parity(0.1, 0.01, None, 8),
    accuracy=Accuracy("accuracy", 0.9, 0.91, 100, 0.85, 0.95),
    latency_host=HostLatency(10, 12, 50, 1, "x86, relative"),
    signature=Signature(
        (TensorSpec("image", (1, 4), "int8", Quantization(0.5, -1)),), (TensorSpec("y", (1,), "float32"),)
    ),
    min_runtime_version="16.0",
    error=Failure("code", "detail"),
    log_tail="log",
    notes=("a", "b"),
    accuracies=(Accuracy("mse", 0.9, 0.8, 100, 0.85, 0.95, 0.1, 0.05, 0.15, None, "y"),),
    latencies=(HostLatency(20, 22, 50, 2, "x86, relative", xnnpack=False, p99_us=30),),
    compressed_size_bytes=8,
    inference_memory_bytes=4096,
    speed_ratio=1.8,
    outcomes=Outcomes("ab" * 32, {"y": "gA=="}),
)


def test_a_report_survives_json() -> None:
    assert Report.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL


def test_the_json_holds_plain_values_under_the_agreed_names() -> None:
    data = json.loads(json.dumps(FULL.to_json()))
    assert set(data) == {
        "state", "seconds", "peak_memory_bytes", "files", "entry", "converter_versions", "parity", "accuracy",
        "latency_host", "signature", "min_runtime_version", "error", "log_tail", "notes", "accuracies", "latencies",
        "compressed_size_bytes", "inference_memory_bytes", "speed_ratio", "outcomes",
    }  # fmt: skip
    assert data["signature"]["inputs"][0]["quantization"] == {"scale": 0.5, "zero_point": -1}
    assert data["files"][0] == {"path": "model.tflite", "role": "model", "size_bytes": 10, "sha256": "ab"}
    assert data["parity"]["top1_agreement"] is None


def test_a_report_written_before_a_member_existed_still_reads() -> None:
    old = {"state": "succeeded", "accuracy": asdict(FULL.accuracy), "latency_host": asdict(FULL.latency_host)}
    for later in ("lost", "lost_low", "lost_high", "p_value", "output"):
        del old["accuracy"][later]
    del old["latency_host"]["xnnpack"], old["latency_host"]["p99_us"]
    read = Report.from_json(old)
    assert (read.accuracy, read.latency_host, read.latencies) == (FULL.accuracy, FULL.latency_host, ())
    assert (read.compressed_size_bytes, read.speed_ratio, read.outcomes) == (None, None, None)


def test_the_size_of_a_variant_is_what_a_phone_stores() -> None:
    assert FULL.size_bytes == 10


@given(st.sampled_from(STATES), st.lists(st.text(max_size=5)), st.floats(0, 1e6))
def test_states_and_notes_survive_json(state: str, notes: list[str], seconds: float) -> None:
    report = Report(state=state, notes=tuple(notes), seconds=seconds)
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


@pytest.mark.parametrize(
    "damage",
    [{"state": "splendid"}, {"colour": 1}, {"files": [{"path": "x"}]}, {"error": {"code": "x"}}, {"signature": {}}],
)
def test_what_is_no_report_is_refused(damage: dict) -> None:
    with pytest.raises(ReportError, match="expected"):
        Report.from_json({**FULL.to_json(), **damage})


def test_two_processes_make_one_report() -> None:
    built = replace(FULL, seconds=2.0, peak_memory_bytes=3, files=FULL.files[:1], accuracy=None, notes=("built",))
    checked = Report("parity_missed", 1.0, 7, FULL.files[1:], notes=("checked",), error=Failure("parity_missed", "far"))
    both = merged(built, checked)
    assert (both.state, both.seconds, both.peak_memory_bytes, both.notes) == (
        "parity_missed",
        3.0,
        7,
        ("built", "checked"),
    )
    assert both.files == FULL.files
    assert (both.entry, both.signature, both.error.detail) == ("model.tflite", FULL.signature, "far")


def test_a_recipe_planned_away_has_a_report_with_the_reason() -> None:
    report = not_applicable("needs samples")
    assert (report.state, report.error.detail, report.files) == ("not_applicable", "needs samples", ())
