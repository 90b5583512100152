import json
from datetime import UTC, datetime
from hashlib import sha256

import pytest
from click.testing import CliRunner
from django.core.management import call_command

from deploy.cli.main import cli
from distribution.device_plane.state import DamagedTreeError
from distribution.device_plane.tree import LocalTree
from distribution.tree_export import export_tree
from tests.simulators import PublishedTree


@pytest.fixture
def published(tmp_path):
    tree = PublishedTree(tmp_path / "tree", now=datetime.now(UTC).replace(microsecond=0))
    tree.release("digits", 1, {"tflite-float32": {"model.tflite": b"first"}})
    tree.publish()
    return tree


@pytest.fixture
def public(tmp_path):
    return tmp_path / "public"


def files(public):
    folder = public / "v1/apps/demo"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_under_its_address(published, public):
    done = export_tree(LocalTree(published.root), "demo", public)
    found = files(public)
    digest = sha256(b"first").hexdigest()
    assert found[f"blobs/sha256/{digest}"] == found[f"targets/models/digits/1/tflite-float32/{digest}.model.tflite"]
    stored = {str(path.relative_to(published.folder)) for path in published.folder.rglob("*") if path.is_file()}
    assert {path for path in stored if not path.startswith("blobs/")} <= set(found)
    assert {"channels/production/catalog", "channels/production/catalog.gz"} <= set(found)
    assert done.revision == json.loads(found["trust/timestamp.json"])["signed"]["version"]


def test_a_second_export_writes_what_is_new_and_removes_nothing(published, public):
    first = export_tree(LocalTree(published.root), "demo", public)
    before = files(public)
    assert export_tree(LocalTree(published.root), "demo", public).written == 0
    published.release("digits", 2, {"tflite-float32": {"model.tflite": b"second"}})
    published.publish()
    second = export_tree(LocalTree(published.root), "demo", public)
    assert second.revision > first.revision
    assert set(before) < set(files(public))


def test_a_damaged_blob_is_not_passed_on(published, public):
    digest = sha256(b"first").hexdigest()
    path = published.folder / "blobs/sha256" / digest[:2] / digest
    path.unlink()
    path.write_bytes(b"other")
    with pytest.raises(OSError, match="expected sha256"):
        export_tree(LocalTree(published.root), "demo", public)
    assert not (public / "v1/apps/demo/trust/timestamp.json").exists()
    assert not list(public.rglob("*.partial"))


def test_a_damaged_catalog_is_not_passed_on(published, public):
    for path in (published.folder / "targets/catalogs").iterdir():
        path.write_bytes(b"{}")
    with pytest.raises(DamagedTreeError):
        export_tree(LocalTree(published.root), "demo", public)
    assert not public.exists()


def test_by_the_command_line(published, public, monkeypatch):
    monkeypatch.setenv("BLOB_STORE_URL", published.root.parent.as_uri())
    answer = CliRunner().invoke(cli, ["-a", "demo", "--json", "tree", "export", str(public)])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.output)["revision"] == 1
    assert CliRunner().invoke(cli, ["-a", "other", "tree", "export", str(public)]).exit_code == 1


def test_by_manage_py(published, public, settings, capsys):
    from deploy.env import ParsedUrl

    settings.BLOB_STORE_URL = ParsedUrl(published.root.parent.as_uri())
    call_command("export_tree", str(public))
    assert capsys.readouterr().out.startswith("demo: revision 1, ")
