import base64
import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from registry.storage_urls import CloudFront, Credentials, S3Location, presign, sign, verify

NOW = datetime(2013, 5, 24, tzinfo=UTC)
KEY = b"0123456789abcdef"
PUBLISHED = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


class TestLocation:
    def test_the_parts(self):
        found = S3Location.parse("s3://Models/a/b/?region=eu-west-1&endpoint=http://minio:9000")
        assert found == S3Location("Models", "a/b", "eu-west-1", "http://minio:9000")
        assert found.key("tree/x") == "a/b/tree/x"
        assert found.url("a/b c") == "http://minio:9000/Models/a/b%20c"

    def test_amazon(self):
        assert S3Location("models").url("k") == "https://models.s3.us-east-1.amazonaws.com/k"
        assert S3Location("a.models").url("k") == "https://s3.us-east-1.amazonaws.com/a.models/k"

    def test_phones_may_have_another_address(self):
        location = S3Location.parse("s3://b?endpoint=http://inside&public_endpoint=https://outside")
        assert (location.url("k"), location.public.url("k")) == ("http://inside/b/k", "https://outside/b/k")

    @pytest.mark.parametrize(
        "url", ["s3://", "file:///x", "s3://key:secret@b", "s3://b?endpoint=minio", "s3://b?acl=public", "s3:///x"]
    )
    def test_refused(self, url):
        with pytest.raises(ValueError, match="expected"):
            S3Location.parse(url)


class TestPresign:
    def test_the_example_of_the_reference(self):
        """Amazon S3 API reference, "Authenticating Requests: Using Query Parameters"; its host has no region."""
        url = presign(
            S3Location("examplebucket", endpoint="https://x"),
            "test.txt",
            PUBLISHED,
            now=NOW,
            lifetime=timedelta(days=1),
        )
        scope = "20130524/us-east-1/s3/aws4_request"
        query = urlsplit(url).query.partition("&X-Amz-Signature=")[0]
        request = f"GET\n/test.txt\n{query}\nhost:examplebucket.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD"
        key = b"AWS4" + PUBLISHED.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n20130524T000000Z\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        expected = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        assert hmac.digest(key, text.encode(), "sha256").hex() == expected

    @given(
        st.text(st.characters(min_codepoint=33, max_codepoint=0x17F, exclude_characters="/"), min_size=1, max_size=40),
        st.sampled_from([None, "a+token/with="]),
        st.sampled_from([None, "http://127.0.0.1:9000"]),
        st.sampled_from(["GET", "HEAD"]),
    )
    def test_agrees_with_botocore(self, key, token, endpoint, method):
        location, now = S3Location("models", region="eu-west-1", endpoint=endpoint), datetime.now(UTC)
        ours = presign(
            location,
            key,
            Credentials("AK", "SK", token),
            now=now,
            lifetime=timedelta(hours=1),
            method=method,
            query={"list-type": "2", "prefix": "a b/ü"},
        )
        request = AWSRequest(method, location.url(key), params={"list-type": "2", "prefix": "a b/ü"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(botocore.auth, "get_current_datetime", lambda: now)
            auth = botocore.auth.S3SigV4QueryAuth(BotoCredentials("AK", "SK", token), "s3", "eu-west-1", expires=3600)
            auth.add_auth(request)
        assert parse_qs(urlsplit(ours).query) == parse_qs(urlsplit(request.url).query)
        assert urlsplit(ours).path == urlsplit(request.url).path

    def test_warns_of_credentials_that_end_earlier(self, caplog):
        caplog.set_level(logging.WARNING)
        lasting = Credentials("AK", "SK", expires_at=NOW + timedelta(hours=6))
        presign(S3Location("b"), "k", lasting, now=NOW)
        assert not caplog.records
        for _ in range(2):
            presign(S3Location("b"), "k", Credentials("AK", "SK", expires_at=NOW + timedelta(hours=1)), now=NOW)
        assert len(caplog.records) == 1
        assert "2013-05-24T01:00:00Z, expected them to last for 6:00:00" in caplog.text

    @pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(days=8)])
    def test_no_lifetime_that_s3_refuses(self, lifetime):
        with pytest.raises(ValueError, match="7 days"):
            presign(S3Location("b"), "k", PUBLISHED, now=NOW, lifetime=lifetime)

    def test_the_secret_is_not_shown(self):
        assert PUBLISHED.secret_key not in repr(PUBLISHED)


class TestCloudFront:
    key = rsa.generate_private_key(65537, 2048)

    def pem(self, key):
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def test_a_canned_policy(self):
        url = CloudFront.load("https://cdn.example.org/", "K1", self.pem(self.key)).sign("a/b", now=NOW)
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        expires = int((NOW + timedelta(hours=6)).timestamp())
        assert (query["Expires"], query["Key-Pair-Id"]) == (str(expires), "K1")
        policy = '{"Statement":[{"Resource":"https://cdn.example.org/a/b","Condition":{"DateLessThan":{"AWS:EpochTime":'
        signature = base64.b64decode(query["Signature"].translate(str.maketrans("-_~", "+=/")))
        public = self.key.public_key()
        public.verify(signature, f"{policy}{expires}}}}}}}]}}".encode(), padding.PKCS1v15(), hashes.SHA1())
        with pytest.raises(InvalidSignature):
            public.verify(signature, json.dumps({}).encode(), padding.PKCS1v15(), hashes.SHA1())

    def test_no_other_key(self):
        with pytest.raises(ValueError, match="RSA"):
            CloudFront.load("https://cdn", "K1", self.pem(ec.generate_private_key(ec.SECP256R1())))


class TestOwnAddresses:
    url = "https://aerogram.example.org/v1/apps/demo/blobs/sha256/00?a=1&b=x%20y"

    def test_until_it_expires(self):
        signed = sign(self.url, NOW + timedelta(hours=1), KEY)
        assert verify(signed, KEY, now=NOW) == "ok"
        assert verify(signed, KEY, now=NOW + timedelta(hours=1, seconds=-1)) == "ok"
        assert verify(signed, KEY, now=NOW + timedelta(hours=1)) == "expired"

    def test_host_and_scheme_may_change(self):
        signed = sign(self.url, NOW + timedelta(hours=1), KEY)
        assert verify(signed.replace("https://aerogram.example.org", "http://inside:8001"), KEY, now=NOW) == "ok"
        assert verify(signed.removeprefix("https://aerogram.example.org"), KEY, now=NOW) == "ok"

    @given(st.data())
    def test_any_change_is_bad(self, data):
        path = sign(self.url, NOW + timedelta(hours=1), KEY).removeprefix("https://aerogram.example.org")
        index = data.draw(st.integers(1, len(path) - 1))
        other = data.draw(st.sampled_from("abcdef0123456789/%&=").filter(lambda each: each != path[index]))
        assert verify(path[:index] + other + path[index + 1 :], KEY, now=NOW) == "bad"

    def test_never_signed(self):
        for url in (self.url, f"{self.url}&expires=1", "/x?signature=00", "/x?expires=1&signature=00", "", "?"):
            assert verify(url, KEY, now=NOW) == "bad"
        assert verify(sign(self.url, NOW, KEY), b"another key of 16 bytes", now=NOW) == "bad"

    def test_refused(self):
        for url, key in ((self.url, b"short"), (f"{self.url}&expires=1", KEY), (f"{self.url}#x", KEY)):
            with pytest.raises(ValueError, match="expected"):
                sign(url, NOW, key)
