"""Files and parts of a version over REST: what is taken, what is answered, and every malformed way to ask."""

import pytest

from registry import inspection
from registry.models import ModelVersion, Role
from tests import factories
from tests.registry.fake_conversions import FOUND, upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


@pytest.fixture
def editor(caller, app, monkeypatch):
    monkeypatch.setattr(inspection, "inspect_source", lambda _path, _name: FOUND)
    factories.converted_version(app, "decoder")
    return caller(Role.EDITOR)


def register(editor, app, **body):
    source = upload(app).pk
    return editor("POST", "models/encoder/versions", {"source": source, "recipes": ["tflite-float32"], **body})


def test_a_version_tells_its_files_and_parts(editor, app):
    graph = upload(app, b"node {}", "graph.pbtxt")
    parts = [{"name": "decoder", "model": "decoder", "version": 1}]
    made = register(editor, app, files=[{"upload": graph.pk, "role": "graph"}], parts=parts)
    assert made.status_code == 201, made.content
    told = {"path": "graph.pbtxt", "role": "graph", "media_type": "text/plain", "size_bytes": 7}
    for answer in (made, editor("GET", "models/encoder/versions/1")):
        assert answer.json()["files"] == [told | {"sha256": graph.artifact.sha256}]
        assert answer.json()["parts"] == parts
    (listed,) = editor("GET", "models/encoder/versions").json()
    assert (len(listed["files"]), listed["parts"]) == (1, parts)


def test_a_variant_tells_its_packages_and_parts(editor, app):
    variant = editor("GET", "models/decoder/versions/1/variants/tflite-float32").json()
    assert (variant["packages"], variant["parts"]) == ({}, [])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"files": [{"upload": 10**9, "role": "graph"}]}, "files"),
        ({"files": [{"upload": "x", "role": "graph"}]}, "files"),
        ({"files": [{"role": "graph"}]}, "files"),
        ({"files": [{"upload": 1, "role": "model"}]}, "files"),
        ({"files": [{"upload": 1, "role": "graph", "pth": "a"}]}, "files"),
        ({"files": ["graph"]}, "files"),
        ({"files": {"upload": 1}}, "files"),
        ({"files": [{"upload": 1, "role": "data"}] * 65}, "files"),
        ({"parts": [{"name": "decoder", "model": "decoder"}]}, "parts"),
        ({"parts": [{"name": "decoder", "model": "decoder", "version": 0}]}, "parts"),
        ({"parts": [{"name": "decoder", "model": "absent", "version": 1}]}, "parts"),
        ({"parts": [{"name": "decoder", "model": "decoder", "version": 1}] * 2}, "parts"),
        ({"parts": [{"name": "De/coder", "model": "decoder", "version": 1}]}, "parts"),
        ({"parts": [None]}, "parts"),
    ],
)
def test_what_is_malformed_is_refused_by_name(editor, app, body, field):
    answer = register(editor, app, **body)
    assert answer.status_code == 400, answer.content
    assert answer.json()["field"].split(".")[0] == field
    assert not ModelVersion.objects.filter(model__slug="encoder").exists()


@pytest.mark.parametrize(
    "part",
    [
        {"name": "\u0000", "model": "decoder", "version": 1},
        {"name": "decoder", "model": "a\u0000", "version": 1},
        {"name": "decoder", "model": "decoder", "version": 2**70},
    ],
)
def test_values_that_no_database_takes(editor, app, part):
    assert register(editor, app, parts=[part]).status_code == 400
