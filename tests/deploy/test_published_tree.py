from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy import published_tree
from deploy.env import EnvError, ParsedUrl
from distribution.device_plane.tree import LocalTree

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def aws(monkeypatch, tmp_path):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
    return monkeypatch


def test_a_folder(tmp_path):
    tree = published_tree.published_tree(ParsedUrl(tmp_path.as_uri()))
    assert isinstance(tree, LocalTree)
    assert tree.root == tmp_path / "tree"


def test_a_bucket(aws):
    aws.setenv("AEROGRAM_DOWNLOAD_URL_SECONDS", "2h")
    tree = published_tree.published_tree(ParsedUrl("s3://models/p?region=eu-west-1"))
    assert (tree.location.key("x"), tree.lifetime.total_seconds(), tree.front) == ("p/x", 7200, None)
    assert tree.credentials().access_key == "AK"
    assert tree.credentials().expires_at is None
    tree.http.close()


def test_credentials_that_end(aws):
    aws.setenv("AWS_SESSION_TOKEN", "T")
    aws.setenv("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z")
    found = published_tree.credentials()()
    assert (found.token, found.expires_at) == ("T", datetime(2099, 1, 1, tzinfo=UTC))


def test_no_credentials(aws):
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(EnvError, match="expected credentials for the bucket"):
        published_tree.credentials()


def test_not_a_bucket():
    with pytest.raises(EnvError, match="BLOB_STORE_URL"):
        published_tree.location("s3://models?acl=public")


def test_cloudfront(monkeypatch, tmp_path):
    assert published_tree.cloudfront() is None
    key = rsa.generate_private_key(65537, 2048)
    file = tmp_path / "key.pem"
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(*pem))
    monkeypatch.setenv("AEROGRAM_CLOUDFRONT_URL", "https://cdn.example.org")
    monkeypatch.setenv("AEROGRAM_CLOUDFRONT_KEY_ID", "K1")
    monkeypatch.setenv("AEROGRAM_CLOUDFRONT_KEY_FILE", str(file))
    front = published_tree.cloudfront()
    assert front.sign("demo/blobs/x", now=NOW).startswith("https://cdn.example.org/demo/blobs/x?Expires=1893477600&")
    file.write_bytes(b"no key")
    with pytest.raises(EnvError, match="expected a private RSA key"):
        published_tree.cloudfront()
