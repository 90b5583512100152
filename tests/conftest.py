"""Fixtures and marks that every folder of tests shares. The servers come from deploy/dev/pytest_plugin.py."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connections
from hypothesis import HealthCheck, settings

from deploy.dev.pytest_plugin import ServiceUrls

# The suite decides whether a change is accepted, so each run tries the same examples, however slow the machine is.
# New ones: `--hypothesis-profile explore`.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", parent=settings.get_profile("explore"), derandomize=True)
settings.load_profile("suite")

_NEEDED_PACKAGE = {"convert": "tensorflow", "light": "ai_edge_litert"}
_DATABASE_FIXTURES = {"services", "db", "transactional_db", "django_db_setup", "live_server"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the servers, and skip what needs a package of an extra that is not installed."""
    missing = {mark: name for mark, name in _NEEDED_PACKAGE.items() if find_spec(name) is None}
    for item in items:
        if item.get_closest_marker("django_db") or _DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("database")
        for mark, name in missing.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=f"needs {name} (extra `{mark}`)"))


def pytest_configure() -> None:
    """Bind shared tasks to the application's broker, as every server process does."""
    import deploy.celery  # noqa: F401


@pytest.fixture(scope="session")
def django_db_modify_db_settings(services: ServiceUrls, django_db_modify_db_settings: None) -> None:
    """Fifty threads that connect at once wait for each other, on a busy machine for longer than a server should."""
    connections["default"].settings_dict["OPTIONS"]["connect_timeout"] = 60


@pytest.fixture(scope="session")
def django_db_setup(services: ServiceUrls, django_db_setup: None) -> None:
    """Start PostgreSQL before pytest-django creates the test database in it."""


@pytest.fixture
def own_store(settings: Any, tmp_path: Path) -> Path:
    """An empty blob store, workspaces and online keys for one test; returns the store's folder."""
    location = tmp_path / "blobs"
    local = {"BACKEND": "registry.blob_store.LocalBlobStorage", "OPTIONS": {"location": location}}
    settings.STORAGES = {**settings.STORAGES, "blobs": local}
    settings.AEROGRAM_WORKSPACE_DIR = tmp_path / "workspaces"
    settings.AEROGRAM_ONLINE_KEYS_DIR = tmp_path / "online"
    return location


@pytest.fixture
def event_stream(services: ServiceUrls) -> Iterator[redis.Redis]:
    """The Redis of the event stream, empty."""
    with redis.Redis.from_url(services.event_stream_url, socket_timeout=60) as client:  # a disk may be slow
        client.flushdb()
        yield client


@pytest.fixture
def broker(services: ServiceUrls) -> Iterator[redis.Redis]:
    """The Redis of the broker and the cache, empty."""
    with redis.Redis.from_url(services.redis_url, socket_timeout=60) as client:
        client.flushdb()
        yield client
