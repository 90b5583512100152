"""Hostile files through REST: a clear 4xx or a failed report, nothing half registered, and the server lives on."""

import hashlib
import resource
import time

import pytest
from django.test import Client
from django.utils import timezone

from registry import inspection, services
from registry.models import Artifact, ConversionJob, JobState, ModelVersion, RegisteredModel, Upload, Variant
from tests import factories
from tests.hostile.files import all_files, past_inspection, sound

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
BASE = "/api/v1/applications/demo"
MOST_SECONDS = 20.0  # of the slowest, on a busy machine
MOST_MEMORY_KIB = 1_500_000  # the files themselves are up to 300 MB while they are made
REGISTERED = (ModelVersion, RegisteredModel, ConversionJob, Variant)


@pytest.fixture
def client():
    factories.application()
    root = factories.user("root", superuser=True)
    return Client(headers={"Authorization": f"Bearer {factories.token(root)}"})


@pytest.fixture
def good_source():
    return sound()["model.tflite"]


def upload(client, file_name, content, sha256=None):
    query = {"file_name": file_name, "sha256": sha256 or hashlib.sha256(content).hexdigest()}
    return client.post(f"{BASE}/uploads", content, content_type="application/octet-stream", query_params=query)


def register(client, hostile, good_source):
    sent = upload(client, hostile.file_name, hostile.content)
    assert sent.status_code == 201, (hostile.name, sent.content)
    body = {"source": sent.json()["id"]}
    if hostile.evaluation_set:
        body = {"source": upload(client, "good.tflite", good_source).json()["id"], "evaluation_set": body["source"]}
    return client.post(f"{BASE}/models/hostile/versions", body, content_type="application/json")


def rows():
    return [model.objects.count() for model in REGISTERED]


@pytest.fixture
def codes(monkeypatch):
    """How inspection names what is wrong: the answer has its words only."""
    named = []

    def heard(inspect):
        def listening(*arguments):
            try:
                return inspect(*arguments)
            except inspection.InspectionError as error:
                named.append(error.code)
                raise

        return listening

    for name in ("inspect_source", "inspect_evaluation_set"):
        monkeypatch.setattr(inspection, name, heard(getattr(inspection, name)))
    return named


def test_each_of_200_hostile_files_is_refused_by_name_and_leaves_nothing(client, good_source, own_store, codes):
    before, wrong, seen, slowest = rows(), [], set(), (0.0, "")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for hostile in all_files():
        assert hostile.name not in seen
        seen.add(hostile.name)
        began = time.process_time()  # the machine may be busy with other things
        answer = register(client, hostile, good_source)
        slowest = max(slowest, (time.process_time() - began, hostile.name))
        told = answer.json()
        code = codes.pop() if codes else None
        if (answer.status_code, told.get("code")) != (400, "source_refused") or code is None:
            wrong.append((hostile.name, answer.status_code, told.get("detail")))
        elif hostile.code not in (None, code) or "expected" not in told["detail"] or "got" not in told["detail"]:
            wrong.append((hostile.name, f"expected {hostile.code}, got {code}", told["detail"]))
        elif told["field"] != ("evaluation_set" if hostile.evaluation_set else "source"):
            wrong.append((hostile.name, told["field"]))
    assert not wrong, "\n".join(map(str, wrong))
    assert len(seen) >= 200
    assert rows() == before
    assert not list((own_store / "staging").iterdir())
    assert slowest[0] < MOST_SECONDS, slowest
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_MEMORY_KIB


@pytest.mark.parametrize(
    ("file_name", "content", "sha256", "code"),
    [
        ("model.keras", b"", None, "upload_empty"),
        ("model.keras", b"x", "0" * 64, "upload_digest_mismatch"),
        ("model.keras", b"x", "0" * 63, "invalid"),
        ("model.keras", b"x", "Z" * 64, "invalid"),
        ("../model.keras", b"x", None, "invalid"),
        ("/etc/passwd", b"x", None, "invalid"),
        ("a\\b.keras", b"x", None, "invalid"),
        ("x\x00.keras", b"x", None, "invalid"),
        ("x\n.keras", b"x", None, "invalid"),
        ("\u202ex.keras", b"x", None, "invalid"),
        ("", b"x", None, "invalid"),
        ("x" * 256, b"x", None, "invalid"),
    ],
)
def test_an_upload_that_cannot_be_right_is_not_kept(client, own_store, file_name, content, sha256, code):
    answer = upload(client, file_name, content, sha256)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not Upload.objects.exists()
    assert not Artifact.objects.exists()
    assert not [path for path in own_store.rglob("*") if path.is_file()]


def test_an_upload_above_the_limit_is_cut_off(client, own_store, settings):
    settings.AEROGRAM_MAX_UPLOAD_BYTES = 1000
    answer = upload(client, "model.keras", b"x" * 1001)
    assert (answer.status_code, answer.json()["code"]) == (400, "upload_too_large")
    assert not [path for path in own_store.rglob("*") if path.is_file()]


@pytest.mark.convert
@pytest.mark.light
@pytest.mark.parametrize("hostile", list(past_inspection()), ids=lambda hostile: hostile.name)
def test_what_inspection_cannot_tell_ends_in_a_failed_report(client, good_source, hostile):
    answer = register(client, hostile, good_source)
    assert answer.status_code == 201, answer.content
    version = ModelVersion.objects.get()
    while job := version.jobs.filter(state=JobState.QUEUED).first():
        services.run_job(job_id=job.pk, clock=timezone.now)
    states = dict(version.jobs.values_list("recipe", "state"))
    assert JobState.SUCCEEDED not in states.values()
    failed = version.jobs.exclude(state=JobState.NOT_APPLICABLE)
    assert all(job.report["error"]["detail"] for job in failed), states
    assert not Variant.objects.exists()
    asked = {"model": "hostile", "version": 1}
    refused = client.post(f"{BASE}/channels/production/releases", asked, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_release")
