"""The live channel over real sockets, and revisions over a real Redis that is killed and comes back."""

import asyncio
import gzip
import json
import re
from contextlib import contextmanager
from ipaddress import ip_network

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from deploy import device_server
from deploy.dev import ports
from deploy.dev.children import Child
from deploy.dev.redis_server import RedisServer
from distribution.device_plane.app import create_app
from distribution.device_plane.live import MOST_REFUSALS, Listener, Live, LiveLimits
from distribution.device_plane.redis_revisions import CHANNEL, RedisRevisions
from distribution.revision_hints import announce_revision
from tests.distribution.device_plane.served import PATIENCE_SECONDS, served
from tests.simulators import NOW, CountingTree, DownSink, MemorySink, PublishedTree

UNIT = "c0ffee00-0000-4000-8000-000000000001"
AT = "2030-01-01T12:00:00Z"
EVENT = {
    "id": "00000000-0000-4000-8000-000000000001",
    "at": AT,
    "stage": "activate",
    "outcome": "ok",
    "model": "digits",
}
BATCH = {"sent_at": AT, "profile": {"os": "android"}, "events": [EVENT]}
NEVER = 3_600.0


@pytest.fixture
def published(tmp_path):
    tree = PublishedTree(tmp_path / "tree")
    tree.release("digits", 3, {"tflite-float32": {"model.tflite": b"3"}})
    tree.release("digits", 3, {"tflite-float32": {"model.tflite": b"3"}}, channel="beta")
    tree.publish()
    return tree


@contextmanager
def plane(published, *, sink=None, refresh_seconds=NEVER, **members):
    application = create_app(
        CountingTree(published.root),
        sink or MemorySink(),
        clock=lambda: NOW,
        refresh_seconds=refresh_seconds,
        reader_threads=2,
        **members,
    )
    with served(application) as server:
        yield server


@contextmanager
def channel_of(server, query="", *, unit=UNIT, path="/v1/apps/demo/live", **headers):
    more = ({"Aerogram-Unit": unit} if unit else {}) | {name.replace("_", "-"): text for name, text in headers.items()}
    address = f"ws://127.0.0.1:{server.port}{path}{query}"
    with connect(address, additional_headers=more, compression=None, proxy=None, ping_interval=None) as socket:
        yield socket


def told(socket):
    return json.loads(socket.recv(timeout=PATIENCE_SECONDS))


def asked(socket, message):
    socket.send(message if isinstance(message, bytes | str) else json.dumps(message))
    return told(socket)


def refused(server, **arguments):
    with pytest.raises(InvalidStatus) as error, channel_of(server, **arguments):
        pass
    return error.value.response.status_code, json.loads(error.value.response.body)["code"]


def release(published, version, channel="production"):
    published.release("digits", version, {"tflite-float32": {"model.tflite": b"%d" % version}}, channel=channel)
    return published.publish()


def serving(server, revision):
    return server.application.applications.by_name["demo"].revision == revision


