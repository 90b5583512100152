"""Which files may stand in one bundle: paths for every file system, roles, no programs, archives or hidden models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distribution.catalog import PATH
from distribution.manifest import PART_NAME
from registry import bundles
from registry.bundles import BundleError, require_apart, require_content, require_extras, require_path
from registry.inspection import InspectionError


def extras(*files, parts=(), has_labels=False):
    require_extras(files, parts, has_labels=has_labels)


def test_files_that_may_travel():
    extras(
        ("graph.binarypb", "graph"), ("labels.txt", "labels"), ("data/words/en.txt", "vocabulary"), parts=["decoder"]
    )
    extras(("a.txt", "data"), ("b.txt", "data"), has_labels=True, parts=["decoder", "vad_2"])


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/a", "a/", "a//b", "../a", "a/../b", "./a", "a/.", ".hidden", "a/.hidden", "a.", "a./b", "a b"),
        *("a\\b", "c:/a", "a\0", "ä", "a\n", "nul", "NUL.txt", "data/com1.bin", "a" * 201, "/".join("abcdefghi")),
    ],
)
def test_paths_that_some_system_reads_otherwise(path):
    with pytest.raises(BundleError):
        extras((path, "data"))


@given(st.text(max_size=12))
def test_what_is_allowed_can_be_signed(path):
    try:
        require_path(path)
    except BundleError:
        return
    assert PATH.fullmatch(path)


@pytest.mark.parametrize(
    "paths",
    [("a", "a"), ("a.txt", "A.TXT"), ("a", "a/b"), ("a/b", "a"), ("Data/a", "data/b"), ("x/A/1", "x/a/2")],
)
def test_paths_that_collide(paths):
    with pytest.raises(BundleError, match="differ on every file system"):
        require_apart(paths)


def test_paths_beside_each_other():
    require_apart(["a/b/c", "a/b/d", "a/e", "ab", "b"])


@pytest.mark.parametrize(
    ("files", "options"),
    [
        ([("model.tflite", "data")], {}),
        ([("Model.MLPackage/Data/x", "data")], {}),
        ([("model.mlpackage.zip", "data")], {}),
        ([("sanity.json", "data")], {}),
        ([("labels.txt", "data")], {"has_labels": True}),
        ([("en.txt", "labels")], {"has_labels": True}),
        ([("en.txt", "labels"), ("de.txt", "labels")], {}),
        ([("decoder/words.txt", "data")], {"parts": ["decoder"]}),
        ([("Decoder", "data")], {"parts": ["decoder"]}),
        ([("a", "model")], {}),
        ([("a", "sanity")], {}),
        ([("a", "archive")], {}),
        ([(f"{number}.bin", "data") for number in range(65)], {}),
        ([], {"parts": [f"p{number}" for number in range(9)]}),
        ([], {"parts": ["decoder", "decoder"]}),
        *(([], {"parts": [name]}) for name in ("", "Decoder", "a/b", "..", "a.b", "1st", "nul", "a" * 64)),
    ],
)
def test_what_cannot_be_in_one_bundle(files, options):
    with pytest.raises(BundleError):
        extras(*files, **options)


def test_part_names_are_the_manifests():
    assert bundles._PART_NAME.pattern == PART_NAME.pattern


@pytest.mark.parametrize(
    ("path", "start"),
    [("a.so", b""), ("a.bin", b"\x7fELF"), ("graph.task", b"PK\x03\x04"), ("a.so.txt", b""), ("a", b"\x1f\x8b\x08")],
)
def test_programs_and_archives(path, start):
    with pytest.raises(InspectionError):
        require_content(path, 10, start)


@pytest.mark.parametrize(
    ("path", "start"), [("decoder.tflite", b""), ("decoder.bin", b"\x1c\0\0\0TFL3"), ("x.ONNX", b""), ("a.keras", b"")]
)
def test_a_model_is_a_part_and_no_file(path, start):
    with pytest.raises(BundleError, match="as a part"):
        require_content(path, 10, start)


def test_a_file_that_is_too_large():
    with pytest.raises(BundleError, match="at most 268435456 bytes"):
        require_content("a.bin", bundles.MOST_FILE_BYTES + 1, b"")
    require_content("a.bin", bundles.MOST_FILE_BYTES, b"")
