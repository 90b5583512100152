"""`.keras` files and SavedModel zips: what is read, and what is refused."""

import gzip
import json
import stat
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.inspection import InspectionError, TensorInfo, inspect_source
from registry.inspection import archive as archives
from tests.registry.inspection.builders import HDF5, keras_config, keras_file, layer, saved_model, zipped

DENSE = layer("Dense", name="y", units=2)


def inspected(folder: Path, data: bytes, name: str = "model.keras"):
    path = folder / "upload"
    path.write_bytes(data)
    return inspect_source(path, name)


def refused(folder: Path, data: bytes, name: str = "model.keras") -> InspectionError:
    with pytest.raises(InspectionError) as caught:
        inspected(folder, data, name)
    return caught.value


def test_a_keras_file_is_read_without_loading_it(tmp_path: Path) -> None:
    found = inspected(tmp_path, keras_file(keras_config(DENSE)))
    assert (found.format, found.inputs) == ("keras", (TensorInfo("x", (None, 4), "float32"),))
    assert [tensor.name for tensor in found.outputs] == ["y"]
    assert found.details == {"keras_version": "3.15.1", "layers": {"Dense": 1, "InputLayer": 1}}
    assert json.loads(json.dumps(found.to_json()))["inputs"][0]["shape"] == [None, 4]


def nested(inner: dict, depth: int = 6) -> dict:
    for _ in range(depth):
        inner = layer("TimeDistributed", layer=inner)
    return inner


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        (layer("Lambda"), "lambda_layer"),
        (nested(layer("Lambda")), "lambda_layer"),
        (layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "x"}}), "lambda_layer"),
        (layer("Attention", None, "mine>Attention"), "custom_object"),
        (layer("Attention", "my_package"), "custom_object"),
        (layer("Dense", registered="mine>Dense"), "custom_object"),
        (layer("TFSMLayer"), "custom_object"),
        (layer("TorchModuleWrapper"), "custom_object"),
        (layer("StringLookup"), "custom_object"),
        (layer("Dense", activation=layer("function", "builtins", "function")), "custom_object"),
        (layer("system", "os"), "custom_object"),
        (layer("Dense", "keras.utils.get_file"), "custom_object"),
    ],
)
def test_code_of_the_files_own_is_refused(tmp_path: Path, inner: dict, code: str) -> None:
    error = refused(tmp_path, keras_file(keras_config(DENSE, inner)))
    assert error.code == code
    assert "SavedModel" in error.expected


def test_how_the_model_was_trained_does_not_matter(tmp_path: Path) -> None:
    config = {**keras_config(DENSE), "compile_config": {"loss": layer("my_loss", "my_package")}}
    assert inspected(tmp_path, keras_file(config)).format == "keras"


def test_initialisers_and_policies_are_part_of_keras(tmp_path: Path) -> None:
    inner = layer(
        "Dense",
        dtype=layer("DTypePolicy", "keras", name="float32"),
        kernel_initializer=layer("GlorotUniform", "keras.initializers"),
        seed_generator=layer("SeedGenerator", "keras.random"),
    )
    assert inspected(tmp_path, keras_file(keras_config(inner))).details["layers"]["Dense"] == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"PK nonsense", "not_zip"),
        (zipped({"config.json": b"{}"}), "keras_members"),
        (keras_file(keras_config(DENSE), **{"extra.py": b""}), "keras_members"),
        (keras_file(b"{"), "keras_json"),
        (keras_file(b"[]"), "keras_json"),
        (keras_file(b"[" * 100_000), "keras_json"),
        (keras_file(keras_config(DENSE), **{"model.weights.h5": b"no"}), "keras_weights"),
        (keras_file({"config": {}}), "keras_config"),
        (keras_file(keras_config(nested(DENSE, 80))), "keras_json"),
        (keras_file({**keras_config(DENSE), "config": {"layers": [DENSE]}}), "keras_inputs"),
        (keras_file(keras_config(layer("InputLayer", batch_shape=["a"]))), "keras_inputs"),
    ],
)
def test_what_is_no_keras_file_is_refused(tmp_path: Path, data: bytes, code: str) -> None:
    assert refused(tmp_path, data).code == code


WINDOWS_PROGRAM = b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0"


def test_two_letters_of_weights_are_no_program(tmp_path: Path) -> None:
    members = {"saved_model.pb": saved_model(), "variables/variables.data-00000-of-00001": b"MZ" + bytes(100)}
    assert inspected(tmp_path, zipped(members), "model.zip").format == "saved_model"


def test_the_serving_signature_is_taken_or_else_the_first(tmp_path: Path) -> None:
    found = inspected(tmp_path, zipped({"saved_model.pb": saved_model(key="other")}), "model.zip")
    assert (found.details["signature"], found.details["signatures"]) == ("other", ["other"])


