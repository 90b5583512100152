"""The Firebase-compatible admin API against real rows and a real store: what firebase-admin relies on."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from distribution import publishing
from distribution import services as distribution_services
from distribution.firebase import services, storage
from distribution.models import FirebaseModel, FirebaseUploadSession, KillSwitch, Release
from registry.models import JobState, ModelVersion, Role
from tests import factories

pytestmark = [pytest.mark.django_db, pytest.mark.light, pytest.mark.usefixtures("services", "own_store")]

MODELS = "/v1beta2/projects/demo/models"
UPLOAD = "/upload/storage/v1/b/demo/o"


@pytest.fixture
def tflite():
    from tests.sdk.tiny_tflite import float_model

    def make(seed=1):
        return float_model(np.arange(12, dtype=np.float32).reshape(3, 4) * seed)

    return make


@pytest.fixture
def call(caller):
    """call(method, path, body, role) -> (status, document), as a member of that role."""
    callers = {}

    def ask(method, path, body=None, role=Role.RELEASER):
        if role not in callers:
            callers[role] = caller(role)
        data = "" if body is None else json.dumps(body)
        answer = callers[role].client.generic(method, path, data, content_type="application/json")
        return answer.status_code, answer.json()

    ask.callers = callers
    return ask


@pytest.fixture
def put(call, caller):
    """Put an object by the simplest of the three ways; gives its gs:// address."""

    def put(content, name="Firebase/ML/Models/tiny.tflite"):
        callers = call.callers
        if Role.RELEASER not in callers:
            callers[Role.RELEASER] = caller(Role.RELEASER)
        url = f"{UPLOAD}?uploadType=media&name={name}"
        answer = callers[Role.RELEASER].client.post(url, content, content_type="application/octet-stream")
        assert answer.status_code == 200, answer.content
        return f"gs://demo/{name}"

    return put


@pytest.fixture
def made(call):
    def made(name="digits", **members):
        status, operation = call("POST", MODELS, {"displayName": name, **members})
        assert (status, operation["done"]) == (200, True), operation
        return operation["response"]

    return made


def at(model):
    return f"/v1beta2/{model['name']}"


def converted(model):
    """What the workers do, without them."""
    version = FirebaseModel.objects.get(model_id=model["name"].rpartition("/")[2]).version
    version.jobs.update(state=JobState.SUCCEEDED)
    if not version.variants.exists():
        factories.variant(version, "tflite-as-is")
    return version


def live():
    """What the publisher and the publishing task do."""
    now = datetime.now(UTC)
    Release.objects.filter(state=Release.State.WAITING).update(state=Release.State.LIVE, live_revision=1)
    from registry.models import PublishRequest

    PublishRequest.objects.update(consumed_at=now)


def publish(call, model, *, published=True):
    return call("PATCH", f"{at(model)}?updateMask=state.published", {"state": {"published": published}})


