"""The admin's upload form takes what belongs to a bundle: extra files with a role, and versions that become parts."""

import json

import numpy as np
import pytest
from django.urls import reverse

from registry.models import AuditEntry, ModelVersion
from tests import factories
from tests.sdk.tiny_tflite import float_model

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
JSON = {"HTTP_ACCEPT": "application/json"}


@pytest.fixture
def application():
    return factories.application()


@pytest.fixture
def page(client, application):
    client.force_login(factories.user("root", superuser=True))
    return client


def received(page, content, file_name, role="file"):
    address = reverse("admin:registry_modelversion_receive")
    query = f"?application=demo&file_name={file_name}&role={role}"
    answer = page.post(address + query, content, content_type="application/octet-stream", **JSON)
    assert answer.status_code == 200, answer.content
    return answer.json()["id"]


def register(page, **bundle):
    source = received(page, float_model(np.ones((3, 4), np.float32)), "tiny.tflite", "source")
    form = {"application": "demo", "model": "tiny", "source": source, **bundle}
    return page.post(
        reverse("admin:registry_modelversion_register"), json.dumps(form), content_type="application/json", **JSON
    )


def test_a_version_gets_the_extra_files_and_the_parts_that_were_chosen(page, application):
    decoder = factories.converted_version(application, "decoder")
    files = [
        {"upload": received(page, b"cat\ndog\n", "names.txt"), "role": "labels", "path": "labels/en.txt"},
        {"upload": received(page, b"{}", "thresholds.json"), "role": "config", "path": ""},
    ]
    answer = register(page, files=files, parts=[{"name": "decoder", "of": f"decoder:{decoder.number}"}])
    assert answer.status_code == 201, answer.content
    version = ModelVersion.objects.get(model__slug="tiny")
    kept = [(row.path, row.role, row.artifact.size_bytes) for row in version.files.order_by("path")]
    assert kept == [("labels/en.txt", "labels", 8), ("thresholds.json", "config", 2)]
    assert {row.name: row.part for row in version.parts.all()} == {"decoder": decoder}
    assert AuditEntry.objects.first().after["parts"] == {"decoder": "decoder:1"}
    shown = page.get(answer.json()["location"]).content.decode()
    assert "labels/en.txt" in shown


def test_versions_that_can_be_a_part_are_offered(page, application):
    factories.converted_version(application, "decoder")
    factories.version(application, "unconverted")
    shown = page.get(reverse("admin:registry_modelversion_add")).content.decode()
    assert "<option>decoder:1</option>" in shown
    assert "unconverted:1" not in shown


@pytest.mark.parametrize(
    ("bundle", "field", "told"),
    [
        ({"files": [{"upload": 999, "role": "data"}]}, "files", "expected an uploaded file, got 999"),
        ({"files": "all"}, "files", "expected a list of objects as files"),
        ({"parts": [1]}, "parts", "expected a list of objects as parts"),
        ({"parts": [{"name": "decoder", "of": "decoder"}]}, "parts", "got 'decoder'"),
        ({"parts": [{"name": "decoder", "of": "decoder:9"}]}, "parts", "got decoder:9"),
        ({"parts": [{"name": "Not A Name", "of": "decoder:1"}]}, "parts", "Not A Name"),
        ({"parts": [{"name": "decoder", "of": "decoder:1"}] * 2}, "parts", "expected each part once"),
    ],
)
def test_what_cannot_be_in_a_bundle_is_told_beside_it(page, application, bundle, field, told):
    factories.converted_version(application, "decoder")
    answer = register(page, **bundle)
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert told in answer.json()["detail"]
    assert not ModelVersion.objects.filter(model__slug="tiny").exists()


@pytest.mark.parametrize(
    ("content", "role", "path", "told"),
    [
        (b"\x7fELF\x02\x01\x01\x00", "data", "words.txt", "words.txt"),
        (b"x", "music", "a.txt", "'music'"),
        (b"x", "data", "../a.txt", "../a.txt"),
        (b"x", "data", "model.tflite", "model.tflite"),
    ],
)
def test_a_file_that_no_device_may_get_is_refused(page, application, content, role, path, told):
    files = [{"upload": received(page, content, "file.txt"), "role": role, "path": path}]
    answer = register(page, files=files)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "bundle_refused", "files")
    assert told in answer.json()["detail"]
