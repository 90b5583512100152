from collections.abc import Callable
from pathlib import Path

import pytest

from registry import inspection
from tests import factories
from tests.registry.fake_conversions import FOUND, FakeRunner, Queue

SHARED_MODELS = Path(__file__).parents[3] / "shared" / "data" / "models"


@pytest.fixture
def app(services, own_store):
    return factories.application()


@pytest.fixture
def queue(monkeypatch):
    return Queue(monkeypatch)


@pytest.fixture
def inspected(monkeypatch):
    monkeypatch.setattr(inspection, "inspect_source", lambda _path, _name: FOUND)
    monkeypatch.setattr(inspection, "inspect_evaluation_set", lambda _path: {})
    return FOUND


@pytest.fixture
def runner(monkeypatch):
    return FakeRunner(monkeypatch)


@pytest.fixture
def shared_model() -> Callable[[str], Path]:
    """A ready model that nobody here made; skips where it is absent."""

    def find(name: str) -> Path:
        path = SHARED_MODELS / name
        if not path.is_file():
            pytest.skip(f"{name} is not on this machine")
        return path

    return find
