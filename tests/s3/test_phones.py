"""Publish, poll, download through the redirect, install: real rows, a real bucket, the SDK and python-tuf's client."""

import hashlib
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from django.core.files.storage import storages
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import Updater

from deploy.dev import ports
from deploy.dev.children import Child, Part
from distribution.device_plane.app import create_app
from distribution.device_plane.s3_tree import S3Tree
from distribution.trust import ceremony
from distribution.trust.publisher import known_keys
from distribution.trust.roles import ROOT, SNAPSHOT, TIMESTAMP
from distribution.trust.rotation import forget_retired_keys, rotate_online_key
from registry.storage_urls import Credentials, S3Location, presign
from tests.deploy.waiting import until
from tests.distribution.trusted import ENTRY, Phones, World, outcome
from tests.s3.server import ACCESS_KEY, SECRET_KEY
from tests.sdk.conftest import score
from tests.sdk.test_device_plane import InProcess
from tests.simulators import MemorySink

pytestmark = [pytest.mark.django_db(transaction=True)]
PADDING = 900_000


class OverTheWire(httpx.BaseTransport):
    """The device plane in this process, the bucket over the network; `seen`: what the bucket was asked."""

    def __init__(self, plane) -> None:
        self.plane, self.wire = InProcess(plane), httpx.HTTPTransport()
        self.seen: list[httpx.Request] = []
        self.break_after: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "device.plane":
            return self.plane.handle_request(request)
        self.seen.append(request)
        response = self.wire.handle_request(request)
        if self.break_after and response.status_code < 300:
            response.stream = Broken(response.stream, self.break_after.pop(0))
        return response

    def close(self) -> None:
        self.wire.close()


class Broken(httpx.SyncByteStream):
    """A connection that ends after so many bytes."""

    def __init__(self, stream, size: int) -> None:
        self.stream, self.size = stream, size

    def __iter__(self):
        left = self.size
        for chunk in self.stream:
            if len(chunk) >= left:
                yield chunk[:left]
                raise httpx.RemoteProtocolError("the connection ended")
            left -= len(chunk)
            yield chunk

    def close(self) -> None:
        self.stream.close()


class Skewed(S3Tree):
    """Signs addresses for phones as if the time were another."""

    ahead = timedelta(0)

    def url(self, application, path):
        url = super().url(application, path)
        if url is None or not self.ahead:
            return url
        now = self.clock() + self.ahead
        return presign(self.location.public, self._key(application, path), self.credentials(), now=now)


class PhonesOfBucket(Phones):
    def __init__(self, url, folder) -> None:
        self.location = S3Location.parse(url)
        super().__init__(folder, folder)

    def start(self) -> None:
        self.bucket = httpx.Client(trust_env=False, timeout=60)
        self.reader = Skewed(
            self.location, lambda: Credentials(ACCESS_KEY, SECRET_KEY), self.bucket, clock=lambda: datetime.now(UTC)
        )
        self.plane = create_app(self.reader, MemorySink())
        self.wire = OverTheWire(self.plane)
        self.http = httpx.Client(transport=self.wire, headers={"Authorization": "Bearer of-the-app"}, timeout=60)
        self.refresh()

    def close(self) -> None:
        super().close()
        self.bucket.close()


@pytest.fixture
def world(services, s3_store, tmp_path):
    world = World(tmp_path)
    world.begin()
    world.version(1, padding=PADDING)
    return world


@pytest.fixture
def phones(world, s3_url, tmp_path):
    phones = PhonesOfBucket(s3_url, tmp_path / "phones")
    release(world, phones, 1)
    yield phones
    phones.close()


def release(world, phones, factor):
    from distribution import services

    version = world.version(factor, padding=PADDING)
    services.publish(
        channel=world.application.channels.get(), version=version, actor="ada", now=world.clock(), reason=""
    )
    world.run()
    phones.refresh()
    return version


