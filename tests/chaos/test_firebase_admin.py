"""Google's own firebase-admin against the running system; of the package only its two URL constants are other ones.

Cases that the package's integration tests have too carry their names.
"""

import hashlib
import itertools
import os
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest

from registry import storage_urls
from tests.chaos.stack import HTTP_SECONDS, until
from tests.distribution.firebase.client import ClientError, FirebaseClient

firebase_admin = pytest.importorskip("firebase_admin", reason="needs firebase-admin")
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.database,
    pytest.mark.light,
    # The package tells of its service's end at every call.
    pytest.mark.filterwarnings("ignore"),
]
PROJECT = "firebase-app"  # the package takes 6 to 30 characters
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def project(running_stack):
    """An application beside the demonstration's; the signer signs for it like for any."""
    answer = running_stack.server.http.post(
        f"{running_stack.web_url}/api/v1/applications", json={"slug": PROJECT, "name": "From Firebase"}
    )
    assert answer.status_code == 201, answer.text
    return PROJECT


def credentials_of(token):
    """An API token as Google credentials. What it signs is never looked at: the token is what counts."""
    from google.auth import credentials

    class ApiToken(credentials.Credentials, credentials.Signing):
        signer = None
        signer_email = "aerogram@example.org"

        def refresh(self, request):
            self.token, self.expiry = token, None

        def sign_bytes(self, message):
            return hashlib.sha256(message).digest()

    return ApiToken()


@pytest.fixture
def ml(running_stack, project, monkeypatch):
    """firebase_admin.ml, pointed at this server."""
    from firebase_admin import ml

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", running_stack.web_url)
    monkeypatch.setattr(ml._MLService, "PROJECT_URL", running_stack.web_url + "/v1beta2/projects/{0}/")
    monkeypatch.setattr(ml._MLService, "OPERATION_URL", running_stack.web_url + "/v1beta2/")
    token = running_stack.server.http.headers["Authorization"].removeprefix("Bearer ")
    app = firebase_admin.initialize_app(
        credentials_of(token), {"projectId": project, "storageBucket": f"{project}.appspot.com"}
    )
    yield ml
    firebase_admin.delete_app(app)


@pytest.fixture
def name():
    return f"TestModel123_{next(numbers)}"


@pytest.fixture
def create(ml):
    """Make a model, with a file when a path is given; all are deleted at the end."""
    made = []

    def create(display_name, path=None, tags=None):
        source = ml.TFLiteGCSModelSource.from_tflite_model_file(str(path)) if path else None
        model_format = ml.TFLiteFormat(model_source=source) if source else None
        model = ml.create_model(ml.Model(display_name=display_name, tags=tags, model_format=model_format))
        made.append(model.model_id)
        return model

    yield create
    for model_id in made:
        try:
            ml.delete_model(model_id)
        except firebase_admin.exceptions.NotFoundError:
            continue


@pytest.fixture(params=["android", "ios"])
def phone(running_stack, request):
    with httpx.Client(timeout=HTTP_SECONDS) as http:
        yield FirebaseClient(getter(http), running_stack.device_url, PROJECT, request.param, lambda: datetime.now(UTC))


def getter(http):
    def get(url, headers):
        answer = http.get(url, headers=dict(headers))
        return SimpleNamespace(status=answer.status_code, headers=answer.headers, body=answer.content)

    return get


def refused(kind, call, *arguments):
    with pytest.raises(kind) as caught:
        call(*arguments)
    return str(caught.value)


def test_a_model_lives_from_creation_to_deletion_and_phones_follow(ml, create, phone, running_stack, name, tiny_tflite):
    model = create(name, tiny_tflite, ["from_firebase"])
    assert (model.locked, model.published, model.validation_error) == (False, False, None)
    assert refused(ClientError, phone.info, name)

    assert ml.publish_model(model.model_id).published is True
    ml.get_model(model.model_id).wait_for_unlocked(max_time_seconds=180)
    assert phone.latest(name) == tiny_tflite.read_bytes()
    assert phone.hash == f'"{ml.get_model(model.model_id).model_hash}"'
    assert phone.info(name) is None

    listed = ml.list_models(list_filter="state.published = true AND tags: from_firebase").iterate_all()
    assert [found.display_name for found in listed] == [name]
    model = ml.get_model(model.model_id)
    model.tags = ["from_firebase", "second"]
    assert ml.update_model(model).tags == ["from_firebase", "second"]

    assert ml.unpublish_model(model.model_id).published is False
    until_gone(running_stack, phone, name)
    ml.delete_model(model.model_id)
    assert refused(firebase_admin.exceptions.NotFoundError, ml.get_model, model.model_id)


