"""The Kotlin library on the JVM, held to the vectors that bind every implementation."""

import json
import subprocess

import pytest

from sdk_stubs.kotlin import build
from sdk_stubs.vectors import generate
from tests.conformance.runners import kotlin_runner

# How many checks each file makes, by what stands in it: a file of which half was left out must not look like a pass.
FILES = {
    "buckets.json": lambda v: (
        2 * len(v["cases"])
        # One beside each boundary, but for what is no hash of 48 bits: below the first, and beyond the last.
        + 4 * len(v["boundaries"])
        - 2
        + len(v["nimbus"] + v["ranges"] + v["overrides"])
    ),
    "device_classes.json": lambda v: len(v["compare_versions"] + v["match"] + v["match_without_fallback"]),
    "decisions.json": lambda v: 2 * len(v["cases"]),
    "catalogs.json": lambda v: len(v["refused"] + v["accepted"]),
    "canonical_json.json": lambda v: len(v["cases"] + v["refused"]),
    "json_texts.json": lambda v: len(v["refused"] + v["accepted"]),
    "signatures.json": lambda v: len(v["refused"] + v["accepted"]),
    "patches.json": lambda v: len(v["applied"] + v["refused"]),
}


@pytest.fixture(scope="module")
def told():
    """What the runner says of each file."""
    done = subprocess.run(
        [*kotlin_runner("VectorsKt"), str(generate.FOLDER)], check=False, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return {line["file"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", FILES)
def test_vectors(name, told):
    assert told[name]["failed"] == []
    assert told[name]["checked"] == FILES[name](json.loads((generate.FOLDER / name).read_text("utf-8")))


def test_all_files_that_can_be_are_checked(told):
    assert set(told) == set(FILES)
    assert set(generate.VECTORS) - set(FILES) == {"encryption.json"}, "the library does not decrypt yet"


def test_a_catalog_of_another_form_ends_the_runner(tmp_path):
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"catalogs": [{"_type": "aerogram-manifest"}], "devices": []}))
    done = subprocess.run([*kotlin_runner("DecideKt"), str(path)], check=False, capture_output=True, timeout=300)
    assert done.returncode != 0
    assert b"catalog._type: expected one of aerogram-catalog" in done.stderr


def test_a_compiler_of_another_hash_is_not_run(tmp_path, monkeypatch):
    other = tmp_path / "npm"
    other.write_text("#!/bin/sh\nprintf other > kotlin.tgz\necho kotlin.tgz\n")
    other.chmod(0o755)
    monkeypatch.setattr(build, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(build, "tool", lambda name: str(other))
    with pytest.raises(ValueError, match="expected sha512 IF5I"):
        build.class_path()
    assert not list((tmp_path / "kept").rglob("*.jar"))
