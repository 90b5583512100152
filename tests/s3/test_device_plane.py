"""The device plane in front of a tree in a bucket: redirects, and what phones make of them, on a real S3 server."""

import asyncio
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from distribution.device_plane.app import create_app
from distribution.device_plane.s3_tree import S3Tree
from distribution.device_plane.tree import LocalTree
from registry.storage_urls import CloudFront, Credentials, S3Location, presign
from tests.factories import Clock
from tests.simulators import DeviceSimulator, MemorySink, PublishedTree

DATA = bytes(range(256)) * 4096


@pytest.fixture
def clock():
    return Clock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def http():
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture
def tree(location, credentials, http, clock):
    return S3Tree(location, lambda: credentials, http, clock=clock)


@pytest.fixture
def published(tmp_path, location, credentials, http, clock):
    """A tree as a publisher writes it, in the bucket; `local` has the same files."""
    local = PublishedTree(tmp_path / "tree", now=clock())
    local.release("digits", 1, {"tflite-float32": {"model.tflite": DATA}})
    local.publish()
    upload(local.root, location, credentials, http, clock)
    return local


def upload(root: Path, location: S3Location, credentials: Credentials, http: httpx.Client, clock: Clock) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            key = location.key(f"tree/{path.relative_to(root)}")
            url = presign(location, key, credentials, now=clock(), method="PUT")
            assert http.put(url, content=path.read_bytes()).status_code == 200


class TestReader:
    """The same answers as of a folder."""

    def test_reads_as_a_folder_does(self, tree, published):
        local = LocalTree(published.root)
        assert tree.applications() == local.applications() == ["demo"]
        paths = [str(path.relative_to(local.root / "demo")) for path in local.root.rglob("*") if path.is_file()]
        assert len(paths) > 5
        for path in paths:
            content = local.read("demo", path, 1 << 21)
            assert tree.read("demo", path, 1 << 21) == content
            file = tree.open("demo", path)
            assert file.size == len(content)
            assert b"".join(file.chunks(1, file.size - 1)) == content[1:-1]

    def test_what_is_not_there(self, tree, published):
        for path in ("trust/9.root.json", "../secret", "blobs/sha256/00/none"):
            for read in (tree.open, lambda *where: tree.read(*where, 10)):
                with pytest.raises(FileNotFoundError):
                    read("demo", path)
        with pytest.raises(FileNotFoundError):
            tree.url("demo", "blobs/sha256/00/none")
        assert tree.fingerprint("other") is None

    def test_the_fingerprint_changes_with_the_pointer(self, tree, published, location, credentials, http, clock):
        before = tree.fingerprint("demo")
        assert tree.fingerprint("demo") == before
        published.release("digits", 2, {"tflite-float32": {"model.tflite": b"second"}})
        published.publish()
        upload(published.root, location, credentials, http, clock)
        assert tree.fingerprint("demo") != before

    def test_no_more_than_asked_for(self, tree, published):
        with pytest.raises(ValueError, match="at most 10 bytes"):
            tree.read("demo", "trust/timestamp.json", 10)

    def test_a_store_that_is_away_is_an_os_error(self, tree, published, s3_server):
        s3_server.stop()
        try:
            for read in (tree.applications, lambda: tree.fingerprint("demo"), lambda: tree.read("demo", "a", 1)):
                with pytest.raises(OSError, match="expected an answer"):
                    read()
        finally:
            s3_server.start()

    def test_wrong_credentials_are_an_os_error(self, location, http, clock):
        tree = S3Tree(location, lambda: Credentials("tester", "wrong"), http, clock=clock)
        with pytest.raises(OSError, match="got 403"):
            tree.applications()


@pytest.fixture
def plane(tree, published, clock):
    plane = create_app(tree, MemorySink(), clock=clock)
    asyncio.run(plane.refresh())
    yield plane
    asyncio.run(plane.close())


@pytest.fixture
def device(plane):
    return DeviceSimulator(plane)


