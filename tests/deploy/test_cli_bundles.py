"""`aerogram push` with extra files and parts, against a real server; the admin shows what came of it."""

import json

import pytest
from click.testing import CliRunner

from deploy.cli import main
from registry.models import ModelVersion
from tests import factories
from tests.deploy.test_cli import aerogram as _aerogram  # noqa: F401
from tests.registry.fake_conversions import FOUND

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


@pytest.fixture
def app():
    return factories.application()


@pytest.fixture
def aerogram(_aerogram, monkeypatch):  # noqa: F811
    from registry import inspection

    monkeypatch.setattr(inspection, "inspect_source", lambda _path, _name: FOUND)
    return _aerogram


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"PK model")
    (tmp_path / "graph.binarypb").write_bytes(b"node {}")
    (tmp_path / "a:b.txt").write_bytes(b"cat\n")
    (tmp_path / "tool.so").write_bytes(b"\x7fELF" + bytes(64))
    return tmp_path


def push(aerogram, folder, *more):
    return aerogram("--json", "push", "encoder", str(folder / "model.keras"), "--no-wait", *more)


def test_files_and_parts_reach_the_version(aerogram, app, folder, client):
    factories.converted_version(app, "decoder")
    code, printed = push(
        aerogram,
        folder,
        *("--file", f"graph={folder / 'graph.binarypb'}"),
        *("--file", f"vocabulary={folder / 'a:b.txt'}:words/en.txt"),
        *("--part", "decoder=decoder:1"),
    )
    assert code == 0, printed
    version = json.loads(printed)
    assert [(file["role"], file["path"]) for file in version["files"]] == [
        ("graph", "graph.binarypb"),
        ("vocabulary", "words/en.txt"),
    ]
    assert version["parts"] == [{"name": "decoder", "model": "decoder", "version": 1}]
    client.force_login(factories.user("root", superuser=True))
    encoder, decoder = (ModelVersion.objects.get(model__slug=slug) for slug in ("encoder", "decoder"))
    page = client.get(f"/admin/registry/modelversion/{encoder.pk}/change/").content.decode()
    assert "words/en.txt" in page
    assert "decoder:1" in page
    assert "Part of" in client.get(f"/admin/registry/modelversion/{decoder.pk}/change/").content.decode()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--file", "data={folder}/tool.so"], "bundle_refused"),
        (["--file", "graph={folder}/graph.binarypb:../x"], "bundle_refused"),
        (["--part", "decoder=decoder:7"], "bundle_refused"),
        (["--part", "decoder=decoder:1", "--part", "decoder=decoder:1"], "bundle_refused"),
    ],
)
def test_what_the_server_refuses(aerogram, app, folder, more, code):
    factories.converted_version(app, "decoder")
    ending, printed = push(aerogram, folder, *(argument.format(folder=folder) for argument in more))
    assert (ending, json.loads(printed)["code"]) == (1, code)
    assert not ModelVersion.objects.filter(model__slug="encoder").exists()


@pytest.mark.parametrize(
    "more",
    [
        ["--file", "graph"],
        ["--file", "graph=absent.txt"],
        ["--file", "model=graph.binarypb"],
        ["--part", "decoder"],
        ["--part", "decoder=decoder"],
        ["--part", "=decoder:1"],
    ],
)
def test_wrong_usage(folder, more, monkeypatch):
    monkeypatch.chdir(folder)
    asked = ["--token", "x", "push", "encoder", str(folder / "model.keras"), *more]
    assert CliRunner().invoke(main.cli, asked).exit_code == 2
