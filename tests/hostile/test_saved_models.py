"""Real SavedModels that read, write and list files: refused by their operations, and contained without that look."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from registry.conversion import supervision
from registry.conversion.report import Report
from registry.conversion.runner import run_trace

pytestmark = [pytest.mark.chaos, pytest.mark.convert]
OPERATIONS = ["ReadFile", "WriteFile", "MatchingFiles"]


@dataclass(frozen=True)
class Hostile:
    models: Path
    secret: Path
    forbidden: Path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    folder = tmp_path_factory.mktemp("hostile")
    secret = folder / "keys" / "targets.pem"
    secret.parent.mkdir()
    secret.write_text("a secret of thirty characters!")
    secret.chmod(0o666)
    found = Hostile(folder / "models", secret, folder / "forbidden")
    program = Path(__file__).with_name("saved_models.py")
    arguments = [sys.executable, program, found.models, found.secret, found.forbidden]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return found


def trace(hostile: Hostile, operation: str, output: Path) -> Report:
    return run_trace(
        source=hostile.models / operation,
        source_format="saved_model",
        evaluation_set=None,
        output=output,
        on_heartbeat=lambda _: None,
        workspace=output.parent,
    )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_on_files_is_refused_by_its_name(hostile: Hostile, tmp_path: Path, operation: str) -> None:
    report = trace(hostile, operation, tmp_path / "output")
    assert report.error is not None
    assert (report.state, report.error.code) == ("failed", "tensorflow_operation")
    assert operation in report.error.detail


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_on_files_comes_to_nothing(
    hostile: Hostile, tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "WORKER_MODULE", "tests.hostile.unguarded_worker")
    output = tmp_path / "output"
    report = trace(hostile, operation, output)
    if any(note.startswith("ran without") for note in report.notes):
        pytest.skip(f"this kernel isolates less: {report.notes}")
    assert not hostile.forbidden.exists()
    assert list(tmp_path.iterdir()) == [output]
    if operation == "MatchingFiles":  # it finds nothing, which is no error
        assert sees_no_file(report, output)
    else:
        assert report.state == "failed", report
        assert report.error is not None
        assert operation in report.error.detail + report.log_tail


def sees_no_file(report: Report, output: Path) -> bool:
    """Whether y was x: each file it had found would have added one to it."""
    if report.state != "succeeded":
        return operation_named(report)
    with np.load(output / "golden.npz") as golden, np.load(output / "reference.npz") as reference:
        (inputs,) = (golden[name] for name in golden.files)
        (outputs,) = (reference[name] for name in reference.files if name.startswith("golden/"))
        return bool(np.allclose(outputs.reshape(inputs.shape), inputs))


def operation_named(report: Report) -> bool:
    return report.error is not None and "MatchingFiles" in report.error.detail + report.log_tail
