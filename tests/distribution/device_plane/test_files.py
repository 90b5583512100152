import asyncio
import gzip
import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from distribution.device_plane.asgi import accepts_gzip
from distribution.device_plane.ranges import ByteRange, Unsatisfiable, parse_range
from distribution.device_plane.tree import LocalFile
from tests.simulators import DeviceSimulator

BASE = "/v1/apps/demo"


@pytest.fixture
def data():
    return bytes(range(256)) * 4096  # four chunks


@pytest.fixture
def blob(published, data):
    return f"{BASE}/blobs/sha256/{published.store_blob(data)}"


def test_a_blob_whole(device, blob, data):
    answer = device.get(blob)
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers == {
        "content-type": "application/octet-stream",
        "content-length": str(len(data)),
        "cache-control": "public, max-age=31536000, immutable, no-transform",
        "etag": f'"{sha256(data).hexdigest()}"',
        "accept-ranges": "bytes",
    }


def test_head_of_a_blob(device, blob):
    get, head = (
        device.request(method, blob, {"range": "bytes=0-3"} if method == "HEAD" else {}) for method in ("GET", "HEAD")
    )
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [("bytes=0-0", 0, 1), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=262143-262145", 262_143, 262_146)],
)
def test_a_range(device, blob, data, header, start, end):
    answer = device.get(blob, range=header)
    assert (answer.status, answer.body) == (206, data[start:end])
    first = start if start >= 0 else len(data) + start
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(data)}"
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("header", ["bytes=0-1,4-5", "items=0-1", "bytes=5-2", "bytes=-", "bytes=a-b", "0-1"])
def test_a_range_that_is_not_understood_gives_the_whole(device, blob, data, header):
    answer = device.get(blob, range=header)
    assert (answer.status, answer.body) == (200, data)


def test_a_range_behind_the_end_is_416(device, blob, data):
    answer = device.get(blob, range=f"bytes={len(data)}-")
    assert (answer.status, answer.document["field"]) == (416, "Range")
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


def test_if_range_resumes_only_the_same_file(device, blob, data):
    etag = device.get(blob).headers["etag"]
    assert device.get(blob, range="bytes=5-", if_range=etag).body == data[5:]
    assert device.get(blob, range="bytes=5-", if_range='"other"').status == 200
    assert device.get(blob, range="bytes=5-", if_range=f"W/{etag}").status == 200


def test_if_none_match_of_a_blob(device, blob):
    etag = device.get(blob).headers["etag"]
    answer = device.get(blob, if_none_match=etag)
    assert (answer.status, answer.headers["etag"]) == (304, etag)


def test_an_empty_blob(device, published):
    url = f"{BASE}/blobs/sha256/{published.store_blob(b'')}"
    assert (device.get(url).status, device.get(url).headers["content-length"]) == (200, "0")
    assert device.get(url, range="bytes=0-").status == 416


def test_a_server_that_sends_files_itself_is_given_the_path(plane, blob, data):
    server = DeviceSimulator(plane, pathsend=True)
    answer = server.get(blob)
    assert answer.body == b""
    assert Path(answer.paths[0]).read_bytes() == data
    assert server.get(blob, range="bytes=1-").body == data[1:]


def test_files_are_never_read_whole(device, blob, data, monkeypatch):
    sizes = []
    read = LocalFile.chunks

    def chunks(self, start, end):
        for chunk in read(self, start, end):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(LocalFile, "chunks", chunks)
    assert device.get(blob).body == data
    assert sizes == [LocalFile.CHUNK_BYTES] * 4


def test_a_file_is_closed_when_the_phone_goes_away(plane, blob, monkeypatch):
    closed = []
    monkeypatch.setattr(LocalFile, "close", lambda self: closed.append(self._file.close()))

    async def send(message):
        if message["type"] == "http.response.body":
            raise ConnectionResetError

    scope = {"type": "http", "method": "GET", "path": blob, "query_string": b"", "headers": []}

    async def receive():
        await asyncio.Future()

    with pytest.raises(ConnectionResetError):
        asyncio.run(plane(scope, receive, send))
    assert len(closed) == 1


