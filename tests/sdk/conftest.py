import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

SDK = Path(__file__).parents[2] / "sdk_stubs" / "python"
sys.path.insert(0, str(SDK))

from aerogram_sdk import AerogramClient, DeviceProfile  # noqa: E402

from tests.sdk.fake_runtime import IMAGE, SCHEMA, FakeRuntime, model_file, sanity_file  # noqa: E402
from tests.sdk.repository_simulator import FaultyServer, Release, RepositorySimulator  # noqa: E402

Build = Callable[..., Release]


def score(client: AerogramClient) -> float:
    """What the running model makes of IMAGE: three times its version."""
    with client.open("digits") as model:
        return float(model.run({"image": IMAGE})["score"][0, 0])


def staged(client: AerogramClient) -> list[tuple[str, str]]:
    return [(event["stage"], event["outcome"]) for event in client.pending_events()]


@pytest.fixture
def simulator() -> RepositorySimulator:
    return RepositorySimulator()


@pytest.fixture
def server(simulator: RepositorySimulator) -> Iterator[FaultyServer]:
    with FaultyServer(simulator) as server:
        yield server


@pytest.fixture
def release(simulator: RepositorySimulator) -> Build:
    """Release a fake model whose score is `version` times the sum of its input."""

    def build(version: int, *, padding: int = 0, sanity_factor: float | None = None, **members: Any) -> Release:
        files = {
            "model.json": members.pop("model", None) or model_file(version, padding=padding),
            "sanity.json": sanity_file(version if sanity_factor is None else sanity_factor),
        }
        defaults = {"counter": version, "schema": SCHEMA, "sanity": "sanity.json"}
        return simulator.release(Release("digits", version, "numpy-float", files, **(defaults | members)))

    return build


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """Shared, because reading the system's certificates takes longer than most of these tests."""
    with httpx.Client(timeout=60) as client:
        yield client


@pytest.fixture
def new_client(
    server: FaultyServer, simulator: RepositorySimulator, runtime: FakeRuntime, http: httpx.Client, tmp_path: Path
) -> Iterator[Callable[..., AerogramClient]]:
    clients: list[AerogramClient] = []

    def build(**changes: Any) -> AerogramClient:
        arguments = {
            "server": server.url,
            "application": simulator.application,
            "channel": simulator.channel,
            "root": simulator.root_bytes(),
            "store": tmp_path / "store",
            "profile": DeviceProfile(os="linux", app_version="1.0"),
            "runtimes": {"numpy": runtime},
            "http": http,
        }
        clients.append(AerogramClient(**(arguments | changes)))
        return clients[-1]

    yield build
    for client in clients:
        client.close()


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def client(new_client: Callable[..., AerogramClient]) -> AerogramClient:
    return new_client()


@pytest.fixture
def installed(client: AerogramClient, simulator: RepositorySimulator, server: FaultyServer, release: Build) -> Release:
    """Version 1 is active, has run and is reported; what comes next is the test's."""
    first = release(1)
    simulator.offer(first)
    simulator.publish()
    assert client.update(["digits"])[0].state == "updated"
    assert score(client) == 3.0
    client.flush_events()
    server.requests.clear()
    return first
