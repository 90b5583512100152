"""Other people's programs, each in an environment of its own below var/bench, kept from run to run."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from deploy.dev.layout import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

CACHE = CHECKOUT / "var" / "bench"
_INSTALL_SECONDS = 400


class NotInstalled(Exception):
    """What cannot be had on this machine; the bench says so and goes on."""


def python_environment(name: str, packages: Sequence[str]) -> Path:
    """The Python of an environment with these packages and nothing else. Raises NotInstalled."""
    folder = _folder(name, packages)
    python, uv = folder / "bin" / "python", [sys.executable, "-m", "uv"]

    def fill() -> None:
        _install([*uv, "venv", "--quiet", "--python", sys.executable, str(folder)], CHECKOUT)
        _install([*uv, "pip", "install", "--quiet", "--python", str(python), *packages], CHECKOUT)

    _complete(folder, fill)
    return python


def node_environment(name: str, packages: Sequence[str]) -> Path:
    """The folder `node_modules` with these packages; their install scripts are not run. Raises NotInstalled."""
    folder = _folder(name, packages)
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotInstalled(f"{name}: node and npm are missing")

    def fill() -> None:
        folder.mkdir()
        (folder / "package.json").write_text('{"private": true}\n')
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        _install([npm, "install", *quiet, *packages], folder)

    _complete(folder, fill)
    return folder / "node_modules"


def _folder(name: str, packages: Sequence[str]) -> Path:
    identity = hashlib.sha256("\n".join([sys.version, *packages]).encode()).hexdigest()[:8]
    return CACHE / f"{name}-{identity}"


def _complete(folder: Path, fill: Callable[[], None]) -> None:
    """Filled anew unless an earlier run came to its end: a half-made environment is never taken for whole."""
    mark = folder / ".complete"
    if mark.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fill()
    mark.touch()


def _install(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{command[0]}: not done within {_INSTALL_SECONDS} s") from None
    if done.returncode:
        raise NotInstalled(f"expected an install that succeeds, got {(done.stderr or done.stdout).strip()[-300:]!r}")
