"""The server in front of the device plane: both lanes answer alike, and what is no HTTP gets nowhere."""

import re
import socket
from contextlib import suppress
from http import HTTPStatus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distribution.device_plane import http_protocol
from distribution.device_plane.app import create_app
from distribution.device_plane.http_protocol import DeviceProtocol
from tests.distribution.device_plane.conftest import FILES
from tests.distribution.device_plane.served import PATIENCE_SECONDS, served
from tests.simulators import NOW, CountingTree, MemorySink, PublishedTree

POLLS = b"/v1/apps/demo/channels/production/manifests"
POLL = POLLS + b"/digits?os=android&runtime=litert"
UNIT = b"c0ffee00-0000-4000-8000-000000000001"
LAST = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Never:
    """A fast lane that leaves everything to the application."""

    def answer(self, *_):
        return None


class Counting:
    """The true fast lane, counting what it took."""

    def __init__(self, lane):
        self.lane = lane
        self.taken = 0

    def answer(self, *arguments):
        answer = self.lane.answer(*arguments)
        self.taken += answer is not None
        return answer


class Behind:
    """The application as a server sees it, with a fast lane of the test's choice; the test ends it, no server does."""

    def __init__(self, plane, fast_lane):
        self.plane = plane
        self.fast_lane = fast_lane

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            await self.plane(scope, receive, send)
            return
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    published = PublishedTree(tmp_path_factory.mktemp("store") / "tree")
    published.release("digits", 3, FILES)
    published.release("faces", 1, {"tflite-float32": {"model.tflite": b"faces"}})
    published.publish()
    plane = create_app(CountingTree(published.root), MemorySink(), clock=lambda: NOW, reader_threads=2)
    plane.applications.refresh()
    yield plane
    plane.executor.shutdown()
    plane.loader.shutdown()


@pytest.fixture(scope="module")
def fast(plane):
    with served(Behind(plane, Counting(plane.fast_lane))) as server:
        yield server


@pytest.fixture(scope="module")
def slow(plane):
    with served(Behind(plane, Never())) as server:
        yield server


def request(target=POLL, method=b"GET", headers=(), version=b"HTTP/1.1", body=b""):
    lines = b"".join(b"%s: %s\r\n" % field for field in [(b"Host", b"a"), *headers])
    return b"%s %s %s\r\n%s\r\n%s" % (method, target, version, lines, body)


def stream(server, data, piece_bytes=65_536):
    """Everything the server says to `data`, without the dates, until it closes the connection."""
    with server.connect() as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the pieces travel as they are
        with suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(data), piece_bytes):
                connection.send(data[start : start + piece_bytes])
        while not connection.is_closed():
            pass
        return re.sub(rb"\r\ndate: [^\r]*", b"", connection.buffer)


def etag(server):
    head = stream(server, request(headers=[(b"Aerogram-Unit", UNIT), (b"Connection", b"close")]))
    return re.search(rb'etag: ("[0-9a-f]{64}")', head)[1]


def test_a_poll_takes_the_fast_lane_and_its_304_too(fast):
    before, tag = fast.application.fast_lane.taken, etag(fast)
    with fast.connect() as connection:
        full = connection.ask(request(headers=[(b"Aerogram-Unit", UNIT)]))
        unchanged = connection.ask(request(headers=[(b"Aerogram-Unit", UNIT), (b"If-None-Match", tag)]))
        head = connection.ask(request(method=b"HEAD", headers=[(b"Aerogram-Unit", UNIT)]), head_only=True)
    assert (full.status, unchanged.status, unchanged.body, head.status) == (200, 304, b"", 200)
    assert head.head == full.head
    assert fast.application.fast_lane.taken == before + 3


def test_it_carries_a_date(fast):
    with fast.connect() as connection:
        connection.send(request())
        connection.socket.settimeout(PATIENCE_SECONDS)
        assert re.search(rb"\r\ndate: \w{3}, \d\d \w{3} \d{4} [0-9:]{8} GMT\r\n", connection.socket.recv(65_536))


