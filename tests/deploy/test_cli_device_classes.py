"""`aerogram device-class` against a real server."""

import json

import pytest

from registry.device_classes import Selector
from registry.models import Role
from tests.deploy.test_cli import aerogram, app  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
EVERY_CONDITION = {
    "os": ["android", "ios"],
    "os_version_min": "12",
    "os_version_max": "17.5",
    "app_version_min": "3.0",
    "app_version_max": "4.9",
    "runtime": ["litert"],
    "runtime_version_min": "1.0",
    "runtime_version_max": "2.3",
    "ram_mb_min": 3000,
    "ram_mb_max": 16000,
    "soc": ["Snapdragon 8 Gen 2", "Tensor G3"],
    "accelerators_all": ["gpu", "npu"],
    "device_include": ["Apple/iPhone15,2"],
    "device_exclude": ["Google/Pixel 8"],
}


@pytest.fixture
def device_class(aerogram):  # noqa: F811
    def run(*arguments, role=Role.ADMINISTRATOR):
        return aerogram("--json", "device-class", *arguments, role=role)

    return run


def options(selector):
    for name, value in selector.items():
        for each in value if isinstance(value, list) else [value]:
            yield f"--{name.replace('_', '-')}"
            yield str(each)


def test_a_class_with_every_condition_there_is(device_class, app):  # noqa: F811
    assert set(EVERY_CONDITION) == set(Selector.__dataclass_fields__)
    code, printed = device_class(
        "edit", "special", *options(EVERY_CONDITION), "--variant", "tflite-float32", "--delegate", "npu"
    )
    assert code == 0, printed
    row = app.device_classes.get(name="special")
    assert row.selector == EVERY_CONDITION
    assert (row.variants, row.delegate_order) == (["tflite-float32"], ["npu"])
    assert row == app.device_classes.order_by("position").last()


def test_what_is_not_named_stays(device_class, app):  # noqa: F811
    before = app.device_classes.get(name="android-high")
    code, printed = device_class("edit", "android-high", "--ram-mb-min", "8000", "--clear", "os")
    assert code == 0, printed
    after = app.device_classes.get(name="android-high")
    assert after.selector == {**{k: v for k, v in before.selector.items() if k != "os"}, "ram_mb_min": 8000}
    assert (after.position, after.variants, after.delegate_order) == (
        before.position,
        before.variants,
        before.delegate_order,
    )


def test_order(device_class, app):  # noqa: F811
    names = list(app.device_classes.values_list("name", flat=True))
    wanted = [names[1], names[0], *names[2:]]
    assert device_class("order", *wanted)[0] == 0
    assert list(app.device_classes.order_by("position").values_list("name", flat=True)) == wanted
    code, printed = device_class("order", *wanted[1:])
    assert (code, json.loads(printed)["code"]) == (1, "invalid")


def test_show_and_delete(device_class, aerogram, app):  # noqa: F811
    assert json.loads(device_class("show", "android-high", role=Role.VIEWER)[1])["name"] == "android-high"
    told = aerogram("device-class", "show", "everything-else")[1]
    assert "no condition: every device that comes this far" in told
    assert device_class("delete", "android-high")[0] == 0
    assert not app.device_classes.filter(name="android-high").exists()
    assert json.loads(device_class("show", "android-high")[1])["code"] == "not_found"


def test_a_new_class_needs_variants_and_a_role(device_class, app):  # noqa: F811
    assert device_class("edit", "new")[0] == 1
    code, printed = device_class("edit", "new", "--variant", "tflite-float32", role=Role.RELEASER)
    assert (code, json.loads(printed)["code"]) == (1, "not_allowed")


def test_a_device_is_tried_with_the_version_of_its_runtime(device_class, aerogram, app):  # noqa: F811
    device_class("edit", "old", "--runtime-version-max", "0.2.9", "--variant", "tflite-float32", "--position", "100")
    names = [name for name in app.device_classes.values_list("name", flat=True) if name != "old"]
    assert device_class("order", "old", *names)[0] == 0
    for version, found in (("0.2.8", "old"), ("1.0.1", "everything-else")):
        code, printed = aerogram("--json", "match", "--os", "linux", "--runtime-version", version)
        assert (code, json.loads(printed)["device_class"]) == (0, found)
