"""The shipped nginx configuration, on a real nginx."""

import gzip
import hashlib
import sys
from pathlib import Path

import pytest
from tuf.ngclient import Updater

sys.path.insert(0, str(Path(__file__).parents[2] / "sdk_stubs" / "python"))

from aerogram_sdk import AerogramClient, DeviceProfile

from tests.sdk.fake_runtime import FakeRuntime, model_file

BASE = "/v1/apps/demo"
POLL = f"{BASE}/channels/production/manifests?models=digits&os=linux&runtime=litert&runtime_version=1.0"
IMMUTABLE = "public, max-age=31536000, immutable, no-transform"
pytestmark = pytest.mark.chaos


@pytest.fixture
def blob():
    data = model_file(1, padding=300_000)
    return f"{BASE}/blobs/sha256/{hashlib.sha256(data).hexdigest()}", data


def test_immutable_files_come_from_the_folder(site, blob):
    url, data = blob
    whole = site.http.get(url, headers={"Accept-Encoding": "gzip"})
    assert (whole.status_code, whole.content, whole.headers["cache-control"]) == (200, data, IMMUTABLE)
    assert "content-encoding" not in whole.headers
    part = site.http.get(url, headers={"Range": "bytes=10-19", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, data[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"
    assert site.http.get(url, headers={"Range": f"bytes={len(data)}-"}).status_code == 416
    assert site.http.get(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    assert site.http.head(url).headers["content-length"] == str(len(data))
    site.plane.stop()
    assert site.http.get(url).content == data
    for name in ("1.root.json", "1.snapshot.json", "1.targets.json"):
        assert site.http.get(f"{BASE}/trust/{name}").headers["cache-control"] == IMMUTABLE


def test_what_the_export_lacks_comes_from_the_device_plane(site):
    site.tree.release("digits", 2, {"tflite-float32": {"model.json": b"second"}})
    site.tree.publish()
    url = f"{BASE}/blobs/sha256/{hashlib.sha256(b'second').hexdigest()}"
    assert site.http.get(url).content == b"second"
    assert site.http.get(url).headers["cache-control"] == IMMUTABLE


def test_a_missing_root_is_404_also_without_the_device_plane(site):
    assert site.http.get(f"{BASE}/trust/2.root.json").status_code == 404
    site.plane.stop()
    answer = site.http.get(f"{BASE}/trust/2.root.json")
    assert answer.status_code == 404
    assert "immutable" not in answer.headers.get("cache-control", "")


def test_the_pointer_is_kept_for_a_minute_at_most(site):
    live = site.http.get(f"{BASE}/trust/timestamp.json")
    assert live.headers["cache-control"] == "public, max-age=10"
    site.plane.stop()
    exported = site.http.get(f"{BASE}/trust/timestamp.json")
    assert (exported.status_code, exported.content) == (200, live.content)
    assert exported.headers["cache-control"] == "public, max-age=60, no-transform"


def test_the_catalog_plain_and_compressed(site):
    url = f"{BASE}/channels/production/catalog"
    plain = site.http.get(url, headers={"Accept-Encoding": "identity"})
    packed = site.http.get(url, headers={"Accept-Encoding": "gzip"})
    assert (plain.headers["content-type"], packed.headers["content-encoding"]) == ("application/json", "gzip")
    assert plain.content == packed.content == site.direct.get(url).content
    assert plain.headers["etag"] != packed.headers["etag"]
    assert packed.headers["vary"] == "Accept-Encoding"
    assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content, compresslevel=6, mtime=0))
    assert plain.headers["cache-control"] == "public, max-age=60, no-transform"


class TestPolls:
    def test_public_ones_are_cached_and_survive_the_device_plane(self, site):
        first, second = site.http.get(POLL), site.http.get(POLL)
        private = site.http.get(POLL, headers={"Aerogram-Unit": "c0ffee00-0000-4000-8000-000000000001"})
        third = site.http.get(POLL)
        told = [each.headers["aerogram-cache"] for each in (first, second, private, third)]
        assert told == ["MISS", "HIT", "BYPASS", "HIT"]
        assert {each.headers["vary"] for each in (second, private, third)} == {"Aerogram-Unit"}
        direct = site.direct.get(POLL)
        assert (second.content, second.headers["etag"]) == (direct.content, direct.headers["etag"])
        assert site.http.get(POLL, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
        assert "content-encoding" not in site.http.get(POLL, headers={"Accept-Encoding": "gzip"}).headers
        site.plane.stop()
        assert site.http.get(POLL).content == first.content

    def test_private_ones_are_not(self, site):
        headers = {"Aerogram-Unit": "c0ffee00-0000-4000-8000-000000000001"}
        answers = [site.http.get(POLL, headers=headers) for _ in range(2)]
        assert {each.headers["aerogram-cache"] for each in answers} == {"BYPASS"}
        assert answers[0].headers["cache-control"].startswith("private")
        assert site.http.get(POLL).headers["aerogram-cache"] == "MISS", "nothing was kept of them"

    def test_a_fresh_one_passes_the_cache(self, site):
        site.http.get(POLL)
        answer = site.http.get(POLL, headers={"Cache-Control": "no-cache"})
        assert answer.headers["aerogram-cache"] == "BYPASS"

    def test_neither_query_nor_unit_is_logged(self, site):
        site.http.get(POLL, headers={"Aerogram-Unit": "c0ffee00-0000-4000-8000-000000000001"})
        site.nginx.stop()  # which writes what it still holds of its log
        text = site.log.read_text()
        assert "/channels/production/manifests" in text
        assert "c0ffee" not in text
        assert "litert" not in text


def test_the_sdk_installs_through_nginx(site, tmp_path):
    with AerogramClient(
        server=site.url,
        application="demo",
        channel="production",
        root=(site.tree.folder / "trust/1.root.json").read_bytes(),
        store=tmp_path / "store",
        profile=DeviceProfile(os="linux", app_version="1.0", runtime="litert", runtime_version="1.0"),
        runtimes={"litert": FakeRuntime()},
    ) as client:
        (outcome,) = client.update(["digits"])
        assert (outcome.state, outcome.version, outcome.error) == ("updated", 1, None)


def test_the_stock_client_needs_no_device_plane(site, tmp_path):
    site.plane.stop()
    (tmp_path / "files").mkdir()
    updater = Updater(
        str(tmp_path / "metadata"),
        f"{site.url}{BASE}/trust/",
        str(tmp_path / "files"),
        f"{site.url}{BASE}/targets/",
        bootstrap=(site.tree.folder / "trust/1.root.json").read_bytes(),
    )
    updater.refresh()
    target = updater.get_targetinfo("models/digits/1/tflite-float32/model.json")
    assert Path(updater.download_target(target)).read_bytes() == model_file(1, padding=300_000)
