"""The device plane as a process, nginx with the shipped configuration before it, and a tree exported for it."""

import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from deploy.dev import ports
from deploy.dev.children import Child, Part
from distribution.device_plane.tree import LocalTree
from distribution.tree_export import export_tree
from tests.sdk.fake_runtime import model_file
from tests.simulators import PublishedTree

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx" / "aerogram.conf"
PROGRAM = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
NO_STREAM = "redis://127.0.0.1:9/0"
MAIN = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
{user}
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/aerogram.conf;
}}
"""


@dataclass
class Site:
    """`http` asks nginx; `direct` the device plane."""

    tree: PublishedTree
    public: Path
    url: str
    http: httpx.Client
    direct: httpx.Client
    plane: Child
    nginx: Child
    log: Path

    def export(self) -> None:
        export_tree(LocalTree(self.tree.root), "demo", self.public)

    def start_plane(self) -> None:
        self.plane.start()
        self.plane.wait_until_ready()


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    if PROGRAM is None:
        pytest.skip("no nginx")
    tree = PublishedTree(tmp_path / "blobs" / "tree", now=datetime.now(UTC).replace(microsecond=0))
    tree.release("digits", 1, {"tflite-float32": {"model.json": model_file(1, padding=300_000)}})
    tree.publish()
    with ports.reserved() as plane_port, ports.reserved() as nginx_port:
        yield from running(tmp_path, tree, plane_port, nginx_port)


def running(tmp_path: Path, tree: PublishedTree, plane_port: int, nginx_port: int) -> Iterator[Site]:
    plane, nginx = plane_of(tmp_path, plane_port), nginx_of(tmp_path, plane_port, nginx_port)
    url, direct_url = f"http://127.0.0.1:{nginx_port}", f"http://127.0.0.1:{plane_port}"
    with (
        httpx.Client(base_url=url, trust_env=False, timeout=60) as http,
        httpx.Client(base_url=direct_url, trust_env=False, timeout=60) as direct,
    ):
        site = Site(tree, tmp_path / "public", url, http, direct, plane, nginx, tmp_path / "aerogram.log")
        site.export()
        try:
            site.start_plane()
            nginx.start()
            nginx.wait_until_ready()
            yield site
        finally:
            nginx.stop()
            plane.stop()


def plane_of(folder: Path, port: int) -> Child:
    arguments = ["--host", ports.LOOPBACK, "--port", str(port)]
    part = Part(
        name="device-plane",
        command=[sys.executable, "-m", "deploy.device_server", *arguments],
        environment={
            "PATH": os.environ["PATH"],
            "BLOB_STORE_URL": (folder / "blobs").as_uri(),
            "EVENT_STREAM_URL": NO_STREAM,
            "AEROGRAM_URL_KEY": "for nginx's tests, no secret",
        },
        working_folder=SHIPPED.parents[2],
        is_ready=lambda: answers(port, "/healthz"),
    )
    return Child(part, run=folder, logs=folder)


def nginx_of(folder: Path, plane_port: int, port: int) -> Child:
    """The shipped file with the four things changed that it says to change."""
    text = SHIPPED.read_text()
    changes = {
        "/srv/aerogram/public": str(folder / "public"),
        "127.0.0.1:8001": f"{ports.LOOPBACK}:{plane_port}",
        "listen 8080": f"listen {ports.LOOPBACK}:{port}",
        "/var/cache/nginx/aerogram": str(folder / "cache"),
        "/var/log/nginx/aerogram.log": str(folder / "aerogram.log"),
    }
    for shipped, ours in changes.items():
        assert shipped in text
        text = text.replace(shipped, ours)
    (folder / "aerogram.conf").write_text(text)
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    command = [str(PROGRAM), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx-error.log")]
    part = Part(
        name="nginx",
        command=command,
        environment={"PATH": os.environ["PATH"]},
        working_folder=folder,
        is_ready=lambda: answers(port, "/healthz"),
    )
    return Child(part, run=folder, logs=folder)


def answers(port: int, path: str) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
    except httpx.TransportError:
        return False
    return True
