from dataclasses import dataclass

import pytest

from experiments.eligibility import arm_without_variant, choose_variant, incompatibility
from registry.device_classes import DeviceClass, DeviceProfile, Selector


@dataclass(frozen=True)
class Built:
    name: str
    runtime: str = "litert"
    min_runtime_version: str = ""


INT8 = Built("tflite-full-int8", min_runtime_version="2.0")
FLOAT = Built("tflite-float32")
CORE_ML = Built("coreml-fp16", runtime="coreml")
ANDROID = DeviceClass("android", Selector(), ("tflite-full-int8", "tflite-float32"))


@pytest.mark.parametrize(
    ("runtime", "runtime_version", "variant", "compatible"),
    [
        ("coreml", "9", INT8, False),
        ("litert", "2.0", INT8, True),
        ("litert", "2.0.1", INT8, True),
        ("litert", "1.9", INT8, False),
        ("litert", "", INT8, False),
        ("", "", INT8, False),
        ("", "2.1", INT8, True),
        ("litert", "", FLOAT, True),
        ("", "", FLOAT, True),
    ],
)
def test_the_truth_table_of_compatibility(runtime, runtime_version, variant, compatible):
    profile = DeviceProfile("android", runtime=runtime, runtime_version=runtime_version)
    assert (incompatibility(variant, profile) is None) is compatible


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        (DeviceProfile("android", runtime="coreml"), "runtime is coreml, tflite-full-int8 needs litert"),
        (DeviceProfile("android"), "runtime_version is unknown, tflite-full-int8 needs 2.0"),
        (DeviceProfile("android", runtime_version="1.9"), "runtime_version is 1.9, tflite-full-int8 needs 2.0"),
    ],
)
def test_it_is_told_what_the_device_lacks(profile, told):
    assert incompatibility(INT8, profile) == told


def test_the_class_decides_the_preference_not_the_order_built():
    profile = DeviceProfile("android", runtime="litert", runtime_version="2.1")
    assert choose_variant([FLOAT, INT8], profile, ANDROID) == INT8
    assert choose_variant([FLOAT, CORE_ML], profile, ANDROID) == FLOAT


def test_a_preferred_variant_that_does_not_run_is_passed_over():
    profile = DeviceProfile("android", runtime="litert", runtime_version="1.0")
    assert choose_variant([FLOAT, INT8], profile, ANDROID) == FLOAT


def test_a_variant_the_class_does_not_list_is_never_chosen():
    assert choose_variant([CORE_ML], DeviceProfile("android"), ANDROID) is None
    assert choose_variant([FLOAT], DeviceProfile("android"), None) is None


def test_one_arm_without_a_variant_puts_the_device_outside_whichever_arm_it_is_in():
    profile = DeviceProfile("android", runtime="litert", runtime_version="1.0")
    arms = [("control", [FLOAT]), ("treatment", [INT8])]
    assert arm_without_variant(arms, profile, ANDROID) == "treatment"
    assert arm_without_variant(list(reversed(arms)), profile, ANDROID) == "treatment"


def test_the_embedded_model_runs_everywhere():
    arms = [("control", None), ("treatment", [FLOAT])]
    assert arm_without_variant(arms, DeviceProfile("android"), ANDROID) is None