def test_a_saved_model_is_read_without_loading_it(tmp_path: Path) -> None:
    members = {
        "digits/saved_model.pb": saved_model(),
        "digits/variables/variables.index": b"",
        "digits/fingerprint.pb": b"",
    }
    found = inspected(tmp_path, zipped(members), "digits.zip")
    assert (found.format, found.inputs) == ("saved_model", (TensorInfo("x", (None, 4), "float32"),))
    assert found.outputs == (TensorInfo("y", (None, 2), "float32"),)
    assert found.details["operations"] == ["MatMul"]


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"saved_model.pb": saved_model(["WriteFile"])}, "tensorflow_operation"),
        ({"saved_model.pb": saved_model(inner=["PyFunc"])}, "tensorflow_operation"),
        ({"saved_model.pb": b""}, "no_signature"),
        ({"saved_model.pb": saved_model(), "assets/libx.so.1": b""}, "native_code"),
        ({"saved_model.pb": saved_model(), "assets/words": b"\x7fELF\x02\x01\x01"}, "native_code"),
        ({"saved_model.pb": saved_model(), "assets/words": WINDOWS_PROGRAM}, "native_code"),
        ({"saved_model.pb": saved_model(), "assets/words": zipped({"a": b""})}, "nested_archive"),
        ({"saved_model.pb": saved_model(), "assets/words": gzip.compress(b"words")}, "nested_archive"),
        ({"saved_model.pb": saved_model(), "assets/words": bytes(257) + b"ustar"}, "nested_archive"),
        ({"saved_model.pb": b"\xff\xff\xff"}, "damaged_protobuf"),
        ({"variables/variables.index": b""}, "not_saved_model"),
        ({"a/saved_model.pb": saved_model(), "b/saved_model.pb": saved_model()}, "not_saved_model"),
        ({"a/saved_model.pb": saved_model(), "a/run.py": b""}, "saved_model_members"),
        ({"a/saved_model.pb": saved_model(), "b/other": b""}, "saved_model_members"),
        ({"a/saved_model.pb": saved_model(), "a": b""}, "saved_model_members"),
        ({"saved_model.pb": saved_model(), "../evil": b""}, "unsafe_path"),
        ({"saved_model.pb": saved_model(), "/etc/evil": b""}, "unsafe_path"),
        ({"saved_model.pb": saved_model(), "variables/..\\evil": b""}, "unsafe_path"),
        ({"saved_model.pb": saved_model(), "variables/A": b"", "variables/a": b""}, "duplicate_member"),
    ],
)
def test_what_is_no_saved_model_is_refused(tmp_path: Path, members: dict, code: str) -> None:
    assert refused(tmp_path, zipped(members), "model.zip").code == code


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("saved_model.pb", saved_model())
        link = zipfile.ZipInfo("variables/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert refused(tmp_path, path.read_bytes(), "model.zip").code == "unsafe_member"


def test_archives_that_unpack_to_far_more_are_refused(tmp_path: Path) -> None:
    data = zipped({"saved_model.pb": saved_model(), "variables/zeros": b"\0" * 50_000_000})
    assert len(data) < 100_000
    assert refused(tmp_path, data, "model.zip").code == "too_large"


def test_archives_of_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    members = {"saved_model.pb": saved_model(), **{f"variables/{n}": b"" for n in range(3)}}
    assert refused(tmp_path, zipped(members), "model.zip").code == "member_count"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("model.h5", "unknown_format"),
        ("model", "unknown_format"),
        ("model.tflite", "not_tflite"),
        ("model.zip", "not_saved_model"),
    ],
)
def test_the_name_must_agree_with_the_bytes(tmp_path: Path, name: str, code: str) -> None:
    assert refused(tmp_path, keras_file(keras_config(DENSE)), name).code == code


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(HDF5)
    (tmp_path / "upload").symlink_to(target)
    with pytest.raises(InspectionError) as caught:
        inspect_source(tmp_path / "upload", "model.keras")
    assert caught.value.code == "not_a_file"
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(InspectionError) as caught:
        inspect_source(tmp_path / "empty", "model.keras")
    assert caught.value.code == "size"


WHOLE = {
    "model.keras": keras_file(keras_config(DENSE)),
    "model.zip": zipped({"saved_model.pb": saved_model(["MatMul", "Relu"], ["Mul"])}),
}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_damage_of_any_kind_ends_in_an_inspection_error_or_in_a_reading(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    whole = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InspectionError):
        inspected(tmp_path, bytes(whole), name)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=st.binary(max_size=200))
def test_any_bytes_as_a_graph_are_refused(tmp_path: Path, graph: bytes) -> None:
    assert refused(tmp_path, zipped({"saved_model.pb": graph}), "model.zip").code


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["class_name", "module", "config", "layers", "registered_name", "batch_shape", "output_layers", "name"]
    ), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=json_values)
def test_any_json_as_a_configuration_is_refused_or_read(tmp_path: Path, config: object) -> None:
    with suppress(InspectionError):
        inspected(tmp_path, keras_file({**keras_config(DENSE), "config": config}))
