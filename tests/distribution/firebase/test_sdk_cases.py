"""Cases of the SDKs' own test suites, played against our answers. The ids are the names the suites give them.

Android: CustomModelDownloadServiceTest; iOS: ModelDownloaderUnitTests. Both suites feed their client recorded answers;
here our client, which follows the same rules, gets what this server says. Where a suite's case is about an answer that
this server never gives (500, 403 for metadata, 429), it gets one in the shape in which ours would come.
"""

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from distribution.firebase import wire
from tests.distribution.firebase.client import ClientError, FirebaseClient, android_time, ios_time
from tests.distribution.firebase.conftest import BASE, WEIGHTS


def refusal(status, word):
    body = json.dumps(wire.error_body(status, word, "told")).encode()
    return SimpleNamespace(status=status, headers={}, body=body)


def client_of(ask, clock, platform, answer=None):
    return FirebaseClient((lambda _url, _headers: answer) if answer else ask, BASE, "demo", platform, clock)


def code_of(call, *arguments):
    with pytest.raises(ClientError) as caught:
        call(*arguments)
    return caught.value.code


class TestAndroidCustomModelDownloadService:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("2020-11-04T17:56:34.215Z", 1604512594215, id="parseTokenExpirationTimestamp_successful"),
            pytest.param("2345", 0, id="parseTokenExpirationTimestamp_failed"),
            pytest.param("2020-11-04T17:56:34Z", 0, id="no_fraction"),
            pytest.param("2020-11-04T17:56:34.215+00:00", 0, id="numeric_offset"),
            pytest.param("2020-11-04T17:56:34.215000Z", 1604512594000 + 215_000, id="six_digits_are_minutes"),
        ],
    )
    def test_times(self, text, expected):
        assert android_time(text) == expected

    @pytest.mark.parametrize(
        ("left_out", "stored"),
        [
            pytest.param((), None, id="downloadService_noHashSuccess"),
            pytest.param(("X-Android-Cert",), None, id="downloadService_fingerPrintHashNull_NoCertHeader"),
            pytest.param((), '"another hash"', id="downloadService_withHashSuccess_noMatch"),
        ],
    )
    def test_success(self, ask, clock, left_out, stored):
        def get(url, headers):
            given = {"X-Android-Cert": "AB" * 20, **headers}
            return ask(url, {name: value for name, value in given.items() if name not in left_out})

        client = client_of(get, clock, "android")
        client.hash = stored
        info = client.info("digits")
        assert (info.size_bytes, client.download("digits", info)) == (len(WEIGHTS), WEIGHTS)
        assert info.expires_ms == int((clock() + timedelta(hours=1)).timestamp()) * 1000

    @pytest.mark.parametrize("model", [pytest.param("digits", id="downloadService_withHashSuccess_match")])
    def test_match(self, ask, clock, model):
        client = client_of(ask, clock, "android")
        client.hash = client.info(model).model_hash
        assert client.info(model) is None

    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            pytest.param("unknown", "NOT_FOUND", id="downloadService_modelNotFound"),
            pytest.param("a b", "INVALID_ARGUMENT", id="downloadService_badRequest"),
        ],
    )
    def test_refusals_of_this_server(self, ask, clock, model, expected):
        assert code_of(client_of(ask, clock, "android").info, model) == expected

    @pytest.mark.parametrize(
        ("status", "word", "expected"),
        [
            pytest.param(403, "PERMISSION_DENIED", "PERMISSION_DENIED", id="downloadService_forbidden"),
            pytest.param(500, "INTERNAL", "INTERNAL", id="downloadService_internalError"),
            pytest.param(429, "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", id="downloadService_tooManyRequest"),
            pytest.param(401, "UNAUTHENTICATED", "PERMISSION_DENIED", id="downloadService_authenticationIssue"),
        ],
    )
    def test_other_refusals(self, ask, clock, status, word, expected):
        assert code_of(client_of(ask, clock, "android", refusal(status, word)).info, "digits") == expected


