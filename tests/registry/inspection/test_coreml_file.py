import json
from pathlib import Path
from typing import Any

import pytest

from registry.inspection import InspectionError, SourceInspection, TensorInfo, inspect_source
from registry.inspection.coreml_file import inspect_coreml
from tests.registry.inspection import builders
from tests.registry.inspection.builders import (
    ADDITION,
    array_feature,
    coreml_manifest,
    coreml_model,
    coreml_package,
    message,
    mil_blob,
    mil_named,
    mil_operation,
    mil_program,
    mil_type,
    weight_file,
    zipped,
)

WEIGHTS = "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin"


def inspected(folder: Path, data: bytes, name: str = "m.mlpackage.zip") -> SourceInspection:
    path = folder / "upload"
    path.write_bytes(data)
    return inspect_source(path, name)


def refused(folder: Path, data: bytes, name: str = "m.mlpackage.zip") -> InspectionError:
    with pytest.raises(InspectionError) as caught:
        inspected(folder, data, name)
    return caught.value


def test_a_package_is_read_as_data(tmp_path: Path) -> None:
    found = inspected(tmp_path, zipped(coreml_package()))
    assert (found.format, found.min_runtime_version, found.parameters) == ("coreml", "16.0", 2)
    assert found.inputs == (TensorInfo("x", (1, 2), "float32"),)
    assert found.outputs == (TensorInfo("y", (1, 2), "float32"),)
    assert [(one.name, one.version, one.count) for one in found.operators] == [
        ("add", "CoreML6", 1),
        ("const", "CoreML6", 1),
    ]
    assert found.metadata == {
        "description": "by Ada",
        "version": "3",
        "author": "Ada",
        "license": "MIT",
        "user_defined": {"mean": "127.5"},
        "inputs": {"x": {"description": "a picture"}},
    }
    path = "Data/com.apple.CoreML/weights/weight.bin"
    assert found.details["weight_files"] == [{"path": path, "size_bytes": 136, "offsets": [64]}]
    assert found.details["model_type"] == "mlProgram"


def test_a_folder_reads_as_its_zip(tmp_path: Path) -> None:
    for name, data in coreml_package().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert inspect_coreml(tmp_path / "m.mlpackage").parameters == 2
    (tmp_path / "m.mlpackage" / "Data" / "link").symlink_to("/etc/passwd")
    with pytest.raises(InspectionError, match="plain files"):
        inspect_coreml(tmp_path / "m.mlpackage")


def test_a_classifier_tells_its_labels(tmp_path: Path) -> None:
    strings = message((4, message((1, "cat"), (1, "dog"))))
    value = message((2, mil_type((2,), 2)), (3, message((1, strings))))
    program = mil_program(
        mil_operation("const", {}, mil_named("names", mil_type((2,), 2)), value),
        mil_operation("classify", {"probabilities": "x", "classes": "names"}, mil_named("y", mil_type((1, 2)))),
    )
    assert inspected(tmp_path, coreml_model(program), "m.mlmodel").metadata["labels"] == ["cat", "dog"]


def test_a_neural_network_tells_its_layers_and_weights(tmp_path: Path) -> None:
    weights = message((1, bytes(16)))
    layer = message((1, "y"), (140, message((1, 2), (2, 2), (20, weights))))
    network = message((1, layer), (100, message((1, "cat"), (1, "dog"))))
    found = inspected(tmp_path, coreml_model(network, kind=403, version=3), "m.mlmodel")
    assert found.details["model_type"] == "neuralNetworkClassifier"
    assert (found.details["operators"], found.parameters, found.min_runtime_version) == ({"innerProduct": 1}, 4, "12.0")
    assert found.metadata["labels"] == ["cat", "dog"]


def program_with(operation: bytes) -> bytes:
    return coreml_model(mil_program(*ADDITION, operation))


CUSTOM = mil_operation("custom_layer", {}, mil_named("z", mil_type((1,))))
DEEP: Any = b""
for _ in range(40):
    DEEP = message((3, mil_operation("cond", {}, mil_named("z", mil_type((1,))), blocks=DEEP)))


