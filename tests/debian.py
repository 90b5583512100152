"""Packages of Debian that some tests need; in CI as root, where everything can be, they are installed."""

import fcntl
import os
import subprocess

from deploy.dev.layout import CHECKOUT

APT = ("apt-get", "--option", "Acquire::Retries=5", "--option", "DPkg::Lock::Timeout=600")


def is_installable() -> bool:
    """Whether to lack something is a failure, since a skip there would hide one."""
    return bool(os.environ.get("CI")) and os.geteuid() == 0


def install(*packages: str) -> None:
    """Two processes of a test run take turns: apt does not wait for another that reads its lists."""
    lock = CHECKOUT / "var" / "apt.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            subprocess.run([*APT, *command], check=True, capture_output=True)
