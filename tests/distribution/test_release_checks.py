"""What is refused at release, and chips that go by several names."""

import doctest
import io
import zipfile
from typing import NamedTuple

import pytest
from tflite import BuiltinOperator

from distribution import errors, services
from registry.device_classes import DeviceClass, DeviceProfile, Selector, match, with_all_soc_names
from registry.inspection import runtime_needs
from registry.inspection.runtime_needs import litert_needed
from registry.inspection.source import Operator
from registry.soc_names import canonical, spellings
from tests import factories
from tests.factories import NOW
from tests.registry.inspection.builders import ModelPlan


@pytest.fixture
def version(services, own_store):
    return factories.converted_version(factories.application())


def release(version):
    channel = version.model.application.channels.get()
    return services.publish(channel=channel, version=version, actor="ada", now=NOW)


class Opsets(NamedTuple):
    details: dict


def change_class(version, name, selector, variants):
    classes = version.model.application.device_classes
    assert classes.filter(name=name).update(selector=selector, variants=variants)


@pytest.mark.django_db(transaction=True)
class TestRelease:
    def test_without_a_fallback_nothing_is_released(self, version):
        version.model.application.device_classes.filter(selector={}).delete()
        with pytest.raises(errors.NoFallback):
            release(version)

    @pytest.mark.parametrize(("newest", "is_refused"), [("1", True), ("99", False), (None, False)])
    def test_a_class_cannot_offer_what_its_runtimes_cannot_run(self, version, newest, is_refused):
        factories.variant(version, "coreml-fp16")
        selector = {"runtime": ["coreml"]} | ({"runtime_version_max": newest} if newest else {})
        version.model.application.device_classes.filter(name="ios-coreml").update(selector=selector)
        if is_refused:
            with pytest.raises(errors.RuntimeTooOld, match=r"class ios-coreml: .* has runtime_version_max 1$"):
                release(version)
        else:
            assert release(version)

    @pytest.mark.parametrize(
        ("selector", "told"),
        [
            ({"runtime": ["litert"], "runtime_version_max": "0.2.8"}, "runtime_version_max 0.2.8"),
            ({"runtime_version_max": "0.2.8"}, "runtime_version_max 0.2.8"),
            ({"runtime": ["litert"], "runtime_version_min": "0.2.8"}, "runtime_version_min 0.2.8"),
            ({"runtime": ["litert"], "runtime_version_min": "0.2.9", "runtime_version_max": "2.3"}, None),
            ({"runtime": ["litert"], "runtime_version_min": "1.4"}, None),
            ({"runtime": ["coreml"], "runtime_version_max": "1"}, None),
            ({"runtime": ["litert"]}, None),
        ],
    )
    def test_operators_of_a_tflite_file_against_the_class(self, version, selector, told):
        """GELU came with TensorFlow Lite 2.9."""
        factories.variant(
            version, "tflite-float16", {"model.tflite": ModelPlan(operator_codes=[(127, BuiltinOperator.GELU)]).build()}
        )
        change_class(version, "android-high", selector, ["tflite-float16"])
        if told is None:
            assert release(version)
        else:
            with pytest.raises(errors.RuntimeTooOld) as refused:
                release(version)
            assert str(refused.value) == (
                "expected digits:1 tflite-float16 to run on the devices of class android-high: "
                f"its file needs litert 0.2.9, the class has {told}"
            )

    @pytest.mark.parametrize(("newest", "is_refused"), [("1.11", True), ("1.12", False)])
    def test_the_operator_set_of_an_onnx_file_against_the_class(self, version, newest, is_refused, monkeypatch):
        monkeypatch.setattr(runtime_needs, "inspect_onnx", lambda path: Opsets({"opsets": {"": 17}}))
        factories.variant(version, "onnx-float32", {"model.onnx": b"onnx"})
        change_class(
            version, "android-high", {"runtime": ["onnxruntime"], "runtime_version_max": newest}, ["onnx-float32"]
        )
        if is_refused:
            with pytest.raises(errors.RuntimeTooOld, match=r"needs onnxruntime 1\.12, the class has .* 1\.11"):
                release(version)
        else:
            assert release(version)

    @pytest.mark.parametrize(
        ("selector", "is_refused"),
        [
            ({"os": ["ios"], "runtime": ["coreml"], "os_version_max": "15.9"}, True),
            ({"os": ["ios"], "runtime": ["coreml"], "os_version_max": "16"}, False),
            ({"os": ["macos"], "runtime": ["coreml"], "os_version_max": "12"}, False),
            ({"os": ["ios"], "runtime": ["coreml"], "runtime_version_min": "14"}, False),
        ],
    )
    def test_the_specification_of_a_core_ml_package_against_the_system(self, version, selector, is_refused):
        """The last line: devices with less are passed over one by one, for the variant says what it needs."""
        assert factories.variant(version, "coreml-fp16").min_runtime_version == "16.0"
        change_class(version, "ios-coreml", selector, ["coreml-fp16"])
        if is_refused:
            with pytest.raises(errors.RuntimeTooOld, match=r"needs coreml 16.0, the class has os_version_max 15\.9"):
                release(version)
        else:
            assert release(version)

    def test_a_file_that_cannot_be_read_is_not_promised_to_any_runtime(self, version):
        factories.variant(version, "tflite-float16", {"model.tflite": b"no model"})
        change_class(version, "android-high", {"runtime_version_min": "1"}, ["tflite-float16"])
        with pytest.raises(errors.RuntimeTooOld, match="TFL3"):
            release(version)

    @pytest.mark.parametrize(
        ("path", "content"), [("lib.so", b"anything"), ("weights.bin", b"\x7fELF" + bytes(60)), ("x.apk", b"PK")]
    )
    def test_native_code_is_refused_by_name_and_by_content(self, version, path, content):
        factories.variant(version, "tflite-float16", {"model.tflite": b"model", path: content})
        with pytest.raises(errors.NativeCode, match=path):
            release(version)

    @pytest.mark.parametrize(
        ("members", "told"),
        [
            ({"weights.bin": b"weights", "a/b.txt": b"labels"}, None),
            ({"weights.bin": b"weights", "lib/arm64/libx.so": b"anything"}, "libx.so"),
            ({"weights.bin": b"\x7fELF" + bytes(60)}, "weights.bin"),
            ({"inner.zip": b"PK\x03\x04"}, "inner.zip"),
        ],
    )
    def test_native_code_inside_an_archive(self, version, members, told):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        contents = {"model.tflite": b"model", "package.zip": packed.getvalue()}
        factories.variant(version, "tflite-float16", contents)
        if told is None:
            assert release(version)
        else:
            with pytest.raises(errors.NativeCode, match=f"package.zip: .*{told}"):
                release(version)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("QTI SM8550", "SM8550"),
        ("Qualcomm/SM8550", "SM8550"),
        ("Snapdragon 8 Gen 2", "SM8550"),
        ("Tensor_G3", "Tensor G3"),
        ("Google Tensor G3", "Tensor G3"),
        ("Mediatek MT6985", "MT6985"),
        ("MediaTek Dimensity 9200", "MT6985"),
        ("Unheard 1", "Unheard 1"),
    ],
)
def test_every_spelling_of_a_chip_is_one_chip(spelling, name):
    assert canonical(spelling) == name
    assert canonical(name) == name
    assert {name, spelling} <= set(spellings(name)) | {spelling}