def until_gone(stack, phone, name):
    def is_gone():
        try:
            phone.info(name)
        except ClientError as error:
            return error.code in {"notFound", "NOT_FOUND"}
        return False

    until(is_gone, f"{name} to leave devices")


def test_an_expired_address_of_the_running_server_is_a_400(running_stack, project):
    key = running_stack.variables["AEROGRAM_URL_KEY"].encode()
    url = f"{running_stack.device_url}/v1beta2/projects/{project}/files/{'0' * 64}/x.tflite"
    now = datetime.now(UTC)
    expired = running_stack.http.get(storage_urls.sign(url, now - timedelta(seconds=2), key))
    in_force = running_stack.http.get(storage_urls.sign(url, now + timedelta(hours=1), key))
    assert (expired.status_code, expired.json()["error"]["code"]) == (400, 400)
    assert in_force.status_code == 404


def test_create_simple_model(create, name):
    model = create(name, tags=["test_tag123"])
    assert (model.display_name, model.tags, model.locked) == (name, ["test_tag123"], False)
    assert None not in (model.model_id, model.create_time, model.update_time, model.etag)
    assert model.validation_error == "No model file has been uploaded."
    assert (model.model_format, model.published, model.model_hash) == (None, False, None)


def test_create_full_model(create, name, tiny_tflite):
    model = create(name, tiny_tflite)
    assert model.validation_error is None
    assert model.model_format.model_source.gcs_tflite_uri.startswith(f"gs://{PROJECT}")
    assert model.model_format.size_bytes == str(tiny_tflite.stat().st_size)
    assert model.model_hash == hashlib.sha256(tiny_tflite.read_bytes()).hexdigest()


def test_create_already_existing_fails(create, ml, name):
    model = create(name)
    told = refused(firebase_admin.exceptions.AlreadyExistsError, ml.create_model, model)
    assert told == f"Model '{name}' already exists"


def test_create_invalid_model(create, name, tmp_path):
    invalid = tmp_path / "invalid_model.tflite"
    invalid.write_bytes(b"no flatbuffer at all")
    model = create(name, invalid)
    assert (model.validation_error, model.published) == ("Invalid flatbuffer format", False)
    assert (model.model_format.size_bytes, model.model_hash) == (None, None)


def test_get_non_existing_model(create, ml, name):
    model = create(name)
    ml.delete_model(model.model_id)
    for call in (ml.get_model, ml.delete_model):
        told = refused(firebase_admin.exceptions.NotFoundError, call, model.model_id)
        assert told == "Requested entity was not found."


def test_update_model(create, ml, name):
    model = create(name)
    model.display_name = f"{name}_new"
    updated = ml.update_model(model)
    assert updated.display_name == f"{name}_new"
    assert ml.update_model(updated).display_name == f"{name}_new"


def test_update_non_existing_model(create, ml, name):
    model = create(name)
    ml.delete_model(model.model_id)
    told = refused(firebase_admin.exceptions.NotFoundError, ml.update_model, model)
    assert told == f"Model 'projects/{PROJECT}/models/{model.model_id}' was not found"


def test_publish_invalid_fails(create, ml, name):
    model = create(name)
    told = refused(firebase_admin.exceptions.FailedPreconditionError, ml.publish_model, model.model_id)
    assert told == "Cannot publish a model that is not verified."


def test_list_models(create, ml, name):
    first, second = create(name), create(f"{name}_2", tags=[f"tag_{name}"])
    found = ml.list_models(list_filter=f"displayName={name} OR tags:tag_{name}", page_size=1)
    assert [model.model_id for model in found.iterate_all()] == [first.model_id, second.model_id]


def test_list_models_invalid_filter(ml):
    told = refused(firebase_admin.exceptions.InvalidArgumentError, ml.list_models, "InvalidFilterParam=123")
    assert told == "Request contains an invalid argument."


@pytest.mark.parametrize("chunk_bytes", [None, 1 << 20])
def test_a_large_file_comes_through_the_packages_own_resumable_upload(ml, running_stack, tmp_path, chunk_bytes):
    """Above 8 MB the package uploads in a session and compares CRC-32C at its end; here also in several pieces."""
    from firebase_admin import storage

    content = os.urandom(9 << 20)
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    blob = storage.bucket().blob(f"large/{chunk_bytes}.bin", chunk_size=chunk_bytes)
    blob.upload_from_filename(str(path))
    blob.reload()
    assert blob.size == len(content)
    uploads = running_stack.server.http.get(f"{running_stack.web_url}/api/v1/applications/{PROJECT}/uploads").json()
    assert hashlib.sha256(content).hexdigest() in {upload["sha256"] for upload in uploads}
    assert re.fullmatch(r"\d+", str(blob.generation))
