import pytest

from registry import inspection
from tests import factories
from tests.registry.fake_conversions import FOUND, FakeRunner, Queue


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
