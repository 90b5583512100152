import json
from typing import Any

import pytest
from django.test import Client

from registry import services
from registry.api import idempotency
from registry.models import Role
from tests import factories
from tests.factories import NOW

BASE = "/api/v1/applications/demo"


class Caller:
    """A client of the REST API that speaks JSON and remembers no state."""

    def __init__(self, user: Any) -> None:
        self.user = user
        self.client = Client(headers={"Authorization": f"Bearer {factories.token(user)}"})

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        url = path if path.startswith("/api/") else f"{BASE}/{path}".rstrip("/")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = "" if body is None else json.dumps(body)
        return self.client.generic(method, url, data, content_type="application/json", headers=named)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A request that waits for the one that came first with its key does so for as long as a slow machine takes."""
    monkeypatch.setattr(idempotency, "PATIENCE", "120s")


@pytest.fixture
def app():
    return factories.application()


@pytest.fixture
def caller(app):
    def make(role: Role, name: str = "") -> Caller:
        user = factories.user(name or role.label)
        services.grant(application=app, user=user, role=role, actor="tests", now=NOW)
        return Caller(user)

    return make


@pytest.fixture
def administrator(caller):
    return caller(Role.ADMINISTRATOR)


@pytest.fixture
def root():
    return Caller(factories.user("root", superuser=True))
