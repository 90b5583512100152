"""GET …/patches/{target}: a small file of the tree, replaced when there are others; absent is normal."""

import pytest

TARGET = "a" * 64


@pytest.fixture
def listed(published):
    path = published.root / "demo" / "patches" / f"{TARGET}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"signed":{},"signatures":[]}')
    return path


def test_a_list_is_served_for_a_minute(device, listed):
    answer = device.get(f"/v1/apps/demo/patches/{TARGET}")
    assert (answer.status, answer.body) == (200, listed.read_bytes())
    assert answer.headers["cache-control"] == "public, max-age=60"


def test_a_replaced_list_is_served_at_once(device, listed):
    device.get(f"/v1/apps/demo/patches/{TARGET}")
    listed.write_bytes(b"{}")
    assert device.get(f"/v1/apps/demo/patches/{TARGET}").body == b"{}"


def test_no_list_is_404(device):
    answer = device.get(f"/v1/apps/demo/patches/{TARGET}")
    assert (answer.status, answer.document["code"]) == (404, "unknown_file")


@pytest.mark.parametrize("digest", ["", "x", "A" * 64, "a" * 63, "..%2f..%2fsecret"])
def test_what_is_no_digest(device, digest):
    assert device.get(f"/v1/apps/demo/patches/{digest}").status in (400, 404)
