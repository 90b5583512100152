"""Six ways in which a converter gives a bad file without an error, each with a real file, each caught by name."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from registry.conversion.report import Report
from registry.conversion.runner import RECIPE_LIMITS, run_recipe, run_trace
from registry.conversion.supervision import supervise
from registry.conversion.worker.job import Job
from tests.registry.conversion.conftest import no_heartbeat

pytestmark = pytest.mark.convert

Verified = Callable[[str, str], Report]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("silent")
    program = Path(__file__).with_name("make_silent_failures.py")
    done = subprocess.run([sys.executable, program, folder], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def trace(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trace")
    report = run_trace(
        source=made / "network.keras",
        source_format="keras",
        evaluation_set=None,
        output=output,
        on_heartbeat=no_heartbeat,
    )
    assert report.state == "succeeded", (report.error, report.log_tail)
    return output


@pytest.fixture
def verified(made: Path, trace: Path, tmp_path: Path) -> Verified:
    """The verifier's report of a file that a converter claims to have made by a recipe."""

    def verify(name: str, recipe: str) -> Report:
        entry = tmp_path / ("model.mlpackage" if name.endswith(".mlpackage") else "model.tflite")
        (shutil.copytree if entry.suffix == ".mlpackage" else shutil.copyfile)(made / name, entry)

        def job(scratch: Path) -> Job:
            return Job(step="verify", output=tmp_path, scratch=scratch, recipe=recipe, trace=trace)

        return supervise(job, limits=RECIPE_LIMITS, on_heartbeat=no_heartbeat)

    return verify


@pytest.mark.parametrize(
    ("name", "recipe", "code", "detail"),
    [
        # Of from_concrete_functions([function], keras_model): XNNPACK even runs it, on whatever memory holds.
        ("empty.tflite", "tflite-float32", "empty_model", "VAR_HANDLE"),
        # 16-bit activations with 8-bit weights overflow in a depthwise convolution of small weights.
        ("not_allocating.tflite", "tflite-float32", "does_not_allocate", "DEPTHWISE_CONV_2D"),
        # Sparse and quantised: the default delegate gives up, and with it the interpreter every phone uses.
        ("sparse.tflite", "tflite-dynamic-int8", "delegate_refused", "failed to delegate"),
        # Groups of sixteen do not divide a thousand classes, where most weights lie: skipped with a line in a log.
        ("palette_skipped.mlpackage", "coreml-lut-4-grouped", "not_compressed", "expected a file well below"),
        ("int8.tflite", "tflite-dynamic-int8", "wrong_signature", "of float32 (1, 16, 16, 1); got int8"),
        ("float16_features.mlpackage", "coreml-fp16", "wrong_signature", "of float32 (1, 16, 16, 1); got float16"),
    ],
)
def test_a_file_that_is_no_good_fails_by_name(
    verified: Verified, name: str, recipe: str, code: str, detail: str
) -> None:
    report = verified(name, recipe)
    assert (report.state, report.error.code) == ("failed", code), (report.error, report.log_tail)
    assert detail in report.error.detail


def test_a_variant_slower_than_float32_is_published_and_says_so(verified: Verified) -> None:
    """16-bit activations: seen 11 to 19 times as slow. Bytes may be worth it, so it is no error."""
    report = verified("slow.tflite", "tflite-dynamic-int8")
    assert report.state == "succeeded", (report.error, report.log_tail)
    assert report.speed_ratio > 1.5
    assert f"slower than float32 on this host: {report.speed_ratio:.1f}×" in report.notes


def test_the_same_network_converted_well_passes(trace: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", image=np.random.default_rng(0).random((20, 16, 16, 1), np.float32))
    for recipe in ("tflite-float32", "tflite-full-int8"):
        report = run_recipe(
            recipe=recipe,
            trace=trace,
            evaluation_set=tmp_path / "set.npz",
            output=tmp_path / recipe,
            on_heartbeat=no_heartbeat,
        )
        assert report.state == "succeeded", (recipe, report.error, report.log_tail)
