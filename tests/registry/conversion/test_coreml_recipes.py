"""The Core ML family: every recipe built from one traced network, twice in processes of their own, and evaluated."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from registry.conversion.measures import parity_misses
from registry.conversion.recipes import RECIPES
from registry.conversion.report import Parity
from registry.conversion.runner import run_recipe, run_trace
from registry.conversion.worker.trace_files import Trace
from registry.inspection.coreml_file import inspect_coreml
from tests.registry.conversion.conftest import Digits, Traced, no_heartbeat

pytestmark = [pytest.mark.convert, pytest.mark.light]

COMPRESSED = [slug for slug, recipe in RECIPES.items() if recipe.step == "compress_coreml"]
FROM_MAIN = ["coreml-fp16", *(slug for slug in COMPRESSED if RECIPES[slug].base == "trace")]
# coremltools imports it where it is installed, and then has a limit of its own on what it translates.
WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules["tensorflow"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
Found = Mapping[str, Mapping[str, Any]]


def printed(program: str, *arguments: object, hash_seed: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, str(Path(__file__).with_name(program)), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize(("step", "loaded"), [("optimise", []), ("trace", ["tensorflow"])])
def test_the_converter_loads_nothing_that_it_only_takes_where_it_finds_it(step: str, loaded: list[str]) -> None:
    program = f"""
        import json, sys
        from registry.conversion.worker import __main__ as worker
        worker.spare_imports({step!r})
        import coremltools
        found = ["matplotlib", "pandas", "sklearn", "tensorflow"]
        print(json.dumps([name for name in found if sys.modules.get(name)]))
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=300, check=True, env=environment
    )
    assert json.loads(done.stdout.splitlines()[-1]) == loaded


