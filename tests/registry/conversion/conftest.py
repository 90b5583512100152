"""The digits network, trained and traced once per session, and variants built once per recipe."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.conversion.report import Report
from registry.conversion.runner import run_recipe, run_trace


@dataclass(frozen=True)
class Digits:
    keras: Path
    saved_model: Path
    evaluation_set: Path
    training_set: Path
    accuracy: float


@dataclass(frozen=True)
class Traced:
    directory: Path
    report: Report
    evaluation_set: Path | None


def no_heartbeat(*_: object) -> None:
    pass


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    folder = tmp_path_factory.mktemp("digits")
    program = Path(__file__).with_name("train_digits.py")
    done = subprocess.run([sys.executable, program, folder], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    accuracy = float((folder / "accuracy.txt").read_text())
    return Digits(
        folder / "digits.keras", folder / "digits.zip", folder / "evaluation.npz", folder / "training.npz", accuracy
    )


@pytest.fixture(scope="session")
def traced(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    output = tmp_path_factory.mktemp("trace")
    report = run_trace(
        source=digits.keras,
        source_format="keras",
        evaluation_set=digits.evaluation_set,
        output=output,
        on_heartbeat=no_heartbeat,
    )
    assert report.state == "succeeded", report
    return Traced(output, report, digits.evaluation_set)


@pytest.fixture(scope="session")
def variant(traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Report, Path]]:
    """recipe -> (report, output directory), each built once."""
    built: dict[str, tuple[Report, Path]] = {}

    def build(recipe: str) -> tuple[Report, Path]:
        if recipe not in built:
            output = tmp_path_factory.mktemp(recipe)
            report = run_recipe(
                recipe=recipe,
                trace=traced.directory,
                evaluation_set=traced.evaluation_set,
                output=output,
                on_heartbeat=no_heartbeat,
            )
            built[recipe] = report, output
        return built[recipe]

    return build