NAMES = st.sampled_from(
    [b"digits", b"faces", b"nope", b"Digits", b"", b"a%20b", b"%64igits", b"d#x", b"\xc3\xa9", b".."]
)
FIELDS = st.sampled_from(
    [
        b"os=android",
        b"os=ios",
        b"os=ANDROID",
        b"os_version=14",
        b"os_version=x",
        b"runtime=litert",
        b"runtime=coreml",
        b"runtime_version=2.1",
        b"ram_mb=8192",
        b"ram_mb=-1",
        b"accelerators=gpu,npu",
        b"current=digits:3",
        b"current=x",
        b"models=digits",
        b"models=digits,faces",
        b"models=digits,,",
        b"device=Google/Pixel+8",
        b"device=%3Cb%3E",
        b"os=%ff",
        b"later=field",
        b"",
        b"=",
        b"a=b#c",
        b"x=" + b"a" * 1_100,
        b"x=" + b"a" * 8_300,
    ]
)
TARGETS = st.one_of(
    st.builds(lambda name, fields: POLLS + b"/" + name + b"?" + b"&".join(fields), NAMES, st.lists(FIELDS, max_size=4)),
    st.builds(lambda fields: POLLS + b"?" + b"&".join(fields), st.lists(FIELDS, max_size=4)),
    st.sampled_from(
        [
            POLLS,
            POLL,
            b"http://other.example" + POLL,
            b"/" + POLL,
            POLL + b"?x",
            POLL.replace(b"demo", b"nope"),
            POLL.replace(b"production", b"nope"),
            POLL.replace(b"/digits", b"/digits/"),
            b"/healthz",
            b"*",
            b"x",
            b"/v1/apps/demo/channels/production/catalog",
            POLL.replace(b"v1", b"v%31"),
        ]
    ),
)
HEADERS = st.sampled_from(
    [
        (b"Aerogram-Unit", UNIT),
        (b"aerogram-unit", b"other"),
        (b"Aerogram-Unit", b""),
        (b"Aerogram-Unit", b"a b"),
        (b"Aerogram-Unit", b"\xe9"),
        (b"Aerogram-Unit", b"u" * 129),
        (b"If-None-Match", b"*"),
        (b"If-None-Match", b"TAG"),
        (b"IF-NONE-MATCH", b'"x", W/TAG'),
        (b"If-None-Match", b'"nope"'),
        (b"Connection", b"keep-alive"),
        (b"Connection", b"Keep-Alive"),
        (b"Connection", b"close"),
        (b"Connection", b"keep-alive, x"),
        (b"TE", b"trailers"),
        (b"Expect", b"100-continue"),
        (b"Content-Length", b"0"),
        (b"Accept-Encoding", b"gzip"),
        (b"User-Agent", b"x"),
        (b"Upgrade", b"h2c"),
        (b"X", b"\t spaced \t"),
        (b"Cookie", b"a" * 2_000),
    ]
)
GOOD = [b"os=android", b"os_version=14", b"runtime=litert", b"current=digits:3", b"ram_mb=8192", b"later=field"]
PLAIN = st.builds(
    request,
    st.builds(
        lambda name, fields: POLLS + name + b"&".join(fields),
        st.sampled_from([b"/digits?", b"/nope?", b"?models=digits,faces&"]),
        st.lists(st.sampled_from(GOOD), unique=True),
    ),
    st.sampled_from([b"GET", b"GET", b"HEAD"]),
    st.lists(
        st.sampled_from(
            [(b"Aerogram-Unit", UNIT), (b"If-None-Match", b"TAG"), (b"Connection", b"Keep-Alive"), (b"Accept", b"*/*")]
        ),
        max_size=3,
    ),
)
WILD = st.builds(
    request,
    TARGETS,
    st.sampled_from([b"GET"] * 5 + [b"HEAD", b"POST", b"OPTIONS", b"DELETE"]),
    st.lists(HEADERS, max_size=4),
    st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0"]),
)


def test_both_lanes_answer_byte_for_byte_alike(fast, slow):
    tag = etag(slow)
    before = fast.application.fast_lane.taken

    @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(PLAIN | WILD, min_size=1, max_size=4), st.booleans())
    def alike(requests, in_pieces):
        data = b"".join(requests).replace(b"TAG", tag) + LAST
        expected = stream(slow, data)
        assert stream(fast, data, piece_bytes=37 if in_pieces else len(data)) == expected

    alike()
    assert fast.application.fast_lane.taken > before + 100


SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
MALFORMED = {
    "length and chunks": request(
        headers=[(b"Content-Length", b"4"), (b"Transfer-Encoding", b"chunked")], body=b"0\r\n\r\n"
    ),
    "chunks and length": request(
        headers=[(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"4")], body=b"0\r\n\r\n"
    ),
    "two lengths": request(headers=[(b"Content-Length", b"0"), (b"Content-Length", b"35")], body=SMUGGLED),
    "two equal lengths": request(headers=[(b"Content-Length", b"35"), (b"Content-Length", b"35")], body=SMUGGLED),
    "a list of lengths": request(headers=[(b"Content-Length", b"0, 35")], body=SMUGGLED),
    "a signed length": request(headers=[(b"Content-Length", b"+35")], body=SMUGGLED),
    "a negative length": request(headers=[(b"Content-Length", b"-1")], body=SMUGGLED),
    "a hexadecimal length": request(headers=[(b"Content-Length", b"0x23")], body=SMUGGLED),
    "an endless length": request(headers=[(b"Content-Length", b"9" * 30)], body=SMUGGLED),
    "chunked not last": request(method=b"POST", headers=[(b"Transfer-Encoding", b"chunked, gzip")], body=b"0\r\n\r\n"),
    "an unknown coding": request(method=b"POST", headers=[(b"Transfer-Encoding", b"xchunked")], body=SMUGGLED),
    "a space before the colon": b"GET %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" % POLL,
    "a folded header": b"GET %s HTTP/1.1\r\nHost: a\r\nX: a\r\n Content-Length: 35\r\n\r\n" % POLL,
    "a bare line feed": b"GET %s HTTP/1.1\nHost: a\n\n" % POLL,
    "a bare carriage return": b"GET %s HTTP/1.1\r\nHost: a\rX: b\r\n\r\n" % POLL,
    "a NUL": request(headers=[(b"X", b"a\x00b")]),
    "a bad name": request(headers=[(b"Content\x01Length", b"4")]),
    "an empty name": b"GET %s HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n" % POLL,
    "HTTP 0.9": b"GET %s\r\n" % POLL,
    "HTTP 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a version like none": b"GET %s HTTP/9.7\r\nHost: a\r\n\r\n" % POLL,
    "a lower-case method": request(method=b"get"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
    "spaces in the target": b"GET %s a HTTP/1.1\r\nHost: a\r\n\r\n" % POLL,
    "a bad chunk": request(method=b"POST", headers=[(b"Transfer-Encoding", b"chunked")], body=b"zz\r\n\r\n"),
    "an endless chunk": request(method=b"POST", headers=[(b"Transfer-Encoding", b"chunked")], body=b"f" * 17 + b"\r\n"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_plain_request_is_refused_once_and_nothing_after_it_is_heard(fast, slow, data):
    for server in (fast, slow):
        said = stream(server, data + SMUGGLED + LAST)
        assert said.count(b"HTTP/1.1 ") == 1, said
        assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n"), said
        assert b"connection: close\r\n" in said
        assert b'"code":"malformed_request"' in said or b'"code":"incomplete_body"' in said


def test_a_body_is_no_request(fast, slow):
    """A poll may have a body; what it says is not heard."""
    hidden = request(headers=[(b"Content-Length", b"%d" % len(SMUGGLED))], body=SMUGGLED)
    chunked = request(
        headers=[(b"Transfer-Encoding", b"chunked")], body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    )
    for server in (fast, slow):
        for data in (hidden, chunked):
            assert re.findall(rb"HTTP/1.1 (\d+)", stream(server, data + LAST)) == [b"200", b"404"]


def test_an_upgrade_to_something_else_ends_the_connection(fast, slow):
    data = request(headers=[(b"Connection", b"Upgrade"), (b"Upgrade", b"h2c")]) + SMUGGLED
    for server in (fast, slow):
        said = stream(server, data)
        assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200"]
        assert b"connection: close\r\n" in said


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (request(POLLS + b"?" + b"a" * 20_000), 414, "uri_too_long"),
        (b"GET /" + b"a" * 20_000, 414, "uri_too_long"),
        (request(headers=[(b"X", b"a" * 40_000)]), 431, "headers_too_large"),
        (request(headers=[(b"X", b"")] * 10_000), 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"a" * 40_000, 431, "headers_too_large"),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_whole(fast, slow, data, status, code):
    for server in (fast, slow):
        with server.connect() as connection:
            answer = connection.ask(data)
            assert (answer.status, b'"code":"%s"' % code.encode() in answer.body) == (status, True)
            assert answer.head.startswith(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode())


def test_the_headers_of_one_request_are_not_counted_for_the_next(fast):
    poll = request(headers=[(b"Cookie", b"a" * 20_000)])
    assert stream(fast, poll * 5 + LAST).count(b"HTTP/1.1 200 OK") == 5


class TestDeadlines:
    LIMITS = DeviceProtocol.deadlines

    def swept(self, server, seconds):
        """The server `seconds` after its one connection began what it is in, however long the test took."""

        def sweep():
            (connection,) = server.connections
            began = connection.stalled_since or connection.phase_began
            vars(server.server.server_state)["sweeper"].sweep(began + seconds)

        server.call(sweep)

    def in_phase(self, server, phase):
        return lambda: [each.phase for each in server.connections] == [phase]

    @pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", request()[:-2]])
    def test_a_request_that_never_ends(self, fast, sent):
        with fast.connect() as connection:
            connection.send(sent)
            fast.until(self.in_phase(fast, "head"))
            self.swept(fast, self.LIMITS.head_seconds - 1)
            assert fast.connections
            self.swept(fast, self.LIMITS.head_seconds + 1)
            assert (connection.read().status, connection.is_closed()) == (408, True)

    def test_a_byte_now_and_then_prolongs_nothing(self, fast):
        with fast.connect() as connection:
            connection.send(request()[:10])
            fast.until(self.in_phase(fast, "head"))
            began = fast.connections[0].phase_began
            connection.send(request()[10:40])
            fast.until(lambda: fast.connections[0].url)
            assert fast.connections[0].phase_began == began

    def test_a_body_that_never_ends(self, fast):
        with fast.connect() as connection:
            path, kind = b"/v1/apps/demo/events", (b"Content-Type", b"application/json")
            connection.send(
                request(path, b"POST", [(b"Aerogram-Unit", UNIT), kind, (b"Content-Length", b"9")], body=b"{")
            )
            fast.until(self.in_phase(fast, "body"))
            self.swept(fast, self.LIMITS.body_seconds - 1)
            assert fast.connections
            self.swept(fast, self.LIMITS.body_seconds + 1)
            answer = connection.read()
            assert (answer.status, connection.is_closed()) == (408, True)
        fast.until(lambda: not fast.server.server_state.tasks)

    def test_an_idle_connection(self, fast):
        for first in (b"", request()):
            with fast.connect() as connection:
                if first:
                    connection.ask(first)
                fast.until(self.in_phase(fast, "idle"))
                self.swept(fast, self.LIMITS.idle_seconds - 1)
                assert fast.connections
                self.swept(fast, self.LIMITS.idle_seconds + 1)
                assert connection.is_closed()
                assert connection.buffer == b""

    def test_a_client_that_does_not_read(self, fast):
        with fast.connect() as connection:
            fast.until(lambda: len(fast.connections) == 1)
            connection.socket.setblocking(False)
            polls, sent = request() * 100, 0

            def stalled():
                nonlocal sent
                with suppress(BlockingIOError):
                    sent = (sent + connection.socket.send(polls[sent:])) % len(polls)
                return fast.connections[0].stalled_since is not None

            fast.until(stalled)
            waiting = fast.connections[0].transport.get_write_buffer_size()
            assert waiting < 256 * 2**10, "what one connection can make the server keep is bounded"
            self.swept(fast, self.LIMITS.stall_seconds - 1)
            assert fast.connections
            self.swept(fast, self.LIMITS.stall_seconds + 1)
            fast.until(lambda: not fast.connections)

    def test_the_server_looks_by_itself(self, fast, monkeypatch):
        monkeypatch.setattr(http_protocol, "SWEEP_SECONDS", 0.001)
        monkeypatch.setattr(DeviceProtocol, "deadlines", self.LIMITS._replace(idle_seconds=0.0))
        fast.until(lambda: not fast.connections and vars(fast.server.server_state)["sweeper"]._timer is None)
        with fast.connect() as connection:
            assert connection.is_closed()


def test_a_server_that_ends_lets_go_of_idle_connections(plane):
    with served(Behind(plane, plane.fast_lane)) as server:
        connection = server.connect()
        assert connection.ask(request()).status == 200
    assert connection.is_closed()
    connection.socket.close()


def test_an_answer_under_way_is_not_broken_into(fast):
    """Good requests before a bad one are answered whole, and then the bad one is refused."""
    catalog = request(b"/v1/apps/demo/channels/production/catalog")
    said = stream(fast, catalog + catalog + b"\x00nonsense\r\n\r\n" + SMUGGLED)
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"200", b"400"]
    assert said.count(b"connection: close\r\n") == 1
