"""What is refused at release, and chips that go by several names."""

import pytest

from distribution import errors, services
from registry.device_classes import DeviceClass, DeviceProfile, Selector, match, with_all_soc_names
from registry.soc_names import canonical, spellings
from tests import factories
from tests.factories import NOW


@pytest.fixture
def version(services, own_store):
    return factories.converted_version(factories.application())


def release(version):
    channel = version.model.application.channels.get()
    return services.publish(channel=channel, version=version, actor="ada", now=NOW)


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
            with pytest.raises(errors.RuntimeTooOld, match=r"up to 1, as device class ios-coreml"):
                release(version)
        else:
            assert release(version)

    @pytest.mark.parametrize(
        ("path", "content"), [("lib.so", b"anything"), ("weights.bin", b"\x7fELF" + bytes(60)), ("x.apk", b"PK")]
    )
    def test_native_code_is_refused_by_name_and_by_content(self, version, path, content):
        factories.variant(version, "tflite-float16", {"model.tflite": b"model", path: content})
        with pytest.raises(errors.NativeCode, match=path):
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