@pytest.fixture(scope="module")
def built(traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("coreml")
    return printed("build_coreml.py", traced.directory, traced.evaluation_set, folder, *FROM_MAIN)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("cases")
    return printed("make_coreml_cases.py", folder), folder


@pytest.mark.parametrize("slug", FROM_MAIN)
def test_a_recipe_keeps_the_interface_and_what_its_row_promises(built: Found, slug: str) -> None:
    recipe, found = RECIPES[slug], built[slug]
    near = Parity(found["max"], found["mean"], found["agreement"], 450)
    assert parity_misses(near, recipe.parity, magnitude=1.0, on_evaluation_set=True) == []
    assert found["types"] == ["float32"]
    assert found["ios"] == recipe.min_runtime_version
    assert found["compressed"] == [slug in COMPRESSED] * 4


@pytest.mark.parametrize("slug", [slug for slug in FROM_MAIN if slug in COMPRESSED])
def test_weights_decode_as_coremltools_decodes_them(built: Found, slug: str) -> None:
    assert built[slug]["decompressed"] <= 1e-6


def test_the_same_trace_gives_the_same_bytes_in_another_process(built: Found, traced: Traced, tmp_path: Path) -> None:
    few = traced.evaluation_set
    again = printed("build_coreml.py", traced.directory, few, tmp_path, *FROM_MAIN, hash_seed=7)
    assert {slug: found["digest"] for slug, found in again.items()} == {s: f["digest"] for s, f in built.items()}


def test_fewer_bits_are_fewer_bytes(built: Found) -> None:
    sizes = [
        built[f"coreml-{name}"]["bytes"] for name in ("fp16", "lut-8", "lut-6", "lut-4", "lut-3", "lut-2", "lut-1")
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert built["coreml-lut-4"]["accuracy"] > built["coreml-lut-1"]["accuracy"]


def test_weights_left_alone_are_told(built: Found) -> None:
    assert built["coreml-lut-4"]["notes"] == ["2 weights of at most 512 values (0.6%) stay as they were"]


def test_a_pruned_trace_is_stored_sparse_and_by_table(traced: Traced, tmp_path: Path) -> None:
    pruned = tmp_path / "pruned"
    shutil.copytree(traced.directory, pruned)
    printed("prune_coreml.py", pruned / "fp16.mlpackage")
    slug = "coreml-prune-75-lut-4"
    found = printed("build_coreml.py", pruned, traced.evaluation_set, tmp_path / "out", slug)[slug]
    assert found["compressed"] == [True] * 4
    assert found["decompressed"] <= 1e-6
    assert found["ios"] == "18.0"
    assert found["bytes"] < 0.3 * sum(p.stat().st_size for p in pruned.joinpath("fp16.mlpackage").rglob("*.bin"))


@pytest.mark.parametrize(
    ("case", "code", "said"),
    [
        ("skipped", "not_compressed", "linear_0_weight_0_to_fp16 [1000, 128]"),
        ("small weights", "not_applicable", "more than 512 values"),
        ("nothing pruned", "not_pruned", "zero for the most part"),
        ("float16 interface", "coreml_signature", "expected float32 inputs; got float16 for x"),
        ("other version", "specification_version", "expected specification version 7; got 9"),
        ("unknown operation", "unknown_operation", "got non_zero"),
    ],
)
def test_what_passes_without_an_error_elsewhere_is_caught(cases: Any, case: str, code: str, said: str) -> None:
    ended = cases[0][case]
    assert ended["code"] == code
    assert said in ended["detail"]


@pytest.mark.parametrize("case", ["thousand classes", "a prime of classes", "other axes, groups", "other axes, blocks"])
def test_group_and_block_sizes_fit_each_weight(cases: Any, case: str) -> None:
    assert set(cases[0][case].values()) == {True}


METADATA = {
    "name": "Digits",
    "description": "Handwritten digits",
    "version": "3",
    "author": "The makers",
    "license": "MIT",
    "labels": [str(digit) for digit in range(10)],
    "inputs": {"image": {"description": "one digit", "content": "image", "mean": [0], "std": [255]}},
    "outputs": {"probabilities": {"description": "of each digit"}},
}


@pytest.fixture(scope="module")
def ready(traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The traced package, as its maker would register it, adopted."""
    folder = tmp_path_factory.mktemp("ready")
    source = shutil.make_archive(str(folder / "package"), "zip", traced.directory, "fp16.mlpackage")
    output = folder / "trace"
    report = run_trace(
        source=Path(source),
        source_format="coreml",
        evaluation_set=traced.evaluation_set,
        output=output,
        on_heartbeat=no_heartbeat,
    )
    assert report.state == "succeeded", (report.error, report.log_tail)
    return output


def test_a_ready_package_is_published_as_it_is_with_what_the_version_says_of_itself(
    ready: Path, traced: Traced, tmp_path: Path
) -> None:
    metadata = tmp_path / "metadata.json"
    metadata.write_text(json.dumps(METADATA), "utf-8")
    report = run_recipe(
        recipe="coreml-as-is",
        trace=ready,
        evaluation_set=traced.evaluation_set,
        metadata=metadata,
        output=tmp_path / "out",
        on_heartbeat=no_heartbeat,
    )
    assert report.state == "succeeded", (report.error, report.log_tail)
    assert report.min_runtime_version == "16.0"
    assert report.parity.max_abs_error == 0
    package = tmp_path / "out" / report.entry
    weights = "Data/com.apple.CoreML/weights/weight.bin"
    assert (package / weights).read_bytes() == (traced.directory / "fp16.mlpackage" / weights).read_bytes()
    assert {path.stat().st_mode & 0o777 for path in package.rglob("*") if path.is_file()} == {0o644}
    spec = printed("read_coreml.py", package)
    assert {key: spec[key] for key in ("description", "version", "author", "license")} == {
        key: METADATA[key] for key in ("description", "version", "author", "license")
    }
    assert json.loads(spec["user_defined"]["labels"]) == METADATA["labels"]
    assert json.loads(spec["user_defined"]["normalization"])["image"]["std"] == [255.0]
    assert spec["features"] == {"image": "one digit", "probabilities": "of each digit"}
    assert inspect_coreml(package).metadata["author"] == "The makers"


def test_a_kind_of_model_nothing_here_runs_is_published_unevaluated(cases: Any, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    traced = run_trace(
        source=cases[1] / "network.mlmodel",
        source_format="coreml",
        evaluation_set=None,
        output=trace,
        on_heartbeat=no_heartbeat,
    )
    assert traced.state == "succeeded", (traced.error, traced.log_tail)
    assert "kind neuralNetwork" in Trace.read(trace).not_evaluated
    reports = [
        run_recipe(recipe=slug, trace=trace, evaluation_set=None, output=tmp_path / slug, on_heartbeat=no_heartbeat)
        for slug in ("coreml-as-is", "coreml-lut-4")
    ]
    assert [report.state for report in reports] == ["succeeded", "not_applicable"]
    assert reports[0].parity is None
    assert reports[0].min_runtime_version == "15.0"
    assert any(note.startswith("not evaluated on Linux") for note in reports[0].notes)
    assert inspect_coreml(tmp_path / "coreml-as-is" / reports[0].entry).details["model_type"] == "neuralNetwork"


def test_float32_programs_are_traced_for_the_oldest_system(traced: Traced, digits: Digits, tmp_path: Path) -> None:
    output = tmp_path / "trace"
    report = run_trace(
        trace="trace-coreml-fp32",
        source=digits.keras,
        source_format="keras",
        evaluation_set=digits.evaluation_set,
        main=traced.directory,
        output=output,
        on_heartbeat=no_heartbeat,
    )
    assert report.state == "succeeded", (report.error, report.log_tail)
    shutil.copytree(traced.directory, tmp_path / "both")
    shutil.copytree(output, tmp_path / "both", dirs_exist_ok=True)
    found = printed("build_coreml.py", tmp_path / "both", traced.evaluation_set, tmp_path / "out", "coreml-fp32")
    assert found["coreml-fp32"]["max"] < 1e-5
    assert found["coreml-fp32"]["ios"] == "15.0"
    assert np.isclose(found["coreml-fp32"]["bytes"], 4 * 74_000, rtol=0.2)
