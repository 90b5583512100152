"""Folders of jobs and files of the store that a killed process left behind."""

import os
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from registry.blob_store import blob_store
from registry.services import workspaces
from tests.factories import NOW, Clock


@pytest.fixture
def folder(settings, tmp_path) -> Path:
    settings.AEROGRAM_WORKSPACE_DIR = tmp_path / "workspaces"
    return settings.AEROGRAM_WORKSPACE_DIR


def test_a_workspace_vanishes_with_its_run(folder):
    with workspaces.workspace("job-1-") as workspace:
        (workspace / "output").mkdir()
    assert list(folder.iterdir()) == []


def test_a_workspace_in_use_is_not_swept(folder):
    with workspaces.workspace("job-1-") as workspace:
        workspaces.remove_abandoned()
        assert workspace.is_dir()


def test_the_workspace_of_a_killed_process_is_swept_with_its_conversions_scratch(folder):
    """The process dies inside `supervise`, whose own clean-up it never reaches."""
    program = """
        import os, signal
        from pathlib import Path
        import django
        django.setup()
        from registry.conversion import supervision
        from registry.conversion.worker.job import Job
        from registry.services import workspaces

        supervision.WORKER_MODULE = "tests.registry.conversion.misbehaving_worker"
        with workspaces.workspace("job-1-") as workspace:
            supervision.supervise(
                lambda scratch: Job(step="verify", output=workspace, scratch=scratch, recipe="sleep"),
                limits=supervision.RECIPE_LIMITS, workspace=workspace,
                on_heartbeat=lambda _: os.kill(os.getpid(), signal.SIGKILL))
    """
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "deploy.settings",
        "AEROGRAM_SECRET_KEY": "none",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "AEROGRAM_WORKSPACE_DIR": str(folder),
    }
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=root, env=environment, check=False)
    assert done.returncode == -9
    (left,) = folder.iterdir()
    assert list(left.glob("aerogram-conversion-*"))
    workspaces.remove_abandoned()
    assert list(folder.iterdir()) == []


def test_a_beat_is_sent_once_a_second_however_often_it_is_called():
    clock, sent = Clock(), []
    beat = workspaces.every_second(lambda: sent.append(clock()), clock)
    for _ in range(25):
        beat()
        clock.advance(milliseconds=100)
    assert sent == [NOW + timedelta(seconds=1), NOW + timedelta(seconds=2)]


def test_a_beat_is_sent_for_every_chunk_of_a_copy(own_store, tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(3 << 20))
    beats: list[str] = []
    staged = blob_store().put_file(path, on_chunk=lambda: beats.append("kept"))
    blob_store().copy_to(staged.sha256, tmp_path / "copy", on_chunk=lambda: beats.append("copied"))
    assert beats == ["kept"] * 3 + ["copied"] * 3


def test_leftovers_of_the_store_are_removed_after_a_day(own_store, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"model")
    kept = blob_store().put_file(path)
    root = Path(blob_store().storage.path(""))
    left = [root / "staging" / "upload", root / "sha256" / "ab" / ".0.partial", root / "tree" / "demo" / ".1.partial"]
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
        os.utime(file, (NOW.timestamp(), NOW.timestamp()))
    assert blob_store().remove_leftovers(now=NOW + timedelta(hours=23)) == 0
    assert blob_store().remove_leftovers(now=NOW + timedelta(hours=25)) == 3
    assert not any(file.exists() for file in left)
    assert blob_store().exists(kept.sha256)