def test_a_published_class_accepts_each_spelling():
    published = with_all_soc_names(DeviceClass("npu", Selector(soc=("Snapdragon 8 Gen 2",)), ("tflite-float32",)))
    for spelling in ("SM8550", "QTI SM8550", "Qualcomm SM8550", "Snapdragon 8 Gen 2"):
        assert match(DeviceProfile("android", soc=spelling), [published]).device_class == published
    assert match(DeviceProfile("android", soc="SM8650"), [published]).device_class is None


@pytest.mark.parametrize(
    ("version", "inside"), [("1.9", False), ("2.0", True), ("2.4.9", True), ("2.6", False), ("", False)]
)
def test_runtime_bounds(version, inside):
    bounded = DeviceClass("a", Selector(runtime_version_min="2", runtime_version_max="2.5"), ("tflite-float32",))
    found = match(DeviceProfile("android", runtime_version=version), [bounded]).device_class
    assert (found is not None) is inside


@pytest.mark.parametrize(
    ("operators", "written", "needed"),
    [
        ([], "", ""),
        ([("ADD", "1")], "", "0.1.5"),
        ([("ADD", "1"), ("CONV_2D", "6")], "", "0.2.9"),
        ([("ADD", "1")], "2.14.0", "0.2.14"),
        ([("FULLY_CONNECTED", "12")], "2.3.0", "0.2.13"),
        ([("STABLEHLO_ADD", "1")], "", "0.2.13"),
        ([("ADD", "0")], "junk", "0.2.13"),
        ([], "2.18.0", "1.0.1"),
    ],
)
def test_what_a_tflite_file_needs(operators, written, needed):
    assert litert_needed([Operator(*each, 1) for each in operators], written) == needed


def test_the_examples_of_runtime_needs():
    assert doctest.testmod(runtime_needs).failed == 0
