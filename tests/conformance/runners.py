"""The implementations of the decision beside the server's: how each is run on a file of cases (sdk_stubs/README.md)."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdk_stubs.kotlin import build as kotlin_build
from tests import debian
from tests.sdk import swift_toolchain

SDKS = Path(__file__).parents[2] / "sdk_stubs"


def python() -> list[str]:
    return [sys.executable, str(SDKS / "python/decide.py")]


def kotlin() -> list[str]:
    return kotlin_runner("DecideKt")


def kotlin_runner(main_class: str) -> list[str]:
    """Compiled by the first test that asks. What it takes is in Debian; in CI as root it is installed."""
    packages = {"java": "openjdk-17-jre-headless", "npm": "npm"}
    missing = [package for name, package in packages.items() if shutil.which(name) is None]
    if missing and debian.is_installable():
        debian.install(*missing)
    try:
        return kotlin_build.runner(main_class)
    except kotlin_build.ToolMissing as missing:
        lacking(f"{missing} to compile Kotlin")
        raise


def swift() -> list[str]:
    swift_toolchain.require()
    return swift_toolchain.runner()


# A command to which the file's path is appended. One that needs a tool that is not there skips or fails by `lacking`.
RUNNERS: dict[str, Callable[[], list[str]]] = {"python": python, "kotlin": kotlin, "swift": swift}


def lacking(what: str) -> None:
    """Skip, but not in CI as root, where everything can be installed: a skip there would hide a failure."""
    if debian.is_installable():
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


def decided(command: list[str], cases: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """What a runner prints of the cases, one document for each device."""
    path = folder / "cases.json"
    path.write_text(json.dumps(cases), "utf-8")
    done = subprocess.run([*command, str(path)], check=False, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
