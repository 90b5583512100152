"""Rules of the worker that need no runtime."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.recipes import RECIPES
from registry.conversion.report import Quantization, TensorSpec
from registry.conversion.worker import __main__ as worker
from registry.conversion.worker.admission import admit
from registry.conversion.worker.confine import Isolation
from registry.conversion.worker.golden import golden_inputs, noise
from registry.conversion.worker.job import Job, WorkerError
from registry.conversion.worker.steps.tflite import size_notes
from registry.conversion.worker.trace_files import batched
from registry.conversion.worker.verify import sanity_tolerance
from tests.registry.inspection.builders import keras_config, keras_file, layer, saved_model, zipped

ISOLATED = Isolation()


def job(tmp_path, source_format: str, data: bytes) -> Job:
    source = tmp_path / "source"
    source.write_bytes(data)
    return Job(step="trace", output=tmp_path, scratch=tmp_path, source=source, source_format=source_format)


def test_a_saved_model_is_refused_without_isolation_and_with_the_reason(tmp_path) -> None:
    half = Isolation(no_network_isolation="unshare: Operation not permitted")
    uploaded = job(tmp_path, "saved_model", zipped({"saved_model.pb": saved_model()}))
    with pytest.raises(WorkerError, match="without network isolation: unshare") as caught:
        admit(uploaded, half)
    assert caught.value.code == "no_isolation"
    admit(uploaded, ISOLATED)


def test_a_keras_file_needs_no_isolation_but_another_inspection(tmp_path) -> None:
    half = Isolation(no_file_isolation="Landlock: Function not implemented")
    bad = job(tmp_path, "keras", keras_file(keras_config(layer("Lambda"))))
    with pytest.raises(WorkerError) as caught:
        admit(bad, half)
    assert caught.value.code == "lambda_layer"
    assert half.notes == ("ran without file isolation: Landlock: Function not implemented",)


def test_a_job_of_an_unknown_step_fails(tmp_path) -> None:
    report = worker.run(Job(step="os", output=tmp_path, scratch=tmp_path), ISOLATED)
    assert (report.state, report.error.code) == ("failed", "unknown_step")


def test_jobs_survive_json(tmp_path) -> None:
    whole = job(tmp_path, "keras", b"")
    assert Job.from_json(whole.to_json()) == whole


def require_plain_weights(archive, scratch) -> None:
    pytest.importorskip("h5py", reason="needs h5py (extra `convert`)")
    from registry.conversion.worker import keras_weights

    keras_weights.require_plain_weights(archive, scratch)


def weights(tmp_path, fill) -> None:
    h5py = pytest.importorskip("h5py", reason="needs h5py (extra `convert`)")
    path = tmp_path / "made.h5"
    with h5py.File(path, "w") as made:
        fill(made, h5py)
    archive = tmp_path / "model.keras"
    archive.write_bytes(zipped({"model.weights.h5": path.read_bytes()}))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    require_plain_weights(archive, scratch)


def test_weights_damaged_inside_the_archive_are_named(tmp_path) -> None:
    content = bytearray(zipped({"model.weights.h5": bytes(1000)}))
    content[60] ^= 0xFF
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(WorkerError) as caught:
        require_plain_weights(tmp_path / "model.keras", tmp_path)
    assert caught.value.code == "damaged_weights"


def test_plain_weights_pass(tmp_path) -> None:
    weights(tmp_path, lambda made, _: made.create_dataset("layers/dense/0", data=np.ones((4, 4))))


@pytest.mark.parametrize(
    ("fill", "code"),
    [
        (lambda made, _: made.create_dataset("x", (10**9,), "float32", chunks=(1000,)), "weights_size"),
        (lambda made, h5py: made.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")), "weights_link"),
        (lambda made, h5py: made.__setitem__("x", h5py.SoftLink("/y")), "weights_link"),
        (lambda made, _: made.create_dataset("x", (8,), "uint8", external=[("/etc/hostname", 0, 8)]), "weights_link"),
    ],
)
def test_weights_that_reach_out_or_promise_too_much_are_refused(tmp_path, fill, code: str) -> None:
    with pytest.raises(WorkerError) as caught:
        weights(tmp_path, fill)
    assert caught.value.code == code


def test_weights_that_are_no_hdf5_are_refused(tmp_path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(keras_file(keras_config(layer("Dense"))))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(WorkerError) as caught:
        require_plain_weights(path, tmp_path / "scratch")
    assert caught.value.code == "damaged_weights"


def test_a_file_left_uncompressed_fails_and_a_half_compressed_one_is_noted() -> None:
    recipe = RECIPES["tflite-full-int8"]
    with pytest.raises(WorkerError, match="got 990000 bytes from 1000000"):
        size_notes(1_000_000, 990_000, recipe)
    assert size_notes(1_000_000, 300_000, recipe) == ()
    (note,) = size_notes(1_000_000, 600_000, recipe)
    assert "some layers were not quantised" in note
    assert size_notes(3_000, 3_100, recipe) == ()


SPECS = st.builds(
    TensorSpec,
    st.text(min_size=1, max_size=5),
    st.just((1, 3, 2)),
    st.sampled_from(["float32", "int8", "uint8", "int32", "int64", "bool"]),
    st.none() | st.just(Quantization(0.5, 3)),
)


@given(SPECS)
def test_golden_noise_is_the_same_every_time_and_of_the_inputs_kind(spec: TensorSpec) -> None:
    first, second = noise(spec, None), noise(spec, None)
    assert (first == second).all()
    assert (first.shape, first.dtype.name) == ((8, 3, 2), spec.dtype)


def test_golden_noise_keeps_to_its_range() -> None:
    tokens = TensorSpec("tokens", (1, 100), "int32")
    assert noise(tokens, (0, 49)).max() <= 49
    pixels = golden_inputs([TensorSpec("photo", (1, 50), "float32")], None, {"photo": (0.0, 255.0)})["photo"]
    assert 100 < pixels.max() <= 255


def test_outputs_with_and_without_a_batch_axis_are_stacked_alike() -> None:
    inputs = {"x": np.arange(6.0).reshape(3, 2)}
    with_batch = batched(lambda one: {"y": one["x"]}, inputs)["y"]
    without = batched(lambda one: {"y": one["x"][0]}, inputs)["y"]
    assert (with_batch == without).all()
    assert with_batch.shape == (3, 2)


@pytest.mark.parametrize(("largest", "tolerance"), [(0.5, "0.02"), (1.0, "0.02"), (50.0, "1"), (1e6, "20000")])
def test_the_tolerance_of_sanity_samples_grows_with_the_outputs(largest: float, tolerance: str) -> None:
    assert sanity_tolerance({"y": np.array([[-largest]])}) == tolerance
