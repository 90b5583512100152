"""REST as a script uses it: tokens, roles, problems, and a push in two steps."""

import hashlib

import pytest
from django.db import transaction
from django.test import Client

from registry import services
from registry.models import ApiToken, Artifact, AuditEntry, Role
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
BASE = "/api/v1/applications"


@pytest.fixture
def app():
    return factories.application()


def client_of(user):
    return Client(headers={"Authorization": f"Bearer {factories.token(user)}"})


@pytest.fixture
def member(app):
    def make(role):
        user = factories.user(role.label)
        services.grant(application=app, user=user, role=role, actor="tests", now=NOW)
        return client_of(user)

    return make


def upload(client, content, name="model.keras", sha256=None):
    query = {"file_name": name, "sha256": sha256 or hashlib.sha256(content).hexdigest()}
    return client.post(f"{BASE}/demo/uploads", content, content_type="application/octet-stream", query_params=query)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer aero_wrong"}, {"Authorization": "Basic eDp5"}])
def test_without_a_valid_token_every_answer_is_401(app, header):
    answer = Client(headers=header).get(BASE)
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["WWW-Authenticate"] == "Bearer"


def test_an_expired_token_is_refused(app):
    ada = factories.user()
    _, token = ApiToken.issue(user=ada, name="old", now=NOW, expires_at=NOW.replace(year=2020))
    assert Client(headers={"Authorization": f"Bearer {token}"}).get(BASE).status_code == 401


def test_a_push_is_an_upload_and_a_version(app, member):
    client = member(Role.EDITOR)
    content = b"\x1c\x00\x00\x00TFL3"
    assert upload(client, content).status_code == 201
    answer = client.post(f"{BASE}/demo/models/digits/versions", {"source": 999}, content_type="application/json")
    assert (answer.status_code, answer.json()["field"]) == (400, "source")


def test_a_digest_that_differs_is_a_clear_problem(app, member):
    problem = upload(member(Role.EDITOR), b"bytes", sha256="0" * 64).json()
    assert problem["code"] == "upload_digest_mismatch"
    assert problem["status"] == 400
    assert "expected sha256 000" in problem["detail"]


@pytest.mark.parametrize("name", ["", "../x.keras", "a/b", "x" * 256])
def test_file_names_are_plain(app, member, name):
    assert upload(member(Role.EDITOR), b"bytes", name=name).json()["field"] == "file_name"


@pytest.mark.parametrize(
    ("role", "method", "path"),
    [
        (Role.VIEWER, "post", "uploads"),
        (Role.VIEWER, "post", "models/digits/versions"),
        (Role.EDITOR, "post", "models/digits/versions/1/yank"),
        (Role.EDITOR, "post", "channels/production/releases"),
        (Role.EDITOR, "post", "channels/production/rollback"),
        (Role.EDITOR, "post", "channels/production/kill-switches/digits"),
        (Role.EDITOR, "delete", "channels/production/kill-switches/digits"),
        (Role.RELEASER, "post", "channels"),
    ],
)
def test_a_role_too_low_is_403_and_names_the_one_needed(app, member, role, method, path):
    answer = getattr(member(role), method)(f"{BASE}/demo/{path}", content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    assert "expected the role" in answer.json()["detail"]


def test_strangers_see_no_application(app):
    client = client_of(factories.user("stranger"))
    assert client.get(BASE).json() == []
    assert client.get(f"{BASE}/demo/models").status_code == 403


@pytest.mark.parametrize("path", ["nowhere/models", "demo/models/none/versions", "demo/channels/none/releases"])
def test_what_does_not_exist_is_404(app, path):
    answer = client_of(factories.user("root", superuser=True)).get(f"{BASE}/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_publish_and_roll_back(app, member):
    client = member(Role.RELEASER)
    for number in (1, 2):
        factories.converted_version(app)
        body = {"model": "digits", "version": number}
        answer = client.post(f"{BASE}/demo/channels/production/releases", body, content_type="application/json")
        assert answer.status_code == 201
        assert (answer.json()["state"], answer.json()["release_counter"]) == ("waiting", number)
    again = client.post(f"{BASE}/demo/channels/production/releases", body, content_type="application/json")
    assert (again.status_code, again.json()["code"]) == (409, "already_released")
    app.channels.get().releases.update(live_revision=1)
    body = {"model": "digits", "reason": "worse"}
    answer = client.post(f"{BASE}/demo/channels/production/rollback", body, content_type="application/json")
    assert (answer.json()["version"], answer.json()["is_rollback"]) == (1, True)


def test_a_version_that_still_converts_cannot_be_published(app, member):
    version = factories.converted_version(app)
    factories.job(version, "tflite-float16")
    body = {"model": "digits", "version": 1}
    answer = member(Role.RELEASER).post(
        f"{BASE}/demo/channels/production/releases", body, content_type="application/json"
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "conversions_unfinished")


def test_an_upload_is_deleted_until_a_version_uses_its_bytes(app, member):
    client = member(Role.EDITOR)
    kept = upload(client, b"bytes").json()["id"]
    twice = upload(client, b"bytes", name="twice.keras").json()["id"]
    assert client.delete(f"{BASE}/demo/uploads/{twice}").status_code == 204
    assert client.get(f"{BASE}/demo/uploads/{twice}").status_code == 404
    entry = AuditEntry.objects.first()
    assert (entry.verb, entry.subject, entry.before["size_bytes"]) == ("delete_upload", "twice.keras", 5)
    artifact = Artifact.objects.get(sha256=hashlib.sha256(b"bytes").hexdigest())
    factories.version(factories.application("other"), evaluation_set=artifact)
    assert client.delete(f"{BASE}/demo/uploads/{upload(client, b'bytes').json()['id']}").status_code == 204
    for role in ("source", "evaluation_set", "training_set"):
        with transaction.atomic():
            version = factories.version(app, **{role: artifact})
            refused = client.delete(f"{BASE}/demo/uploads/{kept}")
            assert (refused.status_code, refused.json()["code"]) == (409, "upload_in_use")
            assert str(version) in refused.json()["detail"]
            transaction.set_rollback(True)


def test_outcomes_of_samples_stand_in_the_single_report_alone(app, member):
    factories.variant(factories.version(app), outcomes={"samples": "0", "outputs": {}})
    client, base = member(Role.VIEWER), f"{BASE}/demo/models/digits/versions/1/variants"
    [listed] = client.get(base).json()
    assert set(client.get(f"{base}/tflite-float32").json()["report"]) - set(listed["report"]) == {"outcomes"}
