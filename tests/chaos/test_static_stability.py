"""Whatever dies behind it, the device plane goes on answering with what was signed; afterwards releasing goes on."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.chaos.stack import APPLICATION, CHANNEL, Stack, until

pytestmark = [pytest.mark.chaos, pytest.mark.database, pytest.mark.light]
NAMED = ("worker", "web", "broker", "postgres")
ALL_BUT_DEVICES = ("beat", "converter", "ingester", "signer", *NAMED, "events")
POLLS = 50


@pytest.fixture
def new_phone(stack: Stack, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """The device SDK with a store of its own, as on a phone that has just installed the app."""
    from aerogram_sdk import AerogramClient, DeviceProfile, LiteRtRuntime

    root = stack.http.get(f"{stack.app_url}/trust/1.root.json").content

    def build(name: str) -> AerogramClient:
        client = AerogramClient(
            server=stack.device_url,
            application=APPLICATION,
            channel=CHANNEL,
            root=root,
            store=tmp_path / name,
            profile=DeviceProfile(os="android", os_version="15", runtime="litert"),
            runtimes={"litert": LiteRtRuntime(threads=1)},
        )
        return clients.enter_context(client)

    with ExitStack() as clients:
        yield build


def answers(stack: Stack, model: str) -> dict[str, bytes]:
    """Everything a phone may ask for, by URL; each must be a 200."""
    poll = stack.poll(model)
    manifest = poll.json()["models"][model]["manifest"]["signed"]
    urls = [f"{stack.app_url}/trust/timestamp.json", f"{stack.app_url}/channels/{CHANNEL}/catalog"]
    urls += [f"{stack.app_url}/blobs/sha256/{file['sha256']}" for file in manifest["files"].values()]
    found = {url: stack.http.get(url) for url in urls} | {"poll": poll}
    assert {response.status_code for response in found.values()} == {200}
    for file in manifest["files"].values():
        content = found[f"{stack.app_url}/blobs/sha256/{file['sha256']}"].content
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["length"], file["sha256"])
    return {url: response.content for url, response in found.items()}


def require_update(phone: Any, model: str, version: int, state: str) -> None:
    outcome = phone.update([model])[0]
    assert (outcome.state, outcome.version, outcome.error) == (state, version, None)
    with phone.open(model) as active:
        scores = next(iter(active.run({"image": np.ones((1, 4), np.float32)}).values()))
    np.testing.assert_allclose(scores, [[6.0, 22.0, 38.0]], rtol=0.01)


@pytest.mark.parametrize("lost", [NAMED, ALL_BUT_DEVICES], ids=["named", "all-but-devices"])
def test_devices_are_served_while_the_control_plane_is_dead(stack, released, new_phone, lost, tiny_tflite):
    current = stack.polled_version(released)
    old_phone = new_phone("old")
    require_update(old_phone, released, current, "updated")
    before = answers(stack, released)

    stack.kill(*lost)
    assert all(answers(stack, released) == before for _ in range(POLLS))
    require_update(old_phone, released, current, "unchanged")
    require_update(new_phone("new"), released, current, "updated")
    stack.restart("device")
    assert answers(stack, released) == before
    require_update(new_phone("newest"), released, current, "updated")

    stack.start(*reversed(lost))
    number = stack.version(released, tiny_tflite, ["tflite-as-is"])
    stack.publish(released, number)
    require_update(old_phone, released, number, "updated")
    until(lambda: stack.workers_answering() >= {"worker", "converter"}, "both workers to answer")
    assert [name for name, child in stack.children.items() if not child.is_running()] == []
