"""The SDK follows a live channel of the real device plane over real sockets."""

import json
from threading import Event, Thread

import pytest
from aerogram_sdk import AerogramClient, DeviceProfile
from aerogram_sdk.live import FOR_GOOD, LiveChannel
from websockets.sync.server import serve

from distribution.device_plane.app import create_app
from tests.distribution.device_plane.served import served
from tests.simulators import NOW, CountingTree, MemorySink, PublishedTree

SECONDS = 120.0


class Waits:
    """A stop that lets no time pass: notes how long it was to wait, and is set after so many waits."""

    def __init__(self, most):
        self.waited, self.most, self.stopped = [], most, False

    def is_set(self):
        return self.stopped

    def wait(self, timeout):
        self.waited.append(timeout)
        self.stopped = self.stopped or len(self.waited) >= self.most
        return self.stopped


class Polls:
    """Counts polls and lets a test wait for the next."""

    def __init__(self):
        self.count, self.polled = 0, Event()

    def __call__(self):
        self.count += 1
        self.polled.set()

    def next(self):
        assert self.polled.wait(SECONDS)
        self.polled.clear()


@pytest.fixture
def published(tmp_path):
    tree = PublishedTree(tmp_path / "tree")
    for channel in ("production", "beta"):
        tree.release("digits", 1, {"tflite-float32": {"model.tflite": b"1"}}, channel=channel)
    tree.publish()
    return tree


@pytest.fixture
def plane(published):
    with served(create_app(CountingTree(published.root), MemorySink(), clock=lambda: NOW, refresh_seconds=3600)) as it:
        yield it


def channel_to(server, poll, application="demo", **members):
    return LiveChannel(f"http://127.0.0.1:{server.port}", application, "production", {}, poll, **members)


def test_a_publication_leads_to_a_poll(plane, published):
    polls, stop = Polls(), Event()
    live = channel_to(plane, polls, chance=lambda: 0.0)
    thread = Thread(target=live.follow, args=(stop,))
    thread.start()
    try:
        polls.next()
        assert live.revision == 1
        for channel, expected in (("beta", None), ("production", 3)):
            published.release("digits", 2, {"tflite-float32": {"model.tflite": b"2"}}, channel=channel)
            published.publish()
            plane.call(plane.application.hint, "demo")
            if expected:
                polls.next()
                assert live.revision == expected
    finally:
        stop.set()
        thread.join(SECONDS)
    assert not thread.is_alive()
    assert polls.count == 2, "another channel's revision is no reason"


def test_phones_spread_their_polls(plane):
    for chance, expected in ((0.0, 0.0), (0.5, 15.0), (1.0, 30.0)):
        waits = Waits(most=1)
        channel_to(plane, Polls(), chance=lambda chance=chance: chance).follow(waits)
        assert waits.waited == [expected]


def test_it_comes_back_more_and_more_rarely():
    waits = Waits(most=12)
    LiveChannel("http://127.0.0.1:9", "demo", "production", {}, Polls(), chance=lambda: 1.0).follow(waits)
    assert waits.waited == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]


def test_what_is_refused_for_good_is_not_tried_again(plane):
    waits = Waits(most=3)
    channel_to(plane, Polls(), application="nope").follow(waits)
    assert (waits.waited, 404 in FOR_GOOD) == ([], True)


def test_nonsense_is_no_hint():
    """Whatever a server says that is no newer revision of this channel leads to no poll."""
    hint = {"type": "revision", "channel": "production", "revision": 7}
    said = [
        "{", "[]", "1", "null", b"\xff", json.dumps({"type": "ack"}), json.dumps(hint | {"channel": "beta"}),
        json.dumps(hint | {"revision": "x"}), json.dumps(hint), json.dumps(hint), json.dumps(hint | {"revision": 6}),
    ]  # fmt: skip

    def speak(socket):
        for message in said:
            socket.send(message)

    polls, waits = Polls(), Waits(most=2)
    with serve(speak, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        LiveChannel(f"http://127.0.0.1:{port}", "demo", "production", {}, polls).follow(waits)
        server.shutdown()
        thread.join(SECONDS)
    assert polls.count == 1


def test_a_client_updates_and_tells(plane, published, tmp_path):
    outcomes, stop = [], Event()
    with AerogramClient(
        server=f"http://127.0.0.1:{plane.port}",
        application="demo",
        channel="production",
        root=(published.folder / "trust" / "1.root.json").read_bytes(),
        store=tmp_path / "store",
        profile=DeviceProfile(os="android"),
        runtimes={},
    ) as client:

        def told(some):
            outcomes.extend(some)
            stop.set()

        client.follow(["digits"], stop=stop, told=told, spread_seconds=0.0)
    assert [outcome.model for outcome in outcomes] == ["digits"]


def test_a_secure_server_is_asked_securely():
    assert (
        LiveChannel("https://a.example/", "demo", "beta", {}, Polls()).url
        == "wss://a.example/v1/apps/demo/live?channel=beta"
    )