def test_publish_poll_install_and_update(world, phones):
    phone = phones.phone("one", world.root.to_bytes())
    assert outcome(phone)[::2] == ("updated", None)
    assert score(phone) == 3.0
    release(world, phones, 2)
    assert outcome(phone)[::2] == ("updated", None)
    assert score(phone) == 6.0


def test_the_bucket_is_told_nothing_about_the_phone(world, phones):
    phones.phone("one", world.root.to_bytes()).update(["digits"])
    assert len(phones.wire.seen) == 2
    for request in phones.wire.seen:
        assert not {"authorization", "aerogram-unit", "aerogram-key", "cookie"} & set(request.headers)
        assert "X-Amz-Signature" in request.url.params


def test_a_download_that_breaks_is_resumed_at_a_new_address(world, phones):
    phones.wire.break_after = [300_000, 200_000]
    phone = phones.phone("one", world.root.to_bytes())
    assert outcome(phone)[::2] == ("updated", None)
    asked = [request.headers.get("range") for request in phones.wire.seen]
    assert asked.count(None) == 2, "model and sanity vectors once from their start"
    assert [each for each in asked if each] == ["bytes=300000-", "bytes=500000-"]
    assert score(phone) == 3.0


def test_an_address_that_expired_on_the_way_is_asked_for_again(world, phones):
    """Once: the second address is refused too, and then it is an error that a later update gets over."""
    phone = phones.phone("one", world.root.to_bytes())
    phones.reader.ahead = -timedelta(hours=7)
    assert outcome(phone)[0] == "unavailable"
    assert len(phones.wire.seen) == 2
    inner = phones.wire.plane.handle_request

    def mended_after_one(request):
        response = inner(request)
        if response.status_code == 302:
            phones.reader.ahead = timedelta(0)
        return response

    phones.wire.plane.handle_request = mended_after_one
    assert outcome(phone)[::2] == ("updated", None)
    assert score(phone) == 3.0


def test_the_server_stops_on_the_way_and_comes_back(world, phones, s3_server):
    phone = phones.phone("one", world.root.to_bytes())
    phones.wire.break_after = [300_000]
    wire = phones.wire.wire.handle_request

    def stopping(request):
        if request.headers.get("range"):
            s3_server.stop()
        return wire(request)

    phones.wire.wire.handle_request = stopping
    try:
        assert outcome(phone)[0] == "unavailable"
    finally:
        phones.wire.wire.handle_request = wire
        s3_server.start()
    assert outcome(phone)[::2] == ("updated", None)
    asked = [request.headers.get("range") for request in phones.wire.seen]
    assert asked.count("bytes=300000-") == 2, "in vain while it was away, then for the rest alone"
    assert score(phone) == 3.0


@pytest.fixture
def served(world, phones, s3_url, tmp_path):
    """The device plane as a process of its own, told of the bucket by its environment; its address."""
    with ports.reserved() as port:
        yield from device_plane(port, s3_url, tmp_path)


def device_plane(port, s3_url, folder):
    variables = {
        "PATH": os.environ["PATH"],
        "BLOB_STORE_URL": s3_url,
        "EVENT_STREAM_URL": "redis://127.0.0.1:9/0",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AEROGRAM_DOWNLOAD_URL_SECONDS": "5m",
    }
    url = f"http://{ports.LOOPBACK}:{port}"
    part = Part(
        name="device-plane",
        command=[sys.executable, "-m", "deploy.device_server", "--port", str(port)],
        environment=variables,
        working_folder=Path(__file__).parents[2],
        is_ready=lambda: _serves(url),
    )
    child = Child(part, run=folder, logs=folder)
    try:
        child.start()
        child.wait_until_ready()
        yield url
    finally:
        child.stop()
    assert "X-Amz-Signature" not in child.log.read_text(), "addresses carry permissions and are not logged"


