"""PostgreSQL and Redis for a pytest session, started when the first test needs them.

Loaded with `-p`, because pytest-django reads the settings before any conftest.py: the addresses are planned and put
into the environment then, and the servers follow lazily. Under pytest-xdist the controller starts them before its
workers, and each worker has a Redis database of its own.
"""

import contextlib
import os
import re
from dataclasses import dataclass, field

import pytest

from deploy.dev import services as dev
from deploy.dev.postgres import VOLATILE

_MANY = {"max_connections": "400"}  # a test has 50 at once, and another worker's may, too
_VARIABLES = {"postgres": "DATABASE_URL", "broker": "REDIS_URL", "events": "EVENT_STREAM_URL"}


@dataclass(frozen=True)
class ServiceUrls:
    database_url: str
    redis_url: str
    event_stream_url: str


@dataclass
class _Session:
    planned: dev.Services | None = None  # None in a worker of pytest-xdist
    embedded: frozenset[str] = frozenset()
    started: bool = False
    resources: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def plan(self) -> None:
        folder = self.resources.enter_context(dev.throwaway_folder())
        self.planned = dev.Services.plan(folder, postgres_settings={**VOLATILE, **_MANY})
        self.resources.callback(self.planned.stop)
        self.embedded = frozenset(name for name, variable in _VARIABLES.items() if not os.environ.get(variable))
        ours = {_VARIABLES[name] for name in self.embedded}
        os.environ.update({name: url for name, url in self.planned.environment().items() if name in ours})
        os.environ.setdefault("AEROGRAM_SECRET_KEY", "for tests, no secret")
        os.environ.update(
            AEROGRAM_VAR_DIR=str(folder),
            AEROGRAM_ONLINE_KEYS_DIR=str(self.planned.layout.online_keys),
            BLOB_STORE_URL=self.planned.layout.blobs.as_uri(),
        )
        if "postgres" in self.embedded:
            for name in [name for name in os.environ if name.startswith("PG")]:
                del os.environ[name]

    def start(self) -> None:
        if self.planned is not None and not self.started:
            self.started = True
            self.planned.start(self.embedded)


_session = _Session()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        for name in ("REDIS_URL", "EVENT_STREAM_URL"):
            os.environ[name] = database_of_worker(os.environ[name], worker)
        return
    early_config.add_cleanup(_session.resources.close)
    _session.plan()


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config.option, "numprocesses", None) and _session.planned is not None:
        _session.start()


@pytest.fixture(scope="session")
def services() -> ServiceUrls:
    """The addresses of running servers."""
    _session.start()
    return ServiceUrls(os.environ["DATABASE_URL"], os.environ["REDIS_URL"], os.environ["EVENT_STREAM_URL"])


def database_of_worker(url: str, worker: str) -> str:
    """The Redis URL with the database number of a pytest-xdist worker: gw0 has 1, gw1 has 2, and so on."""
    number = int(worker.removeprefix("gw")) + 1
    return re.sub(r"/[0-9]*$", f"/{number}", url)
