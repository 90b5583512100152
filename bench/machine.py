"""The machine at hand: which cores, which tools, and what should be written beside the figures."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

_NEEDED = {"taskset": "util-linux", "setpriv": "util-linux", "nginx": "nginx-light", "wrk": "wrk"}
_INSTALL_SECONDS = 120


class ToolsMissing(Exception):
    """Something that whoever runs the measurements must install."""


@dataclass(frozen=True)
class Cores:
    """Server and load generator never share a core."""

    server: int
    generator: int

    @classmethod
    def choose(cls) -> Cores:
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:  # noqa: PLR2004  # one for each
            raise ToolsMissing(f"expected two cores, one for the server and one for the load, got {len(usable)}")
        return cls(usable[0], usable[1])


def require_tools() -> None:
    """Raises ToolsMissing, after having tried to install them where that touches nobody."""
    missing = _missing()
    if missing and _may_install():
        _install(missing)
        missing = _missing()
    if missing:
        raise ToolsMissing(f"missing on this machine; as root: apt-get install --yes {' '.join(missing)}")


def _missing() -> list[str]:
    # Debian keeps servers in a folder that ordinary users do not search.
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return sorted({package for tool, package in _NEEDED.items() if shutil.which(tool, path=path) is None})


def _may_install() -> bool:
    """Not under systemd: Debian's package would start its own nginx on port 80, open to the network."""
    inside_container = not Path("/run/systemd/system").exists()
    return os.geteuid() == 0 and inside_container and shutil.which("apt-get") is not None


def _install(packages: list[str]) -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(
            ["apt-get", "--quiet", *command],
            env=quiet,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=_INSTALL_SECONDS,
        )


def describe() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvicorn": version("uvicorn"),
        "httptools": version("httptools"),
        "event_loop": f"uvloop {version('uvloop')}",
        "nginx": _first_line(["nginx", "-v"]).rpartition("/")[2],
        "wrk": _first_line(["wrk", "-v"]).partition(" [")[0].removeprefix("wrk "),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _first_line(command: list[str]) -> str:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    program = shutil.which(command[0], path=path)
    if program is None:
        return "absent"
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False, timeout=10)
    return ((done.stdout + done.stderr).splitlines() or ["unknown"])[0]
