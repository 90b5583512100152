"""What the verifier measures and refuses, with models that are plain functions."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.evaluation_set import EvaluationSet, load_evaluation_set
from registry.conversion.recipes import RECIPES
from registry.conversion.report import Quantization, Signature, TensorSpec
from registry.conversion.worker import footprint, latency
from registry.conversion.worker.footprint import Growth, compressed_bytes
from registry.conversion.worker.job import WorkerError
from registry.conversion.worker.measured import evaluated
from registry.conversion.worker.promises import require_compressed, require_signature
from registry.conversion.worker.trace_files import batched, require_sensible, require_stateless
from registry.conversion.worker.verify import write_sanity

INPUTS = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}
SOURCE = Signature((TensorSpec("x", (1, 2), "float32"),), (TensorSpec("y", (1, 3), "float32"),))


def with_types(dtype: str, quantization: Quantization | None = None) -> Signature:
    return Signature(*(tuple(replace(s, dtype=dtype, quantization=quantization) for s in side) for side in (
        SOURCE.inputs, SOURCE.outputs,
    )))  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "dtype"),
    [
        ("tflite-float32", "float32"),
        ("tflite-full-int8", "int8"),
        ("tflite-full-int8", "float32"),
        ("tflite-full-uint8", "uint8"),
        ("coreml-fp16", "float32"),
    ],
)
def test_a_variant_has_its_sources_types_or_its_recipes(recipe: str, dtype: str) -> None:
    require_signature(with_types(dtype, Quantization(0.5, 0)), SOURCE, RECIPES[recipe])


@pytest.mark.parametrize(
    ("recipe", "found"),
    [
        ("tflite-dynamic-int8", with_types("int8")),
        ("tflite-full-int8", with_types("uint8")),
        ("tflite-full-int8-float-io", with_types("int8")),
        ("coreml-fp16", with_types("float16")),
        ("tflite-float32", Signature(SOURCE.inputs, ())),
        ("tflite-float32", Signature((replace(SOURCE.inputs[0], name="z"),), SOURCE.outputs)),
        ("tflite-float32", Signature(SOURCE.inputs, (replace(SOURCE.outputs[0], shape=(1, 4)),))),
    ],
)
def test_any_other_signature_is_wrong(recipe: str, found: Signature) -> None:
    with pytest.raises(WorkerError) as caught:
        require_signature(found, SOURCE, RECIPES[recipe])
    assert caught.value.code == "wrong_signature"


def test_whole_numbers_are_not_quantised_and_are_32_bits_wide_for_core_ml() -> None:
    ids = Signature((TensorSpec("ids", (1, 4), "int64"),), SOURCE.outputs)
    require_signature(ids, ids, RECIPES["tflite-full-int8"])
    narrow = Signature((TensorSpec("ids", (1, 4), "int32"),), SOURCE.outputs)
    require_signature(narrow, ids, RECIPES["coreml-fp16"])
    with pytest.raises(WorkerError, match="of int64"):
        require_signature(narrow, ids, RECIPES["tflite-float32"])


def test_only_a_recipe_that_compresses_must_have_compressed() -> None:
    require_compressed(990_000, 1_000_000, RECIPES["tflite-float32"])
    require_compressed(900_000, 1_000_000, RECIPES["coreml-lut-4"])
    require_compressed(3_000, 3_000, RECIPES["coreml-lut-4"])
    require_compressed(3_000_000, 0, RECIPES["coreml-lut-4"])
    with pytest.raises(WorkerError, match="got 990000 bytes from 1000000"):
        require_compressed(990_000, 1_000_000, RECIPES["coreml-lut-4"])


def test_outputs_must_hold_finite_values() -> None:
    require_sensible({"y": np.zeros((2, 3))})
    for array, code in ((np.zeros((2, 0)), "empty_output"), (np.array([[np.nan]]), "not_finite")):
        with pytest.raises(WorkerError) as caught:
            require_sensible({"y": array})
        assert caught.value.code == code


def test_a_model_that_keeps_state_is_told_from_one_that_does_not() -> None:
    total = np.zeros(2, np.float32)

    def keeping(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        total[:] += inputs["x"][0]
        return {"y": total[None].copy()}

    def plain(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": inputs["x"] * 2}

    require_stateless(plain, INPUTS, batched(plain, INPUTS))
    with pytest.raises(WorkerError, match="keeps state") as caught:
        require_stateless(keeping, INPUTS, batched(keeping, INPUTS))
    assert caught.value.code == "stateful"


class Doubling:
    """Two inputs, one of them int8, and two outputs."""

    signature = Signature(
        (TensorSpec("a", (1, 2), "float32"), TensorSpec("b", (1, 2), "int8", Quantization(0.5, 0))),
        (TensorSpec("sum", (1, 2), "float32"), TensorSpec("twice", (1, 2), "float32")),
    )

    def stored(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"a": inputs["a"], "b": (inputs["b"] * 2).astype(np.int8)}

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"sum": inputs["a"] + inputs["b"], "twice": 2 * inputs["a"]}


def test_sanity_samples_name_every_input_and_output(tmp_path: Path) -> None:
    golden = {"a": np.ones((4, 2), np.float32), "b": np.full((4, 2), 3, np.float32)}
    write_sanity(Doubling(), golden, batched(Doubling().infer, golden), tmp_path / "sanity.json")
    document = json.loads((tmp_path / "sanity.json").read_text())
    assert len(document["samples"]) == 3
    (first, *_) = document["samples"]
    assert {name: tensor["dtype"] for name, tensor in first["inputs"].items()} == {"a": "float32", "b": "int8"}
    assert {name: tensor["shape"] for name, tensor in first["outputs"].items()} == {"sum": [1, 2], "twice": [1, 2]}


def evaluation(metrics: dict[str, str] | None = None, **labels: np.ndarray) -> EvaluationSet:
    inputs = {"x": np.zeros((2, 1), np.float32)}
    return EvaluationSet(inputs, {key.removeprefix("_"): array for key, array in labels.items()}, metrics or {}, "d")


SCORES = np.array([[0.9, 0.1], [0.2, 0.8]])
OUTPUTS = {"classes": SCORES, "height": np.array([[1.0], [3.0]])}


def test_every_labelled_output_is_measured_in_the_order_of_the_outputs() -> None:
    found = evaluated(OUTPUTS, evaluation(height=np.array([1.0, 2.0]), classes=np.array([0, 0])), dict(OUTPUTS))
    assert [(a.output, a.metric, a.value) for a in found.accuracies] == [
        ("classes", "accuracy", 0.5),
        ("height", "mse", 0.5),
    ]
    assert found.accuracy.output == "classes"
    assert (found.outcomes.samples, set(found.outcomes.outputs)) == ("d", {"classes", "height"})


def test_labels_without_a_name_are_those_of_the_output_that_scores_classes() -> None:
    (found,) = evaluated(OUTPUTS, evaluation(_=np.array([0, 1])), OUTPUTS).accuracies
    assert (found.output, found.value, found.lost) == ("classes", 1.0, None)


def test_nothing_is_measured_without_labels_or_an_output_they_fit() -> None:
    assert evaluated(OUTPUTS, evaluation(), OUTPUTS).accuracies == ()
    only = {"height": OUTPUTS["height"]}
    assert evaluated(only, evaluation(_=np.array([0, 1])), only).accuracies == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (evaluation(weight=np.array([0, 1])), "classes, height"),
        (evaluation({"": "mse"}, _=np.array([0.5, 1])), "one output that mse can be measured of"),
        (evaluation({"": "f1"}, classes=np.array([0, 1])), "expected a metric among"),
        (evaluation(height=np.zeros((2, 2))), "targets of the output's shape"),
    ],
)
def test_labels_that_fit_no_output_are_a_bad_evaluation_set(given: EvaluationSet, message: str) -> None:
    with pytest.raises(WorkerError, match="expect") as caught:
        evaluated(OUTPUTS, given, OUTPUTS)
    assert caught.value.code == "bad_evaluation_set"
    assert message in caught.value.detail


def test_metrics_and_targets_are_read_from_an_npz(tmp_path: Path) -> None:
    arrays = {"x": np.zeros((3, 2)), "targets/y": np.ones((3, 3)), "metric/y": np.array("mae")}
    np.savez(tmp_path / "set.npz", **arrays)
    found = load_evaluation_set(tmp_path / "set.npz", SOURCE.inputs)
    assert (set(found.labels_of), dict(found.metrics), found.labels) == ({"y"}, {"y": "mae"}, None)


def test_two_sets_have_one_digest_when_they_hold_the_same_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=np.zeros((9, 2)))
    whole, again = (load_evaluation_set(tmp_path / "set.npz", SOURCE.inputs) for _ in range(2))
    assert whole.digest == again.digest == whole.take(9).digest
    assert whole.take(4).digest == again.take(4).digest
    assert len({whole.digest, whole.take(4).digest, whole.take(3).digest}) == 3


class Clock:
    """Nanoseconds that pass only while something runs."""

    now = 0

    def __call__(self) -> int:
        return self.now

    def takes(self, microseconds: int):
        def invoke() -> None:
            self.now += microseconds * 1000

        return invoke


@pytest.mark.parametrize(("microseconds", "runs"), [(10, 50), (100_000, 20), (10_000_000, 5)])
def test_as_many_runs_as_the_budget_holds(microseconds: int, runs: int) -> None:
    clock = Clock()
    (times,) = latency.timed([clock.takes(microseconds)], 2.0, clock)
    assert times == [microseconds] * runs
    warm_up = clock.now / 1000 / microseconds - runs
    assert 1 <= warm_up <= 5
    assert warm_up == (1 if microseconds > 200_000 else 5 if microseconds == 10 else 2)


def test_two_files_are_timed_in_turns() -> None:
    clock, order = Clock(), []

    def named(name: str):
        def invoke() -> None:
            order.append(name)
            clock.now += 1000

        return invoke

    latency.timed([named("a"), named("b")], 2.0, clock)
    assert order == ["a", "b"] * (len(order) // 2)


@given(st.lists(st.integers(1, 10**6), min_size=5, max_size=50))
def test_percentiles_ascend_within_what_was_timed(times: list[int]) -> None:
    found = latency.summary(times, threads=2, xnnpack=False)
    assert min(times) - 1 <= found.p50_us <= found.p90_us <= found.p99_us <= max(times) + 1
    assert (found.threads, found.xnnpack, found.runs) == (2, False, len(times))
    assert "relative" in found.label


def test_the_compressed_size_is_that_of_every_file(tmp_path: Path) -> None:
    data = [b"a" * 100_000, bytes(range(256)) * 10]
    for index, content in enumerate(data):
        (tmp_path / str(index)).write_bytes(content)
    expected = sum(len(zstandard.ZstdCompressor(level=19).compress(content)) for content in data)
    assert compressed_bytes(sorted(tmp_path.iterdir())) == expected


def test_growth_is_that_since_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr(footprint, "STATUS", status)
    status.write_text("VmHWM:\t 900 kB\nVmRSS:\t 100 kB\n")
    growth = Growth()
    status.write_text("VmHWM:\t 900 kB\nVmRSS:\t 150 kB\n")
    assert growth.grown_bytes() == 50 * 1024
    status.write_text("VmHWM:\t 1000 kB\nVmRSS:\t 150 kB\n")
    assert growth.grown_bytes() == 900 * 1024
    status.write_text("nothing of the kind\n")
    assert growth.grown_bytes() is None
