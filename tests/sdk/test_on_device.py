"""A client that decides on the device: the same outcome as one that polls, and nobody is told what device it is."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from aerogram_sdk import DeviceProfile, errors

from distribution.catalog import CatalogArm, CatalogExperiment, Layer
from distribution.device_plane.app import create_app
from distribution.device_plane.tree import LocalTree
from distribution.tree_export import export_tree
from registry.device_classes import DeviceClass, Selector
from tests.sdk.conftest import score
from tests.sdk.fake_runtime import model_file
from tests.simulators import DeviceSimulator, MemorySink, PublishedTree

CLASSES = (
    DeviceClass("large", Selector(os=("linux",), ram_mb_min=8000), ("tflite-float32",), ("gpu",)),
    DeviceClass("any", Selector(), ("tflite-dynamic-int8", "tflite-float32"), ("xnnpack",)),
)
TELLING = ("aerogram-unit", "aerogram-key", "cookie", "referer")


class Recorded(httpx.BaseTransport):
    """Keeps every request; `answered` may put another answer in place of one by the end of its path."""

    def __init__(self, serve):
        self.serve, self.requests, self.answered = serve, [], {}

    def handle_request(self, request):
        self.requests.append(request)
        for end, answer in self.answered.items():
            if request.url.path.endswith(end):
                return httpx.Response(answer.status_code, stream=httpx.ByteStream(answer.content))
        return self.serve(request)

    def paths(self):
        return [request.url.path.removeprefix("/v1/apps/demo/") for request in self.requests]


def in_process(application):
    device = DeviceSimulator(application)

    def serve(request):
        answer = device.request(request.method, request.url.raw_path.decode(), dict(request.headers), request.read())
        return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(answer.body))

    return serve


def plain_files(folder):
    """What the simplest CDN does: files by their path, and no more."""

    def serve(request):
        path = folder / request.url.path.lstrip("/")
        found = path.is_file()
        return httpx.Response(200 if found else 404, stream=httpx.ByteStream(path.read_bytes() if found else b""))

    return serve


@pytest.fixture
def tree(tmp_path):
    tree = PublishedTree(tmp_path / "tree", now=datetime.now(UTC).replace(microsecond=0), device_classes=CLASSES)
    for version in (1, 2):
        release(tree, version, current=version == 1)
    tree.publish()
    return tree


def release(tree, version, *, current=True):
    model = model_file(version)
    tree.release("digits", version, {"tflite-float32": {"model.json": model}}, current=current)


@pytest.fixture
def plane(tree):
    plane = create_app(LocalTree(tree.root), MemorySink())
    asyncio.run(plane.refresh())
    yield plane
    asyncio.run(plane.close())


@pytest.fixture
def transport(plane):
    return Recorded(in_process(plane))


@pytest.fixture
def build(new_client, tree, runtime, tmp_path):
    """A client over a transport; each name is another device."""
    opened = []

    def build(transport, name="device", **changes):
        opened.append(httpx.Client(transport=transport))
        return new_client(
            server="http://device.plane",
            root=(tree.folder / "trust/1.root.json").read_bytes(),
            runtimes={"litert": runtime},
            http=opened[-1],
            store=tmp_path / name,
            **({"decides": "device"} | changes),
        )

    yield build
    for http in opened:
        http.close()


def publish(tree, plane):
    tree.publish()
    asyncio.run(plane.refresh())


def outcome(client):
    (found,) = client.update(["digits"])
    return found.state, found.reason, found.version, found.error and found.error.code


def ramp(*, state="running"):
    arms = (CatalogArm("treatment", 2, False, ((0, 5000),)), CatalogArm("control", 1, True, ((5000, 10_000),)))
    return CatalogExperiment("digits-v2", "rollout", state, 1, Layer("layer:1:1", (0, 10_000)), "arm:1:1", arms)


def test_install_update_roll_back_and_switch_off(build, transport, tree, plane):
    client = build(transport)
    assert outcome(client) == ("updated", "current_release", 1, None)
    assert score(client) == 3.0
    assert outcome(client) == ("unchanged", "current_release", 1, None)
    release(tree, 2)
    publish(tree, plane)
    assert outcome(client) == ("updated", "current_release", 2, None)
    assert score(client) == 6.0
    release(tree, 1)
    publish(tree, plane)
    assert outcome(client) == ("updated", "current_release", 1, None)
    tree.kill("digits")
    publish(tree, plane)
    assert outcome(client) == ("use_embedded", "kill_switch", None, None)


def test_no_request_says_anything_of_the_device(build, transport, tree, plane):
    """Neither does which files it asks for, up to the manifest that was decided on."""
    profile = DeviceProfile("linux", "6.1", "1.0", ram_mb=16_000, soc="Tensor G3", accelerators=frozenset({"gpu"}))
    first, second = build(transport, "one", unit="unit-1", profile=profile, key="k"), build(transport, "two", unit="u2")
    for client in (first, second):
        assert outcome(client)[0] == "updated"
    for request in transport.requests:
        told = str(request.url) + " ".join(value for name, value in request.headers.items())
        assert not request.url.query
        assert not set(TELLING) & set(request.headers)
        assert not any(word in told for word in ("unit-1", "u2", "16000", "Tensor", "6.1", "manifests?"))
    half = len(transport.requests) // 2
    assert transport.paths()[:half] == transport.paths()[half:]


@pytest.mark.parametrize("state", ["running", "halted"])
@pytest.mark.parametrize("ram_mb", [4000, 16_000])
def test_it_installs_what_a_polling_twin_installs(build, transport, tree, plane, state, ram_mb):
    tree.change("digits", experiments=(ramp(state=state),))
    publish(tree, plane)
    profile, found = DeviceProfile("linux", app_version="1.0", ram_mb=ram_mb), set()
    for number in (1, 2):
        twins = [
            build(transport, f"{decides}-{number}", unit=f"unit-{number}", profile=profile, decides=decides)
            for decides in ("device", "server")
        ]
        here, there = map(outcome, twins)
        assert here == there
        found.add(here[1])
        events = [[(each["stage"], each["model"], each["version"]) for each in twin.pending_events()] for twin in twins]
        assert events[0] == events[1]
    assert found == {"rollout_control", "rollout_treatment" if state == "running" else "halted"}


def test_what_runs_counts_where_a_treatment_is_halted(build, transport, tree, plane):
    tree.change("digits", experiments=(ramp(),))
    publish(tree, plane)
    treated = build(transport, unit="unit-1")
    assert outcome(treated) == ("updated", "rollout_treatment", 2, None)
    tree.change("digits", experiments=(ramp(state="halted"),))
    publish(tree, plane)
    assert outcome(treated) == ("unchanged", "rollout_treatment", 2, None)


def test_nothing_new_costs_a_root_and_a_timestamp(build, transport):
    client = build(transport)
    outcome(client)
    transport.requests.clear()
    assert outcome(client)[0] == "unchanged"
    assert transport.paths() == ["trust/2.root.json", "trust/timestamp.json"]


def test_plain_files_are_enough(build, tree, tmp_path):
    export_tree(LocalTree(tree.root), "demo", tmp_path / "cdn")
    client = build(Recorded(plain_files(tmp_path / "cdn")))
    assert outcome(client) == ("updated", "current_release", 1, None)
    assert score(client) == 3.0


@pytest.mark.parametrize(
    ("end", "status", "content", "expected"),
    [
        ("timestamp.json", 503, b"", ("unavailable", "trust_unavailable")),
        (".production.json", 503, b"", ("unavailable", "trust_unavailable")),
        (".production.json", 200, b"{}", ("refused", "metadata_invalid")),
        (".tflite-float32.json", 404, b"", ("unavailable", "trust_unavailable")),
        (".tflite-float32.json", 200, b"{}", ("refused", "metadata_invalid")),
        (".tflite-float32.json", 200, b"{" * 100_000, ("refused", "metadata_invalid")),
    ],
)
def test_what_is_not_genuine_changes_nothing(build, transport, tree, plane, end, status, content, expected):
    client = build(transport)
    outcome(client)
    release(tree, 2)
    publish(tree, plane)
    transport.answered[end] = httpx.Response(status, content=content)
    state, _, version, code = outcome(client)
    assert (state, code, version) == (*expected, 1)
    assert score(client) == 3.0
    transport.answered.clear()
    assert outcome(client)[::2] == ("updated", 2)


def test_a_kept_catalog_or_manifest_that_was_changed_is_fetched_again(build, transport, tmp_path):
    client = build(transport)
    outcome(client)
    kept = sorted(path for path in (tmp_path / "device/demo/catalogs").rglob("*") if path.is_file())
    assert [path.name for path in kept] == ["digits.json", "production.json"]
    for path in kept:
        path.write_bytes(b"{}")
    transport.requests.clear()
    assert outcome(client) == ("unchanged", "current_release", 1, None)
    assert [path.rpartition(".")[2] for path in transport.paths()] == ["json"] * 4


def test_a_catalog_that_nothing_can_be_decided_from_is_refused(build, transport, tree, plane, monkeypatch):
    """Signed, so that it passes as a target; as a newer server may publish it."""
    plain = tree.catalog("production")
    written = plain.to_json() | {"spec_version": "2"}
    monkeypatch.setattr(tree, "catalog", lambda channel: type("Newer", (), {"to_json": lambda self: written})())
    client = build(transport)
    tree.publish()
    serve = in_process_files(tree)
    transport.serve = serve
    assert outcome(client) == ("refused", "", None, "catalog_malformed")


def test_the_catalog_of_another_channel_is_refused(build, transport, tree, monkeypatch):
    other = replace(tree.catalog("production"), channel="staging")
    monkeypatch.setattr(tree, "catalog", lambda channel: other)
    tree.publish()
    client = build(transport)
    transport.serve = in_process_files(tree)
    (found,) = client.update(["digits"])
    assert isinstance(found.error, errors.CatalogMalformed)
    assert "expected that of demo/production, got demo/staging" in str(found.error)


def in_process_files(tree):
    """The tree as it lies there, by its own paths: the device plane would refuse these catalogs itself."""
    return lambda request: plain_files(tree.folder)(
        httpx.Request("GET", f"http://x/{request.url.path.removeprefix('/v1/apps/demo/')}")
    )


def test_an_unknown_model_is_nothing(build, transport):
    (found,) = build(transport).update(["faces"])
    assert (found.state, found.reason, found.error) == ("none", "unknown_model", None)


def test_events_are_those_of_a_device_that_polls(build, transport, plane):
    client = build(transport)
    outcome(client)
    waiting = client.pending_events()
    assert [event["stage"] for event in waiting][:2] == ["assigned", "offered"]
    assert client.flush_events() == len(waiting)
    (entry,) = plane.events.entries
    assert json.loads(entry["batch"])["events"] == waiting