class TestHints:
    def test_a_revision_is_told_to_those_whose_channel_changed(self, published):
        with plane(published) as server, channel_of(server, "?channel=production") as one, channel_of(server) as all_:
            assert told(one) == {"type": "revision", "channel": "production", "revision": 1}
            assert {told(all_)["channel"] for _ in range(2)} == {"production", "beta"}
            release(published, 4, "beta")
            server.call(server.application.hint, "demo")
            assert told(all_) == {"type": "revision", "channel": "beta", "revision": 2}
            release(published, 5)
            server.call(server.application.hint, "demo")
            expected = {"type": "revision", "channel": "production", "revision": 3}
            assert told(all_) == told(one) == expected

    def test_the_worker_serves_what_it_tells(self, published):
        with plane(published) as server, channel_of(server, "?channel=production") as socket:
            told(socket)
            release(published, 4)
            server.call(server.application.hint, None)
            told(socket)
            assert server.application.applications.by_name["demo"].revision == 2

    def test_without_any_hint_the_tree_is_looked_at(self, published):
        with plane(published, refresh_seconds=0.01) as server, channel_of(server, "?channel=beta") as socket:
            told(socket)
            release(published, 4, "beta")
            assert told(socket)["revision"] == 2

    def test_hints_about_one_application_do_not_keep_others_waiting(self, published):
        other = PublishedTree(published.root, application="other")
        other.release("faces", 1, {"tflite-float32": {"model.tflite": b"1"}})
        with plane(published, refresh_seconds=0.05) as server:
            other.publish()

            def both():
                server.application.hint("demo")
                return "other" in server.application.applications.by_name

            server.until(both)

    def test_a_phone_that_does_not_read_keeps_one_revision_for_each_channel(self):
        sent = []

        async def scenario():
            gate = asyncio.Event()

            async def send(message):
                await gate.wait()
                sent.append(json.loads(message["text"]))

            live, listener = Live(LiveLimits(), None), Listener(send, None)
            for revision in range(1_000):
                live._tell(listener, {"production": revision, "beta": revision})
                assert len(listener.due) <= 2
                assert len(live._tasks) == 1
                await asyncio.sleep(0)
            gate.set()
            await asyncio.gather(*live._tasks)

        asyncio.run(scenario())
        assert len(sent) <= 4
        assert {(each["channel"], each["revision"]) for each in sent} >= {("production", 999), ("beta", 999)}


class TestEvents:
    def test_a_batch_is_acknowledged_once_the_stream_has_it(self, published):
        sink = MemorySink()
        with plane(published, sink=sink) as server, channel_of(server, "?channel=beta") as socket:
            told(socket)
            assert asked(socket, BATCH) == {"type": "ack", "accepted": 1, "rejected": []}
            packed = gzip.compress(json.dumps(BATCH | {"events": [EVENT, {"id": "x"}]}).encode())
            answer = asked(socket, packed)
            assert (answer["type"], answer["accepted"], answer["rejected"][0]["index"]) == ("ack", 1, 1)
        assert [entry["unit"] for entry in sink.entries] == [UNIT, UNIT]
        assert json.loads(sink.entries[0]["batch"])["events"][0]["id"] == EVENT["id"]

    def test_a_wrong_batch_is_refused_and_the_channel_stays_open(self, published):
        with plane(published) as server, channel_of(server, "?channel=beta") as socket:
            told(socket)
            for message, code in [("{", "invalid_json"), (b"\x00", "invalid_body"), ({"events": 1}, "invalid_field")]:
                answer = asked(socket, message)
                assert (answer["type"], answer["code"], answer["status"]) == ("error", code, 400)
            assert asked(socket, BATCH)["type"] == "ack"

    def test_without_a_unit_one_only_listens(self, published):
        with plane(published) as server, channel_of(server, "?channel=beta", unit=None) as socket:
            told(socket)
            assert asked(socket, BATCH)["field"] == "Aerogram-Unit"

    def test_a_stream_that_is_down_is_told_with_when_to_come_back(self, published):
        with plane(published, sink=DownSink()) as server, channel_of(server, "?channel=beta") as socket:
            told(socket)
            for _ in range(MOST_REFUSALS + 2):  # not the phone's fault: it is not thrown out for it
                answer = asked(socket, BATCH)
            assert (answer["status"], answer["code"], answer["retry_after_seconds"]) == (503, "events_unavailable", 30)

    def test_whoever_goes_on_sending_nonsense_is_closed(self, published):
        with plane(published) as server, channel_of(server, "?channel=beta") as socket:
            told(socket)
            for _ in range(MOST_REFUSALS):
                asked(socket, "{")
            asked(socket, "{")
            with pytest.raises(ConnectionClosed) as closed:
                told(socket)
            assert closed.value.rcvd.code == 1008

    @pytest.mark.parametrize("message", ["x" * (512 * 1024 + 1), b"x" * (512 * 1024 + 1)])
    def test_a_message_that_is_too_long_is_closed(self, published, message):
        with plane(published) as server, channel_of(server, "?channel=beta") as socket:
            told(socket)
            with pytest.raises(ConnectionClosed) as closed:
                asked(socket, message)
            assert closed.value.rcvd.code == 1009


