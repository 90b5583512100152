"""The download route of the device plane, read with the rules of both SDKs."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest

from distribution.device_plane.firebase import Facade
from registry import storage_urls
from registry.device_classes import DeviceClass, Selector
from tests.distribution.firebase.client import ClientError, FirebaseClient, android_time, ios_time, read_android
from tests.distribution.firebase.conftest import BASE, KEY, WEIGHTS
from tests.simulators import NOW

PATH = "/v1beta2/projects/demo/models/digits:download"
HASH = f'"{sha256(WEIGHTS).hexdigest()}"'


def test_a_client_of_either_platform_downloads_the_model_and_then_keeps_it(phone):
    assert phone.latest("digits") == WEIGHTS
    assert phone.hash == HASH
    assert phone.info("digits") is None
    assert phone.latest("digits") == WEIGHTS


def test_a_new_release_reaches_a_client_that_has_the_old_one(phone, plane, published):
    phone.latest("digits")
    published.release("digits", 2, {"tflite-as-is": {"model.tflite": b"better weights"}})
    published.publish()
    plane.applications.refresh()
    assert phone.latest("digits") == b"better weights"


class TestLaws:
    def test_expire_time_has_three_digits_and_z_whatever_the_clock_says(self, device, clock):
        clock.advance(microseconds=123_456)
        text = device.get(PATH).document["expireTime"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
        expected = int((NOW + timedelta(hours=1)).timestamp()) * 1000
        assert android_time(text) == ios_time(text) == expected

    def test_size_is_a_string_of_digits(self, device):
        assert device.get(PATH).document["sizeBytes"] == str(len(WEIGHTS))

    def test_the_etag_is_the_models_hash_and_the_same_bytes_on_200_and_304(self, device):
        first = device.get(PATH, accept_encoding="gzip, br")
        second = device.get(PATH, if_none_match=first.headers["etag"], accept_encoding="gzip, br")
        assert (first.status, first.headers["etag"]) == (200, HASH)
        assert (second.status, second.headers["etag"], second.body) == (304, HASH, b"")
        assert "content-encoding" not in first.headers

    @pytest.mark.parametrize("stored", [HASH, HASH.strip('"'), f"W/{HASH}"])
    def test_a_304_gives_back_the_spelling_that_the_phone_has_stored(self, device, stored):
        answer = device.get(PATH, if_none_match=stored)
        assert (answer.status, answer.headers["etag"]) == (304, stored)

    def test_another_hash_in_hand_is_answered_in_full(self, device):
        assert device.get(PATH, if_none_match='"' + "0" * 64 + '"').status == 200

    def test_an_expired_address_is_a_400_and_nothing_else(self, device, clock):
        url = device.get(PATH).document["downloadUri"].removeprefix(BASE)
        clock.advance(hours=1, seconds=-1)
        assert device.get(url).status == 200
        clock.advance(seconds=1)
        answer = device.get(url)
        assert answer.status == 400
        assert answer.document["error"]["status"] == "INVALID_ARGUMENT"

    def test_the_address_expires_when_it_says(self, device):
        document = device.get(PATH).document
        stated = int(re.search(r"expires=(\d+)", document["downloadUri"])[1])
        assert android_time(document["expireTime"]) == stated * 1000

    @pytest.mark.parametrize("name", ["signature", "expires"])
    def test_an_altered_address_is_a_403(self, device, clock, name):
        url = device.get(PATH).document["downloadUri"].removeprefix(BASE)
        altered = re.sub(rf"({name}=)(.)", lambda found: found[1] + ("1" if found[2] == "0" else "0"), url)
        clock.advance(days=400)
        assert (altered != url, device.get(altered).status) == (True, 403)

    def test_an_address_names_one_file_of_one_application(self, device):
        url = device.get(PATH).document["downloadUri"].removeprefix(BASE)
        other = sha256(b"other").hexdigest()
        assert device.get(url.replace(HASH.strip('"'), other)).status == 403

    def test_nothing_is_compressed_chunked_or_cached(self, device):
        answer = device.get(PATH, accept_encoding="gzip")
        assert answer.headers["content-length"] == str(len(answer.body))
        assert answer.headers["cache-control"] == "no-store, no-transform"
        file = device.get(answer.document["downloadUri"].removeprefix(BASE), accept_encoding="gzip")
        assert file.headers["content-length"] == str(len(WEIGHTS))
        assert "content-encoding" not in file.headers

    def test_a_file_is_resumed_by_range(self, device):
        url = device.get(PATH).document["downloadUri"].removeprefix(BASE)
        rest = device.get(url, range="bytes=7-")
        assert (rest.status, rest.body) == (206, WEIGHTS[7:])


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "status", "word"),
        [
            ("/v1beta2/projects/demo/models/unknown:download", 404, "NOT_FOUND"),
            ("/v1beta2/projects/other/models/digits:download", 404, "NOT_FOUND"),
            ("/v1beta2/projects/demo/models/digits", 404, "NOT_FOUND"),
            ("/v1beta2/projects/demo/models/a%20b:download", 400, "INVALID_ARGUMENT"),
            ("/v1beta2/projects/demo/models/:download", 400, "INVALID_ARGUMENT"),
            (f"/v1beta2/projects/demo/models/{'a' * 33}:download", 400, "INVALID_ARGUMENT"),
        ],
    )
    def test_have_googles_shape(self, device, path, status, word):
        answer = device.get(path)
        error = answer.document["error"]
        assert (answer.status, error["code"], error["status"]) == (status, status, word)
        assert error["message"]
        with pytest.raises(ClientError) as caught:
            read_android(answer)
        assert caught.value.code == word

    def test_other_methods(self, device):
        answer = device.request("POST", PATH)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")

    def test_a_killed_model_is_not_found(self, device, plane, published):
        published.kill("digits")
        published.publish()
        plane.applications.refresh()
        assert device.get(PATH).status == 404

    def test_a_model_without_a_release_is_not_found(self, device, plane, published):
        published.change("digits", current=None)
        published.publish()
        plane.applications.refresh()
        assert device.get(PATH).status == 404

    def test_a_model_that_serves_nobody_without_a_unit_is_not_found(self, device, plane, published):
        published.change("digits", no_unit="none")
        published.publish()
        plane.applications.refresh()
        assert device.get(PATH).status == 404

    def test_without_a_facade_nothing_is_served(self, device, plane):
        plane.facade = None
        answer = device.get(PATH)
        assert (answer.status, answer.document["code"]) == (404, "unknown_path")


class TestChoice:
    """Which variant: the rule in `choose_variant`."""

    FILES = {
        "tflite-float16": {"model.tflite": b"float16"},
        "tflite-float32": {"model.tflite": b"float32"},
        "tflite-full-int8": {"model.tflite": b"int8"},
        "coreml-fp16": {"model.mlpackage/Data/weight.bin": b"core ml"},
    }
    CLASSES = (
        DeviceClass("phones", Selector(os=("android",)), ("coreml-fp16", "tflite-full-int8"), ()),
        DeviceClass("rest", Selector(), ("tflite-float16",), ()),
    )

    def served(self, plane, published, device, names, device_class=None):
        published.device_classes = self.CLASSES
        published.release("choice", 1, {name: self.FILES[name] for name in names})
        published.publish()
        plane.facade = replace(plane.facade, device_classes={"demo": device_class} if device_class else {})
        plane.applications.refresh()
        answer = device.get("/v1beta2/projects/demo/models/choice:download")
        if answer.status != 200:
            return answer.status
        return device.get(answer.document["downloadUri"].removeprefix(BASE)).body

    def test_the_float_file_without_a_class(self, plane, published, device):
        assert self.served(plane, published, device, self.FILES) == b"float32"

    def test_the_fallback_class_where_there_is_no_float_file(self, plane, published, device):
        names = ["tflite-full-int8", "tflite-float16", "coreml-fp16"]
        assert self.served(plane, published, device, names) == b"float16"

    def test_the_applications_class_and_only_variants_for_litert(self, plane, published, device):
        assert self.served(plane, published, device, self.FILES, "phones") == b"int8"

    @pytest.mark.parametrize("device_class", ["phones", "unheard-of"])
    def test_no_variant_of_the_class_is_not_found(self, plane, published, device, device_class):
        assert self.served(plane, published, device, ["tflite-float32"], device_class) == 404


def test_a_display_name_that_is_no_slug_is_found_by_the_slug_it_stands_for(plane, published, device):
    from distribution.firebase.wire import slug_of

    published.release(slug_of("Mobile_Net"), 1, {"tflite-as-is": {"model.tflite": b"mobile"}})
    published.publish()
    plane.applications.refresh()
    document = device.get("/v1beta2/projects/demo/models/Mobile_Net:download").document
    assert device.get(document["downloadUri"].removeprefix(BASE)).body == b"mobile"


def test_a_client_asks_again_after_expiry_and_not_for_ever(phone, clock, facade, plane):
    info = phone.info("digits")
    clock.advance(hours=2)
    assert phone.download("digits", info) == WEIGHTS
    plane.facade = Facade(BASE, KEY, lifetime=timedelta(seconds=-1))
    with pytest.raises(ClientError) as caught:
        phone.download("digits", phone.info("digits"))
    assert caught.value.code == "expired"


def test_an_address_of_another_key_is_refused(ask, clock, plane, device):
    url = device.get(PATH).document["downloadUri"].removeprefix(BASE)
    bare = url.partition("?")[0]
    forged = storage_urls.sign(bare, NOW + timedelta(hours=1), b"another key, also long enough")
    assert device.get(forged).status == 403
    assert json.loads(device.get(forged).body)["error"]["status"] == "PERMISSION_DENIED"


def test_android_sends_no_condition_without_a_hash(ask, clock):
    seen = []
    client = FirebaseClient(
        lambda url, headers: seen.append(headers) or ask(url, headers), BASE, "demo", "android", clock
    )
    client.info("digits")
    assert "if-none-match" not in seen[0]