class TestIosModelDownloader:
    def test_times_need_a_fraction(self):
        assert ios_time("2020-11-04T17:56:34.215Z") == 1604512594215
        assert code_of(ios_time, "2020-11-04T17:56:34Z") == "internalError"

    @pytest.mark.parametrize("model", [pytest.param("digits", id="testGetModelInfoWith200")])
    def test_info(self, ask, clock, model):
        info = client_of(ask, clock, "ios").info(model)
        assert (info.size_bytes, info.url.startswith(BASE)) == (len(WEIGHTS), True)

    @pytest.mark.parametrize(
        ("kept", "expected"),
        [
            pytest.param(lambda tag: tag, None, id="testGetModelInfoWith304"),
            pytest.param(
                lambda _: None, "Model info was deleted unexpectedly.", id="testGetModelInfoWith304MissingLocalInfo"
            ),
            pytest.param(lambda _: '"other"', "Unexpected model hash value.", id="testGetModelInfoWith304HashMismatch"),
        ],
    )
    def test_not_modified(self, ask, clock, kept, expected):
        """The server's own 304, read by a phone whose record changed between asking and being answered."""
        tag = client_of(ask, clock, "ios").info("digits").model_hash
        client = client_of(lambda url, headers: ask(url, {**headers, "if-none-match": tag}), clock, "ios")
        client.hash = kept(tag)
        if expected is None:
            assert client.info("digits") is None
        else:
            with pytest.raises(ClientError, match=expected):
                client.info("digits")

    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            pytest.param("a b", "invalidArgument", id="testGetModelInfoWith400"),
            pytest.param("unknown", "notFound", id="testGetModelInfoWith404"),
        ],
    )
    def test_refusals_of_this_server(self, ask, clock, model, expected):
        assert code_of(client_of(ask, clock, "ios").info, model) == expected

    @pytest.mark.parametrize(
        ("status", "word", "expected"),
        [
            pytest.param(403, "PERMISSION_DENIED", "permissionDenied", id="testGetModelInfoWith403"),
            pytest.param(429, "RESOURCE_EXHAUSTED", "resourceExhausted", id="testGetModelInfoWith429"),
        ],
    )
    def test_other_refusals(self, ask, clock, status, word, expected):
        assert code_of(client_of(ask, clock, "ios", refusal(status, word)).info, "digits") == expected

    @pytest.mark.parametrize("model", [pytest.param("digits", id="testModelDownloadWith200")])
    def test_file(self, ask, clock, model):
        client = client_of(ask, clock, "ios")
        assert client.download(model, client.info(model)) == WEIGHTS

    @pytest.mark.parametrize(
        ("hours", "alter", "refetches", "expected"),
        [
            pytest.param(2, str, 1, "expired", id="testModelDownloadWith400Expired"),
            pytest.param(0, lambda url: url.replace("/files/", "/file/"), 0, "notFound", id="testModelDownloadWith404"),
            pytest.param(0, lambda url: url + "0", 0, "permissionDenied", id="testGetModelUnauthorized"),
        ],
    )
    def test_file_refusals(self, ask, clock, hours, alter, refetches, expected):
        client = client_of(ask, clock, "ios")
        info = client.info("digits")
        client.refetches = refetches
        clock.advance(hours=hours)
        assert code_of(client.download, "digits", replace(info, url=alter(info.url))) == expected

    @pytest.mark.parametrize("word", [pytest.param("INVALID_ARGUMENT", id="testModelDownloadWith400Invalid")])
    def test_a_400_within_the_addresss_life_is_no_expiry(self, ask, clock, word):
        client = client_of(ask, clock, "ios")
        info = client.info("digits")
        client.get = lambda _url, _headers: refusal(400, word)
        assert code_of(client.download, "digits", info) == "invalidArgument"

    @pytest.mark.parametrize("model", [pytest.param("digits", id="testGetModelSuccessfulRetry")])
    def test_retry(self, ask, clock, model):
        client = client_of(ask, clock, "ios")
        info = client.info(model)
        clock.advance(hours=2)
        assert (client.download(model, info), client.refetches) == (WEIGHTS, 1)

    @pytest.mark.parametrize("model", [pytest.param("digits", id="testGetModelFailedRetry")])
    def test_failed_retry(self, ask, clock, plane, model):
        plane.facade = replace(plane.facade, lifetime=timedelta(seconds=-1))
        client = client_of(ask, clock, "ios")
        assert code_of(client.download, model, client.info(model)) == "expired"
