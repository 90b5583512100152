"""A creation that is sent twice is done once; and never half."""

import threading

import pytest
from django.db import connection

from registry.api import idempotency
from registry.models import AuditEntry, Channel, IdempotencyKey
from tests import factories

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]


def test_the_same_request_gets_the_same_answer(app, administrator):
    first = administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key="k1")
    again = administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.filter(subject="demo/beta").count() == 1


def test_a_replay_carries_the_etag(app, administrator):
    body = {"slug": "digits"}
    tags = {administrator("POST", "models", body, Idempotency_Key="k")["ETag"] for _ in range(2)}
    assert len(tags) == 1


def test_another_body_or_address_under_the_same_key_is_refused(app, administrator):
    administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key="k1")
    for path in ("channels", "models"):
        answer = administrator("POST", path, {"slug": "gamma"}, Idempotency_Key="k1")
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert not Channel.objects.filter(slug="gamma").exists()


def test_keys_of_different_tokens_do_not_meet(app, caller, administrator, root):
    administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key="k")
    assert root("POST", "channels", {"slug": "gamma"}, Idempotency_Key="k").status_code == 201


def test_a_refusal_is_judged_anew(app, administrator):
    assert administrator("POST", "channels", {"slug": "production"}, Idempotency_Key="k").status_code == 409
    assert not IdempotencyKey.objects.exists()
    app.channels.all().delete()
    assert administrator("POST", "channels", {"slug": "production"}, Idempotency_Key="k").status_code == 201


def test_a_failure_after_the_work_leaves_neither_work_nor_key(app, administrator, monkeypatch):
    def fail(*_arguments):
        raise KeyError

    administrator.client.raise_request_exception = False
    with monkeypatch.context() as patch:
        patch.setattr(idempotency, "_keep", fail)
        assert administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key="k").status_code == 500
    assert not Channel.objects.filter(slug="beta").exists()
    assert administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key="k").status_code == 201


def test_two_at_once_make_one(app, administrator):
    answers = []

    def send():
        answers.append(administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key="k").status_code)
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 4
    assert Channel.objects.filter(slug="beta").count() == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "\x7f"])
def test_a_key_is_short_and_printable(app, administrator, key):
    answer = administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key=key)
    assert (answer.status_code, answer.json()["field"]) == (400, "Idempotency-Key")


def test_an_upload_is_known_by_its_digest(app, administrator):
    def upload(content, query):
        path = f"/api/v1/applications/demo/uploads?file_name=x.keras{query}"
        headers = {"Idempotency-Key": "k"}
        return administrator.client.post(path, content, content_type="application/octet-stream", headers=headers)

    import hashlib

    digest = f"&sha256={hashlib.sha256(b'bytes').hexdigest()}"
    assert upload(b"bytes", "").json()["field"] == "sha256"
    assert upload(b"bytes", digest).json()["id"] == upload(b"bytes", digest).json()["id"]
    assert app.uploads.count() == 1
    other = f"&sha256={hashlib.sha256(b'other').hexdigest()}"
    assert upload(b"other", other).json()["code"] == "idempotency_key_reused"


def test_old_keys_are_forgotten(app, administrator):
    administrator("POST", "channels", {"slug": "beta"}, Idempotency_Key="old")
    IdempotencyKey.objects.update(created_at=factories.NOW.replace(year=2020))
    administrator("POST", "channels", {"slug": "gamma"}, Idempotency_Key="new")
    assert [row.key for row in IdempotencyKey.objects.all()] == ["new"]