def _serves(url):
    try:
        return "demo" in httpx.get(f"{url}/healthz", trust_env=False).json()["applications"]
    except httpx.TransportError:
        return False


def stock(served, folder, bootstrap):
    """python-tuf's client with its own fetcher, against the device plane as a server."""
    (folder / "files").mkdir(parents=True, exist_ok=True)
    base = f"{served}/v1/apps/demo"
    places = (str(folder / "metadata"), f"{base}/trust/", str(folder / "files"), f"{base}/targets/")
    updater = Updater(*places, bootstrap=bootstrap)
    updater.refresh()
    return updater


def newest_entry(folder):
    targets = Metadata[Targets].from_file(str(folder / "metadata" / "targets.json")).signed.targets
    path = max(
        (each for each in targets if each.endswith(ENTRY)), key=lambda each: targets[each].custom["model_version"]
    )
    return path, targets[path]


def test_the_stock_client_through_the_redirect(world, served, tmp_path):
    updater = stock(served, tmp_path / "stock", world.root.to_bytes())
    path, target = newest_entry(tmp_path / "stock")
    assert len(Path(updater.download_target(updater.get_targetinfo(path))).read_bytes()) > PADDING
    address = f"{served}/v1/apps/demo/blobs/sha256/{target.hashes['sha256']}"
    redirect = httpx.get(address, trust_env=False, timeout=60)
    assert (redirect.status_code, httpx.URL(redirect.headers["location"]).params["X-Amz-Expires"]) == (302, "300")


def test_the_stock_client_through_the_redirect_across_root_rotations(world, phones, served, tmp_path):
    """Two ceremonies, in which every person and the keys of snapshot and timestamp change, and a release after them:
    a client that followed and one that has nothing but the first root both get the file from the bucket."""
    first = world.root.to_bytes()
    stock(served, tmp_path / "follows", first)
    rotate(world, ("bob", "cyd", "dan"))
    rotate(world, ("ann", "cyd", "dan"))
    release(world, phones, 5)
    until(lambda: revision_at(served) == world.tree.current().revision, "the revision at the device plane")
    for folder in (tmp_path / "follows", tmp_path / "new"):
        updater = stock(served, folder, first)
        known = Metadata[Root].from_file(str(folder / "metadata" / "root.json")).signed
        assert known.version == world.root.signed.version == Metadata[Root].from_bytes(first).signed.version + 2
        path, target = newest_entry(folder)
        assert target.custom["model_version"] == 3
        content = Path(updater.download_target(updater.get_targetinfo(path))).read_bytes()
        assert hashlib.sha256(content).hexdigest() == target.hashes["sha256"]


def rotate(world, names):
    """The root passes to these people, and new keys sign snapshot and timestamp. Bob and Cyd, or Cyd and Dan, are
    two of both the old people and the new ones."""
    for role in (SNAPSHOT, TIMESTAMP):
        rotate_online_key(application=world.application, role=role, actor="ada", now=world.clock())
    world.publish()
    known = known_keys(world.application)
    changes = {role: ceremony.Holders([known[role]]) for role in (SNAPSHOT, TIMESTAMP)}
    changes[ROOT] = ceremony.Holders([world.people[name].public_key for name in names], 2)
    world.bring(world.next_root(**changes), *(("bob", "cyd") if "bob" in names else ("cyd", "dan")))
    world.run()
    for role in (SNAPSHOT, TIMESTAMP):
        assert forget_retired_keys(application=world.application, role=role, actor="ada", now=world.clock()) == 1


def revision_at(served):
    return httpx.get(f"{served}/healthz", trust_env=False, timeout=60).json()["applications"]["demo"]["revision"]


def test_revisions_follow_each_other_and_leave_no_lower_number(world, phones):
    before = world.tree.current().revision
    release(world, phones, 2)
    assert world.tree.current().revision == before + 1
    assert world.tree.highest_version("snapshot") == before + 1
    assert storages["blobs"].listdir("staging") == ([], [])