def test_nothing_more_is_read_once_the_phone_has_gone(plane, blob):
    """Granian swallows what is sent on a closed connection; only `receive` tells."""
    sent, messages = [], [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    went = asyncio.Event()

    async def receive():
        if len(messages) == 1:
            await went.wait()
        return messages.pop(0)

    async def send(message):
        sent.append(message)
        if message["type"] == "http.response.body":
            went.set()

    scope = {"type": "http", "method": "GET", "path": blob, "query_string": b"", "headers": []}
    asyncio.run(plane(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize("digest", ["0" * 64, "f" * 64])
def test_an_unknown_blob_is_404(device, digest):
    answer = device.get(f"{BASE}/blobs/sha256/{digest}")
    assert (answer.status, answer.document["code"], answer.headers["cache-control"]) == (
        404,
        "unknown_file",
        "no-store",
    )


@pytest.mark.parametrize("digest", ["x", "F" * 64, "0" * 63, "../../../etc/passwd".replace("/", "%2f")])
def test_what_is_no_digest_is_400(device, digest):
    assert device.get(f"{BASE}/blobs/sha256/{digest}").document["field"] == "digest"


def test_the_catalog_plain_and_compressed(device, published):
    url = f"{BASE}/channels/production/catalog"
    plain, packed = device.get(url), device.get(url, accept_encoding="br, gzip;q=0.5")
    assert plain.document == published.catalog("production").to_json()
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    assert plain.headers["etag"] != packed.headers["etag"]
    for answer, encoding in ((plain, "identity"), (packed, "gzip")):
        again = device.get(url, accept_encoding=encoding, if_none_match=answer.headers["etag"])
        assert (again.status, again.headers["etag"]) == (304, answer.headers["etag"])


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (b"gzip", True),
        (b"GZIP", True),
        (b"*", True),
        (b"br, gzip;q=0.1", True),
        (b"", False),
        (b"br", False),
        (b"gzip;q=0", False),
        (b"gzip; q=0", False),
        (b"*;q=0", False),
        (b"gzip;q=0, *", False),
    ],
)
def test_accept_encoding(header, accepted):
    assert accepts_gzip(header) is accepted


def test_the_trust_tree(device, published):
    for name in ("1.root.json", "1.snapshot.json", "1.targets.json", "1.releases-production.json", "timestamp.json"):
        answer = device.get(f"{BASE}/trust/{name}")
        assert answer.body == (published.folder / "trust" / name).read_bytes()
    assert "max-age=10" in device.get(f"{BASE}/trust/timestamp.json").headers["cache-control"]
    assert "immutable" in device.get(f"{BASE}/trust/1.root.json").headers["cache-control"]


@pytest.mark.parametrize("name", ["2.root.json", "root.json", "x", "", ".json", "timestamp.json.part", "..%2fx.json"])
def test_a_trust_file_that_is_not_there_is_404(device, name):
    assert device.get(f"{BASE}/trust/{name}").status == 404


def test_the_timestamp_is_the_one_polls_are_answered_from(device, published):
    served = device.get(f"{BASE}/trust/timestamp.json").body
    published.publish()
    assert device.get(f"{BASE}/trust/timestamp.json").body == served


@pytest.mark.parametrize(
    "path",
    [
        "x.model.tflite",
        f"models/digits/{'0' * 64}.model.tflite",
        f"catalogs/{'0' * 64}.production.json",
        f"models/../{'0' * 64}.x",
        "0" * 64,
        f"models/{'0' * 64}.",
    ],
)
def test_a_target_that_is_not_there_is_404(device, path):
    assert device.get(f"{BASE}/targets/{path}").status == 404


class InProcessFetcher(FetcherInterface):
    """python-tuf's own client against the device plane."""

    def __init__(self, device):
        self.device = device

    def _fetch(self, url):
        answer = self.device.get(url.removeprefix("http://plane"))
        if answer.status != 200:
            raise DownloadHTTPError(f"status {answer.status}", answer.status)
        return iter([answer.body])


def test_a_stock_tuf_client_can_walk_the_tree_and_download(device, published, tmp_path):
    published.publish()
    device.application.applications.refresh()
    (tmp_path / "client").mkdir()
    updater = Updater(
        metadata_dir=str(tmp_path / "client"),
        metadata_base_url=f"http://plane{BASE}/trust/",
        target_dir=str(tmp_path / "client"),
        target_base_url=f"http://plane{BASE}/targets/",
        fetcher=InProcessFetcher(device),
        config=UpdaterConfig(prefix_targets_with_hash=True),
        bootstrap=(published.folder / "trust" / "1.root.json").read_bytes(),
    )
    updater._trusted_set.reference_time = published.now
    updater.refresh()
    for path in ("catalogs/production.json", "models/digits/3/coreml-fp16/model.mlpackage/Data/weight.bin"):
        target = updater.get_targetinfo(path)
        assert target is not None
        place = updater.download_target(target, str(tmp_path / "client" / "file"))
        assert sha256(Path(place).read_bytes()).hexdigest() == target.hashes["sha256"]
    assert json.loads(published.folder.joinpath("trust/timestamp.json").read_bytes())["signed"]["version"] == 2


@given(st.integers(0, 1000), st.integers(0, 1100), st.integers(0, 1100))
def test_a_parsed_range_is_what_slicing_gives(size, first, last):
    data = bytes(size)
    header = b"bytes=%d-%d" % (first, last)
    if last < first:
        assert parse_range(header, size) is None
    elif first >= size:
        with pytest.raises(Unsatisfiable):
            parse_range(header, size)
    else:
        span = parse_range(header, size)
        assert (span.start, len(data[span.start : span.end])) == (first, len(data[first : last + 1]))
        assert 0 <= span.start < span.end <= size


@given(st.integers(0, 1000), st.integers(0, 1100))
def test_a_suffix_range_is_the_end_of_the_file(size, length):
    header = b"bytes=-%d" % length
    if length == 0 or size == 0:
        with pytest.raises(Unsatisfiable):
            parse_range(header, size)
    else:
        assert parse_range(header, size) == ByteRange(max(0, size - length), size)


@given(st.binary(max_size=40) | st.text("bytes=0123456789-, ", max_size=20).map(str.encode), st.integers(0, 1000))
def test_any_range_header_is_parsed_ignored_or_unsatisfiable(header, size):
    try:
        span = parse_range(header, size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span.start < span.end <= size


def test_a_manifest_by_the_path_that_the_catalog_gives(device, published):
    (reference, *_) = published.catalog("production").references()
    answer = device.get(f"{BASE}/{reference.path}")
    assert (answer.status, answer.body) == (200, published.manifest_bytes(reference))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable, no-transform"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path", ["production/digits/99.none.json", "../trust/1.root.json", "production/digits", ".json", ""]
)
def test_no_such_manifest(device, path):
    answer = device.get(f"{BASE}/manifests/{path}")
    assert (answer.status, answer.document["code"]) == (404, "unknown_file")