class TestWhoMayConnect:
    def test_what_is_no_live_channel(self, published):
        with plane(published) as server:
            assert refused(server, path="/v1/apps/nope/live") == (404, "unknown_application")
            assert refused(server, path="/v1/apps/demo/alive") == (404, "unknown_path")
            assert refused(server, query="?channel=nope") == (400, "invalid_field")
            assert refused(server, query="?channel=beta&channel=beta") == (400, "invalid_field")
            assert refused(server, unit="not a unit") == (400, "invalid_field")
            with server.connect() as connection:
                answer = connection.ask(b"GET /v1/apps/demo/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (answer.status, b"upgrade: websocket" in answer.head) == (426, True)

    def test_pages_of_others_may_not(self, published):
        limits = LiveLimits(origins=frozenset(["https://ours.example"]))
        with plane(published, live=limits) as server:
            assert refused(server, Origin="https://evil.example") == (403, "origin_not_allowed")
            assert refused(server, Origin="null") == (403, "origin_not_allowed")
            with channel_of(server, Origin="https://ours.example") as socket:
                told(socket)

    def test_an_address_has_only_so_many(self, published):
        with plane(published, live=LiveLimits(most_per_address=2)) as server:
            with channel_of(server), channel_of(server):
                assert refused(server) == (429, "too_many_connections")
                assert refused(server, X_Forwarded_For="192.0.2.1") == (429, "too_many_connections")
            server.until(lambda: not server.application.live.addresses)
            with channel_of(server) as socket:
                told(socket)

    def test_behind_a_proxy_the_phones_address_counts(self, published):
        limits = LiveLimits(most_per_address=1, proxies=(ip_network("127.0.0.0/8"),))
        with plane(published, live=limits) as server, channel_of(server, X_Forwarded_For="192.0.2.1"):
            assert refused(server, X_Forwarded_For="9.9.9.9, 192.0.2.1") == (429, "too_many_connections")
            with channel_of(server, X_Forwarded_For="192.0.2.1, 192.0.2.2") as socket:
                told(socket)

    def test_a_worker_has_only_so_many(self, published):
        with plane(published, live=LiveLimits(most=1)) as server, channel_of(server):
            assert refused(server) == (503, "live_full")


class TestTheConnection:
    HANDSHAKE = (
        b"GET /v1/apps/demo/live?channel=beta HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )

    def test_a_phone_that_answers_no_ping_is_let_go(self, published, monkeypatch):
        monkeypatch.setattr(device_server, "PING_SECONDS", 0.01)
        monkeypatch.setattr(device_server, "PONG_SECONDS", 0.01)
        with plane(published) as server, server.connect() as connection:
            assert connection.ask(self.HANDSHAKE).status == 101
            while not connection.is_closed():
                pass
            assert b"\x89\x04" in connection.buffer, "a ping of four bytes"
            assert connection.buffer.endswith(b"\x88\x18\x03\xf3keepalive ping timeout"), "close, 1011"
            server.until(lambda: not server.application.live.count)

    def test_a_server_that_ends_says_so(self, published):
        with plane(published) as server:
            opened = channel_of(server, "?channel=beta")
            socket = opened.__enter__()
            told(socket)
        with pytest.raises(ConnectionClosed) as closed:
            told(socket)
        assert closed.value.rcvd.code == 1012
        opened.__exit__(None, None, None)

    def test_polls_go_on_beside_it(self, published):
        with plane(published) as server, channel_of(server), server.connect() as connection:
            poll = b"GET /v1/apps/demo/channels/beta/manifests/digits HTTP/1.1\r\nHost: a\r\n\r\n"
            assert connection.ask(poll).status == 200


class OwnRedis:
    """A real Redis of this test alone, on a port that it keeps when it comes back."""

    def __init__(self, folder, port):
        self.server = RedisServer("revisions", folder / "redis", port, "secret", "no")
        self.folder = folder
        self.server.prepare()
        self.child = None

    def start(self):
        self.child = Child(self.server.part(), run=self.folder, logs=self.folder)
        self.child.start()
        self.child.wait_until_ready()

    def stop(self):
        if self.child is not None:
            self.child.stop()


@pytest.fixture
def own_redis(tmp_path):
    with ports.reserved() as port:
        redis = OwnRedis(tmp_path, port)
        redis.start()
        yield redis
        redis.stop()


class TestRedis:
    @pytest.fixture
    def announce(self, settings, own_redis):
        settings.EVENT_STREAM_URL = own_redis.server.url
        return announce_revision

    def test_an_announcement_reaches_every_worker_at_once(self, published, own_redis, announce):
        feeds = [RedisRevisions(own_redis.server.url) for _ in range(2)]
        with plane(published, revisions=feeds[0]) as one, plane(published, revisions=feeds[1]) as two:
            one.until(feeds[0].subscribed.is_set)
            two.until(feeds[1].subscribed.is_set)
            with channel_of(one, "?channel=beta") as first, channel_of(two, "?channel=beta") as second:
                told(first), told(second)
                announce("demo", release(published, 4, "beta"))
                assert told(first)["revision"] == told(second)["revision"] == 2

    def test_what_is_announced_is_looked_at_and_nothing_else(self, published, own_redis, announce):
        PublishedTree(published.root, application="other").publish()
        with plane(published, revisions=RedisRevisions(own_redis.server.url)) as server:
            server.until(server.application.revisions.subscribed.is_set)
            server.until(lambda: not server.application._hints)
            tree = server.application.applications.tree
            server.wait(server.application.refresh())
            tree.calls.clear()
            announce("demo", release(published, 4))
            server.until(lambda: serving(server, 2))
            assert (tree.calls["applications"], tree.calls["fingerprint"]) == (0, 1)

    def test_redis_is_killed_and_comes_back(self, published, own_redis, announce):
        """Without it nothing but the hint is lost; what was missed is found as soon as it is back."""
        feed = RedisRevisions(own_redis.server.url, longest_pause_seconds=0.01)
        with plane(published, revisions=feed) as server, server.connect() as connection:
            server.until(feed.subscribed.is_set)
            own_redis.child.kill()
            server.until(lambda: not feed.subscribed.is_set())
            announce("demo", release(published, 4))  # into the void, and without an error
            poll = b"GET /v1/apps/demo/channels/production/manifests/digits HTTP/1.1\r\nHost: a\r\n\r\n"
            answer = connection.ask(poll)
            assert (answer.status, b"aerogram-revision: 1" in answer.head) == (200, True)
            own_redis.start()
            server.until(lambda: serving(server, 2))
            assert b"aerogram-revision: 2" in connection.ask(poll).head
            announce("demo", release(published, 5))
            server.until(lambda: serving(server, 3))
            assert b"aerogram-revision: 3" in connection.ask(poll).head

    def test_while_redis_is_away_the_tree_is_looked_at_regularly(self, published):
        nobody = RedisRevisions("redis://127.0.0.1:9/0", longest_pause_seconds=0.01)
        with plane(published, revisions=nobody, refresh_seconds=0.01) as server:
            release(published, 4)
            server.until(lambda: serving(server, 2))
            assert not nobody.subscribed.is_set()

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"application": 1}', b'{"application": "../x"}', b"\xff"])
    def test_an_announcement_of_nonsense_is_a_reason_to_look(self, published, own_redis, data):
        import redis

        with plane(published, revisions=RedisRevisions(own_redis.server.url)) as server:
            server.until(server.application.revisions.subscribed.is_set)
            release(published, 4)
            with redis.Redis.from_url(own_redis.server.url) as client:
                client.publish(CHANNEL, data)
            server.until(lambda: serving(server, 2))


def test_nothing_of_a_unit_is_logged(published, caplog, capfd):
    with plane(published) as server, channel_of(server, "?channel=beta") as socket:
        told(socket)
        asked(socket, "{")
    assert not re.search(UNIT, caplog.text + "".join(capfd.readouterr()))
