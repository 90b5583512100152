"""Telling what an app ships with, and reading which patches there are."""

import hashlib

import pytest

from distribution import patches
from distribution.models import Patch
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


def body(**changes):
    return {"model": "digits", "file_name": "digits.tflite", **changes}


@pytest.fixture
def version(app):
    return factories.converted_version(app)


def test_by_the_digest_of_a_variant_s_file(app, administrator, version):
    sha256 = version.variants.get().files.get(role="model").artifact.sha256
    answer = administrator("POST", "embedded-models", body(sha256=sha256))
    assert (answer.status_code, answer.json()["sha256"]) == (201, sha256)
    (row,) = administrator("GET", "embedded-models").json()
    assert (row["model"], row["file_name"]) == ("digits", "digits.tflite")


def test_by_an_upload(app, administrator, version):
    content = b"what last year's app ships with"
    upload = app.uploads.create(
        artifact=factories.artifact(content), file_name="digits.tflite", uploaded_by=None, uploaded_at=NOW
    )
    answer = administrator("POST", "embedded-models", body(upload=upload.pk))
    assert (answer.status_code, answer.json()["sha256"]) == (201, hashlib.sha256(content).hexdigest())


def test_telling_it_twice_is_one_row(app, administrator, version):
    sha256 = version.variants.get().files.get(role="model").artifact.sha256
    ids = [administrator("POST", "embedded-models", body(sha256=sha256)).json()["id"] for _ in range(2)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "invalid"),
        ({"upload": 1, "sha256": "0" * 64}, "invalid"),
        ({"upload": 4711}, "invalid"),
        ({"sha256": "0" * 64}, "embedded_file_unknown"),
        ({"sha256": "short"}, "invalid"),
    ],
)
def test_what_names_no_file(app, administrator, version, changes, code):
    answer = administrator("POST", "embedded-models", body(**changes))
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_patches_by_target_and_state(app, administrator):
    target, base = factories.artifact(b"target"), factories.artifact(b"base")
    Patch.objects.create(
        application=app, target=target, base=base, algorithm=patches.ALGORITHM, requested_at=NOW, state="failed"
    )
    for query, count in ((f"target={target.sha256}", 1), (f"target={base.sha256}", 0), ("state=failed", 1)):
        assert len(administrator("GET", f"patches?{query}").json()) == count