@pytest.fixture
def blob(published):
    return f"/v1/apps/demo/blobs/sha256/{hashlib.sha256(DATA).hexdigest()}"


class TestRedirect:
    def test_a_download(self, device, blob, http):
        answer = device.get(blob)
        assert (answer.status, answer.body, answer.headers["cache-control"]) == (302, b"", "no-store")
        assert http.get(answer.headers["location"]).content == DATA

    def test_a_range(self, device, blob, http):
        answer = device.get(blob, range="bytes=10-19")
        assert answer.status == 302
        part = http.get(answer.headers["location"], headers={"Range": "bytes=10-19"})
        assert part.content == DATA[10:20]
        assert part.headers["content-range"] == f"bytes 10-19/{len(DATA)}"
        beyond = http.get(answer.headers["location"], headers={"Range": f"bytes={len(DATA)}-"})
        assert beyond.status_code == 416

    def test_head_and_not_modified_are_answered_here(self, device, blob):
        answer = device.request("HEAD", blob, {})
        assert (answer.status, answer.headers["content-length"]) == (200, str(len(DATA)))
        assert answer.headers["accept-ranges"] == "bytes"
        assert device.get(blob, **{"if-none-match": answer.headers["etag"]}).status == 304

    def test_what_is_not_there_is_no_redirect(self, device):
        assert device.get(f"/v1/apps/demo/blobs/sha256/{'0' * 64}").status == 404

    def test_metadata_comes_from_here(self, device, published):
        root = device.get("/v1/apps/demo/trust/1.root.json")
        assert (root.status, root.body) == (200, (published.folder / "trust/1.root.json").read_bytes())
        assert device.get("/v1/apps/demo/trust/2.root.json").status == 404

    def test_each_address_begins_when_it_is_asked_for(self, device, blob, clock):
        def stamp():
            return httpx.URL(device.get(blob).headers["location"]).params["X-Amz-Date"]

        first, _ = stamp(), clock.advance(hours=1)
        assert (first, stamp()) == (f"{clock() - timedelta(hours=1):%Y%m%dT%H%M%SZ}", f"{clock():%Y%m%dT%H%M%SZ}")

    def test_an_address_that_expired_and_one_that_was_changed(self, device, blob, http, clock):
        device.get(blob)  # the device plane's own look at the object, which an old clock would fail too
        clock.advance(hours=-7)
        assert http.get(device.get(blob).headers["location"]).status_code in (400, 403)
        clock.advance(hours=7)
        url = httpx.URL(device.get(blob).headers["location"])
        assert http.get(url).status_code == 200
        signature = url.params["X-Amz-Signature"]
        other = ("0" if signature[0] != "0" else "1") + signature[1:]
        assert http.get(url.copy_set_param("X-Amz-Signature", other)).status_code == 403

    def test_phones_are_sent_to_the_public_address(self, tree, published):
        path = f"blobs/sha256/{hashlib.sha256(DATA).hexdigest()[:2]}/{hashlib.sha256(DATA).hexdigest()}"
        tree.location = replace(tree.location, public_endpoint="https://phones.example.org")
        assert tree.url("demo", path).startswith("https://phones.example.org/models/")
        tree.front = CloudFront("https://cdn.example.org", "K1", rsa.generate_private_key(65537, 2048))
        assert tree.url("demo", path).startswith(f"https://cdn.example.org/demo/{path}?Expires=")

    def test_a_store_that_is_away(self, device, blob, plane, s3_server):
        s3_server.stop()
        try:
            answer = device.get(blob)
            assert (answer.status, json.loads(answer.body)["code"]) == (503, "files_unavailable")
            assert answer.headers["retry-after"] == "30"
            asyncio.run(plane.refresh())
            poll = device.get("/v1/apps/demo/channels/production/manifests/digits?os=android")
            assert poll.status == 200, "polls go on without the bucket"
        finally:
            s3_server.start()
        assert device.get(blob).status == 302
