"""Reading, measuring and removing what a worker left behind."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.conversion.leavings import is_plain_path, opened, read_report, remove_tree, require_files
from registry.conversion.report import Failure, ProducedFile, Report, ReportError
from registry.conversion.watching import DEEPEST, DiskUsage, disk_usage
from registry.conversion.worker.job import write_result

CONTENT = b"model"


def produced(path: str) -> ProducedFile:
    return ProducedFile(path, "model", len(CONTENT), sha256(CONTENT).hexdigest())


@given(st.lists(st.sampled_from(["a", "b.c", "..", ".", "", "\0"]), min_size=1, max_size=4))
def test_a_plain_path_names_something_below_its_folder(parts: list[str]) -> None:
    path = "/".join(parts)
    is_shortest = path == os.path.normpath(path) and not path.startswith("/")
    assert is_plain_path(path) == (is_shortest and not {"..", ".", "\0"} & set(parts))


def test_a_report_may_name_files_in_folders(tmp_path: Path) -> None:
    (tmp_path / "model.mlpackage" / "Data").mkdir(parents=True)
    (tmp_path / "model.mlpackage" / "Data" / "weights").write_bytes(CONTENT)
    report = Report(state="succeeded", files=(produced("model.mlpackage/Data/weights"),), entry="model.mlpackage")
    require_files(report, tmp_path)


def test_a_report_may_not_name_a_file_twice(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(CONTENT)
    with pytest.raises(ReportError, match="each file once"):
        require_files(Report(state="succeeded", files=(produced("model"), produced("model"))), tmp_path)


def test_only_a_regular_file_with_one_name_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    with opened(tmp_path / "file") as stream:
        assert stream.read() == CONTENT
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    os.link(tmp_path / "file", tmp_path / "second")
    for name in ("link", "pipe", "second", "."):
        with pytest.raises(OSError, match=r".+"), opened(tmp_path / name):
            pass


def test_a_tree_of_any_depth_and_mode_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptor)
        os.symlink(outside, "link", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.fchmod(descriptor, 0)
    os.close(descriptor)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "kept").exists()


def test_disk_usage_counts_what_is_allocated_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(1 << 40)
    (tmp_path / "link").symlink_to("/usr")
    usage = disk_usage([tmp_path], 100)
    assert usage.files == 3
    assert 100_000 <= usage.allocated_bytes < 200_000
    assert disk_usage([tmp_path], 1).files == 2  # one more than allowed is all that has to be known
    assert disk_usage([tmp_path / "absent"], 1) == DiskUsage()


def test_disk_usage_gives_up_on_deep_folders(tmp_path: Path) -> None:
    tmp_path.joinpath(*["d"] * (DEEPEST + 2)).mkdir(parents=True)
    assert disk_usage([tmp_path], 1000).too_deep


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_what_a_worker_quotes_of_a_damaged_file_can_be_stored(
    tmp_path_factory: pytest.TempPathFactory, said: str
) -> None:
    """Keras quotes a lone surrogate out of a mutated config.json; a NUL comes out of names of tensors."""
    folder = tmp_path_factory.mktemp("scratch")
    write_result(folder, Report(state="failed", error=Failure("keras_refused", f"{said}\0\ud800"), notes=(said,)))
    detail = read_report(folder / "result.json", folder).error.detail
    assert detail.endswith("\ufffd\ufffd")
    detail.encode()
