"""What the shipped nginx configuration passes on as it is: patches, Firebase's routes, the live channel."""

import socket
import threading
from urllib.parse import urlsplit

import pytest

from tests.nginx.test_static import BASE
from tests.sdk.fake_runtime import model_file

pytestmark = pytest.mark.chaos
DOWNLOAD = "/v1beta2/projects/demo/models/digits:download"


class TestPatches:
    DIGEST = "ab" * 32

    def test_a_list_comes_from_the_folder_or_from_the_device_plane(self, site):
        url = f"{BASE}/patches/{self.DIGEST}"
        assert site.http.get(url).status_code == 404
        listed = site.tree.folder / "patches" / f"{self.DIGEST}.json"
        listed.parent.mkdir()
        listed.write_text('{"signed":{},"signatures":[]}')
        live = site.http.get(url)
        assert (live.status_code, live.json()) == (200, {"signed": {}, "signatures": []})
        assert live.headers["content-type"] == "application/json"
        assert "max-age=60" in live.headers["cache-control"]
        assert "immutable" not in live.headers["cache-control"], "a list grows"

    def test_none_is_404_also_without_the_device_plane_being_asked_for_a_digest(self, site):
        assert site.http.get(f"{BASE}/patches/nonsense").status_code == 400


class TestFirebase:
    def test_the_answer_is_the_device_planes_byte_for_byte(self, site):
        told = site.http.get(DOWNLOAD)
        assert told.status_code == 200
        assert told.headers["etag"] == site.direct.get(DOWNLOAD).headers["etag"]
        assert "content-encoding" not in told.headers
        assert "content-length" in told.headers
        again = site.http.get(DOWNLOAD, headers={"If-None-Match": told.headers["etag"]})
        assert (again.status_code, again.headers["etag"]) == (304, told.headers["etag"])

    def test_the_file_at_a_signed_address_whole_and_in_part(self, site):
        signed = urlsplit(site.http.get(DOWNLOAD).json()["downloadUri"])
        url, data = f"{signed.path}?{signed.query}", model_file(1, padding=300_000)
        assert site.http.get(url).content == data
        part = site.http.get(url, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, data[100:200])
        assert site.http.get(url[:-1] + ("A" if url[-1] != "A" else "B")).status_code in (400, 403)

    def test_no_signature_is_logged(self, site):
        signed = urlsplit(site.http.get(DOWNLOAD).json()["downloadUri"])
        site.http.get(f"{signed.path}?{signed.query}")
        site.nginx.stop()
        text = site.log.read_text()
        assert signed.path in text
        assert "signature" not in text


def test_an_upgrade_to_a_websocket_is_passed_on_with_what_follows(site):
    """In the device plane's place stands one that only speaks the handshake."""
    port = int(site.direct.base_url.port)
    site.plane.stop()
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", port)) as server:
        answering = threading.Thread(target=answer_upgrade, args=[server, asked])
        answering.start()
        with socket.create_connection(("127.0.0.1", urlsplit(site.url).port), timeout=120) as phone:
            phone.sendall(
                f"GET {BASE}/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            received = b""
            while not received.endswith(b"\r\n\r\nhello"):
                received += (piece := phone.recv(4096))
                assert piece, received
            assert received.startswith(b"HTTP/1.1 101")
            phone.sendall(b"hint")
            answering.join(120)
    head = asked[0].lower()
    assert b"\r\nupgrade: websocket\r\n" in head
    assert b"\r\nconnection: upgrade\r\n" in head
    assert b"\r\nsec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n" in head
    assert asked[1] == b"hint"


def answer_upgrade(server, asked):
    connection, _ = server.accept()
    with connection:
        connection.settimeout(120)
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        asked.append(head)
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello"
        )
        asked.append(connection.recv(4096))