class TestModels:
    def test_one_without_a_file_is_made_at_once_and_not_verified(self, made):
        model = made(tags=["a_1", "b-2"])
        assert re.fullmatch(r"projects/demo/models/[A-Za-z0-9_-]{1,60}", model["name"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", model["createTime"])
        assert (model["displayName"], model["tags"]) == ("digits", ["a_1", "b-2"])
        expected = {"code": 3, "message": "No model file has been uploaded."}
        assert model["state"] == {"published": False, "validationError": expected}
        assert "tfliteModel" not in model

    def test_one_with_a_file_is_a_version_of_the_registered_model_of_its_name(self, made, put, tflite):
        model = made("Mobile_Net", tfliteModel={"gcsTfliteUri": put(tflite())})
        version = ModelVersion.objects.get()
        assert version.model.slug == "mobile-net-6ea1b941"
        assert model["modelHash"] == version.source.sha256
        assert model["tfliteModel"]["sizeBytes"] == str(len(tflite()))
        assert model["tfliteModel"]["gcsTfliteUri"] == "gs://demo/Firebase/ML/Models/tiny.tflite"
        assert "activeOperations" not in model
        assert set(version.jobs.values_list("recipe", flat=True)) == {"trace", "tflite-as-is", "tflite-repaired"}

    def test_bytes_that_are_no_tflite_make_a_model_with_a_validation_error(self, made, put):
        model = made(tfliteModel={"gcsTfliteUri": put(b"no flatbuffer")})
        error = model["state"]["validationError"]
        assert (error["code"], error["message"]) == (3, "Invalid flatbuffer format")
        assert error["details"][0]["detail"]
        assert "modelHash" not in model
        assert "sizeBytes" not in model["tfliteModel"]

    def test_a_second_one_of_the_name_is_refused(self, call, made):
        made()
        status, answer = call("POST", MODELS, {"displayName": "digits"})
        assert (status, answer["error"]["status"]) == (409, "ALREADY_EXISTS")
        assert answer["error"]["message"] == "Model 'digits' already exists"

    def test_a_name_that_would_share_the_registered_model_is_refused(self, call, made):
        made("Mobile_Net")
        assert call("POST", MODELS, {"displayName": "mobile-net-6ea1b941"})[0] == 409

    @pytest.mark.parametrize(
        "body",
        [
            [],
            {},
            {"displayName": ""},
            {"displayName": "a" * 33},
            {"displayName": "a b"},
            {"displayName": 3},
            {"displayName": "ok", "tags": "a"},
            {"displayName": "ok", "tags": ["a b"]},
            {"displayName": "ok", "tfliteModel": {"gcsTfliteUri": 3}},
            {"displayName": "ok", "tfliteModel": {"gcsTfliteUri": "file:///etc/passwd"}},
            {"displayName": "ok", "tfliteModel": {"gcsTfliteUri": "gs://demo/nothing.tflite"}},
            {"displayName": "ok", "tfliteModel": {"gcsTfliteUri": "gs://other/tiny.tflite"}},
        ],
    )
    def test_what_is_not_as_documented_is_refused_in_googles_shape(self, call, body):
        status, answer = call("POST", MODELS, body)
        error = answer["error"]
        assert (status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
        assert "expected" in error["details"][0]["detail"]
        assert FirebaseModel.objects.count() == 0

    def test_get_and_delete(self, call, made):
        model = made()
        shown = {name: value for name, value in model.items() if name != "@type"}
        assert call("GET", at(model)) == (200, shown)
        assert call("DELETE", at(model)) == (200, {})
        for method in ("GET", "DELETE"):
            status, answer = call(method, at(model))
            assert (status, answer["error"]["message"]) == (404, "Requested entity was not found.")
        status, answer = call("PATCH", at(model), {"tags": []})
        assert (status, answer["error"]["message"]) == (404, f"Model '{model['name']}' was not found")

    def test_an_upload_of_the_rest_api_is_an_object_too(self, made, put, tflite, app):
        put(tflite())
        upload = app.uploads.get()
        by_id = made("by_id", tfliteModel={"gcsTfliteUri": f"gs://demo.appspot.com/uploads/{upload.pk}"})
        by_name = made("by_name", tfliteModel={"gcsTfliteUri": "gs://demo/tiny.tflite"})
        assert by_id["modelHash"] == by_name["modelHash"] == upload.artifact.sha256

    def test_a_signed_address_names_the_object_and_is_never_fetched(self, made, put, tflite):
        put(tflite())
        url = "http://127.0.0.1:9/demo/Firebase/ML/Models/tiny.tflite?X-Goog-Signature=00"
        assert made(tfliteModel={"gcsTfliteUri": url})["tfliteModel"]["gcsTfliteUri"].startswith("gs://demo/Firebase")


class TestUpdates:
    def test_without_a_mask_the_members_of_the_body(self, call, made):
        model = made(tags=["old"])
        body = {**model, "displayName": "numbers", "state": {"published": True}}
        status, operation = call("PATCH", at(model), body)
        changed = operation["response"]
        assert (status, changed["displayName"], changed["tags"]) == (200, "numbers", ["old"])
        assert changed["state"]["published"] is False
        assert changed["etag"] != model["etag"]

    def test_a_mask_says_which(self, call, made):
        model = made(tags=["old"])
        body = {"displayName": "numbers", "tags": ["new"]}
        for mask in ("tags", "displayName", "display_name,tags"):
            status, operation = call("PATCH", f"{at(model)}?updateMask={mask}", body)
            assert (status, operation["done"]) == (200, True)
        assert operation["response"]["displayName"] == "numbers"
        assert call("PATCH", f"{at(model)}?updateMask=name", body)[0] == 400

    def test_a_file_for_a_model_that_has_none(self, call, made, put, tflite):
        model = made()
        body = {"tfliteModel": {"gcsTfliteUri": put(tflite())}}
        _, operation = call("PATCH", f"{at(model)}?updateMask=tfliteModel.gcsTfliteUri", body)
        assert operation["response"]["modelHash"] == ModelVersion.objects.get().source.sha256
        assert "validationError" not in operation["response"]["state"]

    def test_the_same_bytes_again_make_no_second_version(self, call, made, put, tflite):
        model = made(tfliteModel={"gcsTfliteUri": put(tflite())})
        call("PATCH", f"{at(model)}?updateMask=tfliteModel", {"tfliteModel": {"gcsTfliteUri": put(tflite())}})
        assert ModelVersion.objects.count() == 1


class TestPublishing:
    @pytest.fixture
    def model(self, made, put, tflite):
        return made(tfliteModel={"gcsTfliteUri": put(tflite())})

    def test_is_an_operation_that_waits_for_conversion_release_and_signature(self, call, model):
        status, operation = publish(call, model)
        assert (status, operation["done"]) == (200, False)
        assert operation["metadata"]["@type"].endswith("ModelOperationMetadata")
        assert operation["metadata"]["name"] == model["name"]
        shown = call("GET", at(model))[1]
        assert shown["state"]["published"] is True
        assert [active["name"] for active in shown["activeOperations"]] == [operation["name"]]
        assert Release.objects.count() == 0
        converted(model)
        services.settle_pending(now=datetime.now(UTC))
        assert Release.objects.get().state == Release.State.WAITING
        assert call("GET", f"/v1beta2/{operation['name']}")[1]["done"] is False
        live()
        ended = call("GET", f"/v1beta2/{operation['name']}")[1]
        assert (ended["done"], ended["response"]["displayName"]) == (True, "digits")
        assert ended["response"]["@type"].endswith("v1beta2.Model")
        assert Release.objects.count() == 1

    def test_of_a_model_without_a_file_is_refused(self, call, made):
        status, answer = publish(call, made("empty"))
        assert (status, answer["error"]["status"]) == (400, "FAILED_PRECONDITION")
        assert answer["error"]["message"] == "Cannot publish a model that is not verified."

    def test_a_conversion_that_failed_ends_the_operation_with_an_error(self, call, model):
        operation = publish(call, model)[1]
        ModelVersion.objects.get().jobs.update(state=JobState.FAILED)
        ended = call("GET", f"/v1beta2/{operation['name']}")[1]
        assert (ended["done"], ended["error"]["code"]) == (True, 9)
        assert "response" not in ended
        assert call("GET", at(model))[1]["state"]["published"] is False

    def test_unpublish_engages_the_kill_switch_and_publish_lifts_it(self, call, model):
        converted(model)
        publish(call, model)
        live()
        status, operation = publish(call, model, published=False)
        assert (status, operation["done"]) == (200, True)
        assert operation["response"]["state"]["published"] is False
        assert KillSwitch.objects.get().reason == services.UNPUBLISHED
        publish(call, model)
        assert KillSwitch.objects.get().lifted_at is not None
        assert Release.objects.count() == 1

    def test_publish_again_is_done_once_the_lift_is_at_devices(self, call, model):
        converted(model)
        publish(call, model)
        live()
        publish(call, model, published=False)
        live()
        operation = publish(call, model)[1]
        assert operation["done"] is False
        live()
        assert call("GET", f"/v1beta2/{operation['name']}")[1]["done"] is True

    def test_an_operators_kill_switch_is_not_lifted_from_outside(self, call, model, app):
        version = converted(model)
        publish(call, model)
        channel = app.channels.get()
        distribution_services.engage_kill_switch(
            channel=channel, model=version.model, actor="ada", now=factories.NOW, reason="overheats"
        )
        status, operation = publish(call, model)
        assert (status, operation["error"]["code"]) == (200, 9)
        assert KillSwitch.objects.get().lifted_at is None

    def test_a_new_file_of_a_published_model_is_released(self, call, model, put, tflite):
        converted(model)
        publish(call, model)
        live()
        body = {"tfliteModel": {"gcsTfliteUri": put(tflite(2))}}
        operation = call("PATCH", f"{at(model)}?updateMask=tfliteModel", body)[1]
        assert operation["done"] is False
        converted(model)
        services.settle_pending(now=datetime.now(UTC))
        assert [release.model_version.number for release in Release.objects.all()] == [2, 1]

    def test_a_new_name_takes_the_bytes_along_and_the_former_name_from_devices(self, call, model):
        converted(model)
        publish(call, model)
        live()
        call("PATCH", f"{at(model)}?updateMask=displayName", {"displayName": "numbers"})
        converted(model)
        services.settle_pending(now=datetime.now(UTC))
        assert KillSwitch.objects.get(lifted_at=None).model.slug == "digits"
        assert Release.objects.first().model_version.model.slug == "numbers"

    def test_delete_takes_the_model_from_devices_and_a_new_one_of_the_name_goes_on(
        self, call, made, model, put, tflite
    ):
        converted(model)
        publish(call, model)
        call("DELETE", at(model))
        assert KillSwitch.objects.get().lifted_at is None
        again = made(tfliteModel={"gcsTfliteUri": put(tflite(2))})
        assert again["name"] != model["name"]
        assert ModelVersion.objects.count() == 2
        converted(again)
        publish(call, again)
        assert KillSwitch.objects.get().lifted_at is not None

    def test_what_devices_get_takes_a_releaser(self, call, model):
        for method, path, body in [
            ("PATCH", f"{at(model)}?updateMask=state.published", {"state": {"published": True}}),
            ("DELETE", at(model), None),
        ]:
            status, answer = call(method, path, body, Role.EDITOR)
            assert (status, answer["error"]["status"]) == (403, "PERMISSION_DENIED")
        publish(call, model)
        assert call("PATCH", at(model), {"tags": ["a"]}, Role.EDITOR)[0] == 200
        assert call("PATCH", at(model), {"displayName": "b"}, Role.EDITOR)[0] == 403
        assert call("POST", MODELS, {"displayName": "c"}, Role.VIEWER)[0] == 403

    def test_where_others_must_approve_the_operation_says_so_and_nothing_is_served(self, call, model, put, tflite, app):
        converted(model)
        publish(call, model)
        publish(call, model, published=False)
        settings = distribution_services.settings_of(app.channels.get())
        settings.approvals_required = 1
        settings.save()
        for file in (tflite(), tflite(2)):
            body = {"tfliteModel": {"gcsTfliteUri": put(file)}}
            call("PATCH", f"{at(model)}?updateMask=tfliteModel", body)
            converted(model)
            _, operation = publish(call, model)
            assert operation["error"]["code"] == 9
            assert "others must approve" in operation["error"]["message"]
            assert KillSwitch.objects.get().lifted_at is None
        assert Release.objects.count() == 1
        assert call("GET", at(model))[1]["state"]["published"] is False

    def test_an_application_without_the_channel_says_so(self, call, model, settings):
        settings.AEROGRAM_FIREBASE_CHANNEL = "firebase"
        converted(model)
        _, operation = publish(call, model)
        assert "AEROGRAM_FIREBASE_CHANNEL" in operation["error"]["message"]

    def test_a_publish_is_really_at_devices_once_the_signer_has_signed(self, call, model, app, tmp_path):
        from distribution.models import FirebaseOperation
        from distribution.trust.keys import KeyFolder
        from distribution.trust.publisher import sign_pending
        from distribution.trust.signers import Keyring

        clock = factories.Clock(datetime.now(UTC))
        converted(model)
        publish(call, model)
        for _ in range(2):
            publishing.publish_application(app, clock=clock)
            sign_pending(application=app, keys=Keyring({}, KeyFolder(tmp_path / "publisher")), now=clock())
        publishing.publish_application(app, clock=clock)
        services.settle_pending(now=clock())
        assert FirebaseOperation.objects.get().done_at is not None


class TestLists:
    @pytest.fixture
    def models(self, made):
        return [made(f"model_{index}", tags=["even"] if index % 2 == 0 else []) for index in range(5)]

    def names(self, call, query=""):
        status, answer = call("GET", f"{MODELS}{query}")
        assert status == 200, answer
        return [model["displayName"] for model in answer["models"]], answer.get("nextPageToken")

    def test_all_in_pages(self, call, models):
        first, token = self.names(call, "?page_size=2")
        second, token = self.names(call, f"?page_size=2&page_token={token}")
        third, token = self.names(call, f"?pageSize=2&pageToken={token}")
        assert (first + second + third, token) == ([f"model_{index}" for index in range(5)], None)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("display_name = model_3", [3]),
            ("displayName=model_3 OR tags:even", [0, 2, 3, 4]),
            ("display_name : model_*", [0, 1, 2, 3, 4]),
            ('tags: "even" AND display_name : model_4*', [4]),
            ("state.published = true", []),
            ("state.published = false AND tags:even", [0, 2, 4]),
        ],
    )
    def test_filters(self, call, models, text, expected):
        from urllib.parse import quote

        assert self.names(call, f"?filter={quote(text)}")[0] == [f"model_{index}" for index in expected]

    @pytest.mark.parametrize(
        "query",
        [
            "filter=InvalidFilterParam=123",
            "filter=tags",
            "filter=tags=a",
            "filter=tags:a%20XOR%20tags:b",
            "filter=state.published=maybe",
            "filter=display_name:a*b",
            "page_size=0",
            "page_size=101",
            "page_size=x",
            "page_token=x",
        ],
    )
    def test_refusals(self, call, query):
        status, answer = call("GET", f"{MODELS}?{query}")
        assert (status, answer["error"]["message"]) == (400, "Request contains an invalid argument.")


class TestStorage:
    def client(self, call, caller):
        call.callers.setdefault(Role.EDITOR, None)
        if call.callers[Role.EDITOR] is None:
            call.callers[Role.EDITOR] = caller(Role.EDITOR)
        return call.callers[Role.EDITOR].client

    def test_multipart_keeps_any_bytes(self, call, caller, app):
        client = self.client(call, caller)
        content = b"\r\n--not the boundary\r\n\r\n\x00\xff--\r\n"
        body = (
            b'--===1==\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{"name": "a/b.tflite"}\r\n'
            b"--===1==\r\ncontent-type: application/octet-stream\r\n\r\n" + content + b"\r\n--===1==--"
        )
        answer = client.generic(
            "POST", f"{UPLOAD}?uploadType=multipart", body, content_type='multipart/related; boundary="===1=="'
        )
        document = answer.json()
        assert (answer.status_code, document["name"], document["size"]) == (200, "a/b.tflite", str(len(content)))
        upload = storage.find_upload(app, "a/b.tflite")
        assert upload.file_name == "b.tflite"
        assert client.get("/storage/v1/b/demo/o/a/b.tflite").json() == document

    def test_resumable_in_pieces_with_a_question_in_between(self, call, caller, app):
        client = self.client(call, caller)
        begun = client.post(f"{UPLOAD}?uploadType=resumable", b'{"name": "big"}', content_type="application/json")
        where = begun.headers["Location"].removeprefix("http://testserver")

        def send(piece, content_range):
            return client.put(
                where, piece, content_type="application/octet-stream", headers={"Content-Range": content_range}
            )

        first = send(b"first ", "bytes 0-5/12")
        assert (first.status_code, first.headers["Range"]) == (308, "bytes=0-5")
        asked = send(b"", "bytes */12")
        assert (asked.status_code, asked.headers["Range"]) == (308, "bytes=0-5")
        assert send(b"again!", "bytes 0-5/12").status_code == 400
        last = send(b"second", "bytes 6-11/12")
        assert (last.status_code, last.json()["size"]) == (200, "12")
        assert base64.b64decode(last.json()["crc32c"]).hex() == f"{crc32c_bitwise(b'first second'):08x}"
        assert FirebaseUploadSession.objects.count() == 0
        assert send(b"", "bytes */12").status_code == 404

    def test_a_forgotten_session_goes_after_a_day(self, app):
        storage.begin_session(application=app, name="x", now=factories.NOW)
        storage.forget_sessions(now=factories.NOW + timedelta(hours=23))
        assert FirebaseUploadSession.objects.count() == 1
        storage.forget_sessions(now=factories.NOW + timedelta(hours=25))
        assert FirebaseUploadSession.objects.count() == 0

    def test_an_object_is_replaced_by_its_name(self, put, app):
        put(b"one", "x")
        put(b"two!", "x")
        assert storage.find_upload(app, "x").artifact.size_bytes == 4

    @pytest.mark.parametrize("query", ["uploadType=media", "uploadType=other", "uploadType=multipart", ""])
    def test_refusals(self, call, caller, query):
        answer = self.client(call, caller).post(f"{UPLOAD}?{query}", b"x", content_type="text/plain")
        assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")

    def test_somebody_elses_bucket(self, call, caller):
        client = self.client(call, caller)
        factories.application("others")
        assert client.get("/storage/v1/b/others").status_code == 403
        assert client.get("/storage/v1/b/nobody").status_code == 404
        assert client.get("/storage/v1/b/demo.firebasestorage.app").json()["name"] == "demo.firebasestorage.app"


def test_without_a_token_nothing_is_told(client, app):
    for path in (MODELS, "/storage/v1/b/demo", "/v1beta2/projects/demo/operations/1"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


def test_a_method_that_is_none_of_these(call, app):
    status, answer = call("PUT", MODELS)
    assert (status, answer["error"]["code"]) == (405, 405)


def crc32c_bitwise(data):
    """RFC 3720 by the letter, bit by bit."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF
