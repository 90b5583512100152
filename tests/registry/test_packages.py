"""One digest of a package whatever its identifiers, and one zip whatever the clock, the umask and the machine."""

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.packages import MANIFEST, named_by_content, package_digest, write_zip

ITEMS = [
    {"author": "com.apple.CoreML", "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"},
    {"author": "com.apple.CoreML", "name": "weights", "path": "com.apple.CoreML/weights"},
]
identifiers = st.lists(st.uuids().map(lambda found: str(found).upper()), min_size=2, max_size=2, unique=True)
words = st.text("abcdefgh./_-0123456789", min_size=1, max_size=20)


def manifest(names, items=ITEMS, root=0, **members):
    entries = dict(zip(names, items, strict=True))
    document = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": names[root], **members}
    return json.dumps(document, indent=4, sort_keys=True).encode()


def digest(contents):
    """Of a package given as path -> bytes."""
    return package_digest(
        {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}, contents[MANIFEST]
    )


def package(names, **changes):
    return {
        MANIFEST: manifest(names, **changes),
        "Data/com.apple.CoreML/model.mlmodel": b"specification",
        "Data/com.apple.CoreML/weights/weight.bin": bytes(range(256)),
    }


@given(identifiers, identifiers, st.booleans())
def test_identifiers_say_nothing(names, others, reverse):
    """Not even by the order that they give the items."""
    items, root = (ITEMS[::-1], 1) if reverse else (ITEMS, 0)
    assert digest(package(names)) == digest(package(others, items=items, root=root))


@given(identifiers, st.data())
def test_every_other_byte_counts(names, data):
    contents = package(names)
    path = data.draw(st.sampled_from(sorted(set(contents) - {MANIFEST})))
    at, bit = data.draw(st.integers(0, len(contents[path]) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(contents[path])
    changed[at] ^= 1 << bit
    assert digest({**contents, path: bytes(changed)}) != digest(contents)


@given(identifiers, st.sampled_from(sorted(ITEMS[0])), words)
def test_every_word_of_the_manifest_counts(names, member, word):
    changed = [ITEMS[0] | {member: word}, ITEMS[1]]
    assert (digest(package(names)) == digest(package(names, items=changed))) == (changed == ITEMS)


@pytest.mark.parametrize("change", [{"root": 1}, {"fileFormatVersion": "1.0.1"}, {"more": None}])
def test_the_root_and_other_members_count(change):
    names = ["A", "B"]
    assert digest(package(names)) != digest({**package(names), MANIFEST: manifest(names, **change)})


def test_files_and_their_names_count():
    contents = package(["A", "B"])
    digests = {digest(contents), digest({**contents, "Data/more.bin": b"1"}), digest({**contents, "Data/other": b"1"})}
    assert len(digests) == 3


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"{",
        b"[]",
        b'{"itemInfoEntries": {}, "rootModelIdentifier": "A"}',
        b'{"itemInfoEntries": {"A": {"path": "a"}, "A": {"path": "b"}}, "rootModelIdentifier": "A"}',
        b'{"itemInfoEntries": {"A": {}}, "rootModelIdentifier": ["A"]}',
        b"[" * 100_000,
    ],
)
def test_a_manifest_of_another_form_counts_by_its_bytes(odd):
    assert named_by_content(odd) == odd


# -- the zip


def zipped(path, contents):
    write_zip(path, ((name, len(content), lambda content=content: io.BytesIO(content)) for name, content in contents))
    return path.read_bytes()


@given(st.dictionaries(words.filter(lambda name: "/" not in name), st.binary(max_size=2000), min_size=1, max_size=5))
def test_the_zip_holds_the_files_in_order(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("zip") / "model.zip"
    zipped(path, sorted(contents.items(), reverse=True))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == sorted(contents)
        assert {name: archive.read(name) for name in archive.namelist()} == contents
        assert archive.testzip() is None


def test_the_same_zip_at_another_time_with_another_umask(tmp_path, monkeypatch):
    contents = [("model.mlpackage/Manifest.json", b"{}"), ("model.mlpackage/Data/weight.bin", bytes(100_000))]
    first = zipped(tmp_path / "first.zip", contents)
    before = os.umask(0o077)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    monkeypatch.setattr(time, "localtime", lambda *_: time.struct_time((2040, 5, 5, 5, 5, 5, 0, 0, 0)))
    try:
        second = zipped(tmp_path / "second.zip", reversed(contents))
    finally:
        os.umask(before)
    assert first == second


def by_the_book(contents):
    """The zip of docs/protocol.md, written without a library."""
    files, directory = b"", b""
    for path, content in sorted(contents):
        checked = struct.pack("<III", zlib.crc32(content), len(content), len(content))
        local = struct.pack("<HHHHH", 20, 0, 0, 0, 0x0021) + checked + struct.pack("<HH", len(path), 0)
        rest = struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, len(files))
        directory += b"PK\1\2" + struct.pack("<BB", 20, 3) + local + rest + path.encode()
        files += b"PK\3\4" + local + path.encode() + content
    count = len(contents)
    return files + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(files), 0)


def test_the_zip_to_the_byte(tmp_path):
    """So that no other Python comes to write another one unnoticed."""
    contents = [("b/two.bin", b"two"), ("a.txt", bytes(70_000))]
    assert zipped(tmp_path / "one.zip", contents) == by_the_book(contents)


@pytest.mark.light
def test_two_saves_by_coremltools(tmp_path):
    pytest.importorskip("coremltools", reason="coremltools is not installed (extra `light`)")
    program = Path(__file__).parent / "conversion" / "save_packages.py"
    subprocess.run([sys.executable, "-W", "ignore", program, tmp_path], check=True, capture_output=True)
    saved = [
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "first.mlpackage", tmp_path / "second.mlpackage")
    ]
    assert saved[0][MANIFEST] != saved[1][MANIFEST], "other identifiers"
    assert digest(saved[0]) == digest(saved[1])
