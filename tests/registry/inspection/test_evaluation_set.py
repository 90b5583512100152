import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from registry.inspection import InspectionError, inspect_evaluation_set
from registry.inspection import evaluation_set as module


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version, allow_pickle=True)
    return stream.getvalue()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path / "set.npz", "w") as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return path / "set.npz"


def test_headers_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "set.npz", image=np.zeros((3, 4, 5), np.float32), labels=np.zeros(3, np.int64))
    found = inspect_evaluation_set(tmp_path / "set.npz")
    assert found == {"image": ((3, 4, 5), "float32"), "labels": ((3,), "int64")}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    path = archive(tmp_path, {"x.npy": npy(np.zeros((2, 2), np.uint8), version)})
    assert inspect_evaluation_set(path) == {"x": ((2, 2), "uint8")}


def lying(shape: str) -> bytes:
    whole = npy(np.zeros((2, 2), np.float32))
    return whole.replace(b"(2, 2)", shape.encode())


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"x.npy": npy(np.array([{"a": 1}], object))}, "not_numeric"),
        ({"x.npy": npy(np.array(["text"]))}, "not_numeric"),
        ({"x.npy": npy(np.zeros((), np.float32))}, "bad_shape"),
        ({"x.npy": lying("(9, 9)")}, "size_mismatch"),
        ({"x.npy": lying("(-2,2)").replace(b"(-2,2)", b"(-1,4)")}, "bad_shape"),
        ({"x.npy": b"\x93NUMPY\x01\x00\xff\xff"}, "not_npy"),
        ({"x.npy": b"\x93NUMPY\x09\x00"}, "not_npy"),
        ({"x.npy": b"pickle"}, "not_npy"),
        ({"x.txt": b""}, "not_npy"),
        ({}, "member_count"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path, members: dict[str, bytes], code: str) -> None:
    with pytest.raises(InspectionError) as caught:
        inspect_evaluation_set(archive(tmp_path, members))
    assert caught.value.code == code


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ARRAY_BYTES", 1000)
    with pytest.raises(InspectionError) as caught:
        inspect_evaluation_set(archive(tmp_path, {"x.npy": npy(np.zeros(1000))}))
    assert caught.value.code == "too_large"


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(b"nothing")
    with pytest.raises(InspectionError) as caught:
        inspect_evaluation_set(tmp_path / "set.npz")
    assert caught.value.code == "not_npz"
