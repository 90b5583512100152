"""The Swift package: its own tests, and its runner on the decisions of the vectors and on what it must refuse."""

import copy
import json
import re
import subprocess

import pytest

from tests.conformance.runners import decided
from tests.sdk import swift_toolchain

VECTORS = json.loads((swift_toolchain.STUBS / "vectors/decisions.json").read_text("utf-8"))
OWN_TESTS = swift_toolchain.STUBS / "swift/Tests/AerogramTests"
MEMBERS = ("reason", "version", "variant", "experiment", "phase", "arm", "device_class")


@pytest.fixture(scope="module", autouse=True)
def toolchain():
    swift_toolchain.require()


@pytest.fixture(scope="module")
def runner():
    return swift_toolchain.runner()


def known(profile):
    """A profile of the vectors as a poll would tell it."""
    return {name: value for name, value in profile.items() if value not in ("", None, [])}


def cases(catalog):
    devices = [
        {
            "catalog": 0,
            "model": each["model"],
            "profile": known(VECTORS["profiles"][each["profile"]]),
            "unit": each["unit"],
            "current": each["current_version"],
        }
        for each in VECTORS["cases"]
    ]
    return {"catalogs": [catalog], "devices": devices}


def digests(catalog):
    """Of every manifest, by its path."""
    found = {}
    for model in catalog["models"].values():
        variants = [variant for version in model["versions"].values() for variant in version["variants"]]
        switch = [model["kill_switch"]] if model["kill_switch"] else []
        found |= {each["manifest"]["path"]: each["manifest"]["sha256"] for each in [*variants, *switch]}
    return found


def test_the_packages_own_tests_pass():
    output = swift_toolchain.swift("test")
    passed = set(re.findall(r"Test Case '(\w+\.\w+)' passed", output))
    written = {
        f"{path.stem}.{name}"
        for path in OWN_TESTS.glob("*Tests.swift")
        for name in re.findall(r"func (test\w+)\(", path.read_text("utf-8"))
    }
    assert written
    assert passed == written, output


def test_decisions_of_the_vectors(runner, tmp_path):
    found = decided(runner, cases(VECTORS["catalog"]), tmp_path)
    paths = digests(VECTORS["catalog"])
    for each, line in zip(VECTORS["cases"], found, strict=True):
        expected = {name: each["decision"].get(name) for name in MEMBERS}
        assert line == expected | {"manifest": each["manifest"] and paths[each["manifest"]]}, each


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda whole: whole["catalogs"][0].update(spec_version="2"), "catalog.spec_version: expected one of 1"),
        (lambda whole: whole["catalogs"][0].pop("models"), "catalog.models: expected an object, got nothing"),
        (lambda whole: whole["devices"][0].update(unit='a"'), "devices.unit"),
        (lambda whole: whole["devices"][0].update(catalog=1), "devices.catalog"),
        (lambda whole: whole.pop("devices"), "devices"),
    ],
)
def test_what_the_runner_refuses(change, words, runner, tmp_path):
    whole = copy.deepcopy(cases(VECTORS["catalog"]))
    change(whole)
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(whole), "utf-8")
    done = subprocess.run([*runner, str(path)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