def constant(blob: bytes) -> bytes:
    return coreml_model(mil_program(mil_operation("const", {}, mil_named("w", mil_type((1, 2))), blob)))


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (b"", "not_coreml"),
        (b"\xff\xff\xff", "damaged_protobuf"),
        (coreml_model(version=99), "not_coreml"),
        (coreml_model(b""), "coreml_program"),
        (coreml_model(b"", kind=3333), "coreml_type"),
        (coreml_model(b"", kind=555), "custom_layer"),
        (coreml_model(b"", kind=556), "linked_model"),
        (coreml_model(message((1, message((1, "y"), (500, b"")))), kind=500), "custom_layer"),
        (program_with(CUSTOM), "custom_layer"),
        (
            coreml_model(mil_program(mil_operation("cond", {}, mil_named("z", mil_type(())), blocks=DEEP))),
            "damaged_coreml",
        ),
        (constant(mil_blob(64, "@model_path/../secret")), "coreml_weights"),
        (constant(mil_blob(64, "/etc/passwd")), "coreml_weights"),
        (constant(mil_blob(64, "@model_path/weights/other.bin")), "coreml_weights"),
        (constant(mil_blob(63)), "coreml_weights"),
        (constant(mil_blob(128)), "coreml_weights"),
        (constant(mil_blob(1 << 40)), "coreml_weights"),
        (constant(mil_blob(64, sizes=(1, 3))), "coreml_weights"),
        (coreml_model(more=[(2, message((1, array_feature("x", dtype=7)), (10, array_feature("y"))))]), "tensor_type"),
        (coreml_model(more=[(2, message((1, array_feature("x", (-1,))), (10, array_feature("y"))))]), "bad_shape"),
        (coreml_model(more=[(2, message((1, array_feature("x"))))]), "no_inputs_or_outputs"),
    ],
)
def test_what_a_package_must_not_hold_is_refused(tmp_path: Path, model: bytes, code: str) -> None:
    assert refused(tmp_path, zipped(coreml_package(model))).code == code


def manifest_of(**changes: object) -> bytes:
    item = {"author": "com.apple.CoreML", "description": "", "name": "m", "path": "com.apple.CoreML/model.mlmodel"}
    return coreml_manifest(itemInfoEntries={"1": item | changes, "2": item | {"path": "com.apple.CoreML/weights"}})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"m.mlpackage/Manifest.json": b"["}, "coreml_manifest"),
        ({"m.mlpackage/Manifest.json": coreml_manifest(rootModelIdentifier="9")}, "coreml_manifest"),
        ({"m.mlpackage/Manifest.json": coreml_manifest(rootModelIdentifier="2")}, "coreml_manifest"),
        ({"m.mlpackage/Manifest.json": manifest_of(path="../x")}, "coreml_manifest"),
        ({"m.mlpackage/Manifest.json": manifest_of(name=5)}, "coreml_manifest"),
        ({"m.mlpackage/Manifest.json": manifest_of(author=None)}, "coreml_manifest"),
        ({"m.mlpackage/Manifest.json": coreml_manifest(fileFormatVersion=None)}, "coreml_manifest"),
        ({"m.mlpackage/Manifest.json": coreml_manifest(fileFormatVersion="2.0.0")}, "coreml_manifest"),
        ({"m.mlpackage/Data/stray": b"x"}, "coreml_members"),
        ({"other": b"x"}, "coreml_members"),
        ({"m.mlpackage": b"x"}, "coreml_members"),
        ({"n/Manifest.json": b"{}"}, "not_coreml"),
        ({"m.mlpackage/Data/com.apple.CoreML/weights/x.dylib": b""}, "native_code"),
        ({"m.mlpackage/Data/com.apple.CoreML/weights/x": b"\xcf\xfa\xed\xfe"}, "native_code"),
        ({"m.mlpackage/Data/com.apple.CoreML/weights/x": b"7z\xbc\xaf\x27\x1c"}, "nested_archive"),
        ({WEIGHTS: weight_file(length=1 << 40)}, "coreml_weights"),
        ({WEIGHTS: weight_file()[:100]}, "coreml_weights"),
    ],
)
def test_a_package_around_it_is_checked_too(tmp_path: Path, changes: dict[str, bytes], code: str) -> None:
    assert refused(tmp_path, zipped({**coreml_package(), **changes})).code == code


def test_a_lone_model_cannot_refer_to_weights(tmp_path: Path) -> None:
    assert refused(tmp_path, coreml_model(), "m.mlmodel").code == "coreml_weights"


def test_a_zip_is_what_it_holds(tmp_path: Path) -> None:
    assert inspected(tmp_path, zipped(coreml_package()), "model.zip").format == "coreml"
    assert inspected(tmp_path, zipped({"saved_model.pb": builders.saved_model()}), "model.zip").format == "saved_model"


def test_a_report_holds_nothing_that_json_or_a_database_refuses(tmp_path: Path) -> None:
    description = message((1, array_feature("x\0y")), (10, array_feature("y" * 5000)))
    found = inspected(tmp_path, zipped(coreml_package(coreml_model(more=[(2, description)])))).to_json()
    assert found["inputs"][0]["name"] == "x\ufffdy"
    assert len(found["outputs"][0]["name"]) == 2000
    json.dumps(found, allow_nan=False)
