"""The programs Aerogram consists of, as `make run` starts them."""

import http.client
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy import env
from deploy.dev import ports
from deploy.dev.children import Part
from deploy.dev.layout import CHECKOUT, Layout, secret

PUBLISHER_KEYS = "AEROGRAM_PUBLISHER_KEYS_DIR"
_GRANIAN = [sys.executable, "-m", "granian", "--no-ws", "--interface", "wsgi"]
_DEVICE = [sys.executable, "-m", "deploy.device_server"]
_CELERY = [sys.executable, "-m", "celery", "-A", "deploy.celery"]
_WEB = "deploy.wsgi:application"
_KEYS = "deploy.key_service:application"
_MANAGE = [sys.executable, "manage.py"]


@dataclass(frozen=True)
class Addresses:
    """Where the two planes listen. `bind` is an IP address; a phone on the same network needs 0.0.0.0."""

    bind: str
    web_port: int
    device_port: int
    key_port: int | None = None  # the key service runs where it has one

    @classmethod
    def read(cls) -> "Addresses":
        bind = env.text("AEROGRAM_BIND_ADDRESS", ports.LOOPBACK)
        web_port = env.integer("AEROGRAM_WEB_PORT", 8000, minimum=1, maximum=65535)
        device_port = env.integer("AEROGRAM_DEVICE_PORT", 8001, minimum=1, maximum=65535)
        if web_port == device_port:
            expected = f"another port than AEROGRAM_WEB_PORT ({web_port})"
            raise env.EnvError("AEROGRAM_DEVICE_PORT", expected=expected, got=str(device_port))
        key_port = env.integer("AEROGRAM_KEY_PORT", 0, minimum=0, maximum=65535)
        if key_port in (web_port, device_port):
            expected = f"another port than {web_port} and {device_port}"
            raise env.EnvError("AEROGRAM_KEY_PORT", expected=expected, got=str(key_port))
        return cls(bind, web_port, device_port, key_port or None)

    @property
    def local(self) -> str:
        """The host under which this machine reaches what it bound."""
        return {"0.0.0.0": ports.LOOPBACK, "::": "::1"}.get(self.bind, self.bind)  # noqa: S104  read, not bound

    def require_free(self) -> None:
        ports.require_free(self.web_port, variable="AEROGRAM_WEB_PORT", host=self.bind)
        ports.require_free(self.device_port, variable="AEROGRAM_DEVICE_PORT", host=self.bind)
        if self.key_port is not None:
            ports.require_free(self.key_port, variable="AEROGRAM_KEY_PORT", host=self.bind)


def environment(layout: Layout, addresses: Addresses, services: Mapping[str, str]) -> dict[str, str]:
    """Variables of all programs: the caller's own come first, and the publisher's keys are left out."""
    host = f"[{addresses.local}]" if ":" in addresses.local else addresses.local
    defaults = {
        "AEROGRAM_SECRET_KEY": secret(layout.secrets, "secret_key"),
        "AEROGRAM_URL_KEY": secret(layout.secrets, "url_key"),
        "AEROGRAM_VAR_DIR": str(layout.root),
        "AEROGRAM_ONLINE_KEYS_DIR": str(layout.online_keys),
        "AEROGRAM_WEB_URL": f"http://{host}:{addresses.web_port}",
        "AEROGRAM_DEVICE_URL": f"http://{host}:{addresses.device_port}",
        "BLOB_STORE_URL": layout.blobs.as_uri(),
    }
    if addresses.key_port is not None:
        secret(layout.secrets, "key_encryption_key")
        defaults["AEROGRAM_KEY_ENCRYPTION_KEYS_FILE"] = str(layout.secrets / "key_encryption_key")
    inherited = {key: value for key, value in os.environ.items() if value and not _misleads(key, services)}
    return {**defaults, **inherited, **services, "PYTHONUNBUFFERED": "1"}


def manage(name: str, *arguments: str, variables: Mapping[str, str]) -> Part:
    return Part(name=name, command=[*_MANAGE, *arguments], environment=variables, working_folder=CHECKOUT)


def demo(variables: Mapping[str, str]) -> Part:
    return Part(
        name="demo",
        command=[sys.executable, "-m", "deploy.demo"],
        environment={"COLUMNS": "120", **variables},
        working_folder=CHECKOUT,
    )


def programs(layout: Layout, addresses: Addresses, variables: Mapping[str, str]) -> list[Part]:
    publisher = os.environ.get(PUBLISHER_KEYS) or str(layout.publisher_keys)
    beat = ["beat", "--schedule", str(layout.run / "beat-schedule"), "--pidfile", ""]
    return [
        _plane("web", addresses, [*_GRANIAN, "--blocking-threads", "4", _WEB], variables),
        _plane("device", addresses, _DEVICE, variables),
        *([_plane("keys", addresses, [*_GRANIAN, _KEYS], variables)] if addresses.key_port else []),
        manage("signer", "run_signer", variables={**variables, PUBLISHER_KEYS: publisher}),
        manage("ingester", "ingest_events", variables=variables),
        _celery("worker", _worker("worker", "default,publish,light", 2), variables),
        _celery("converter", _worker("converter", "convert", 1), variables),
        _celery("beat", beat, variables),
    ]


def answers(host: str, port: int, path: str = "/healthz") -> Callable[[], bool]:
    """Whether an HTTP server says 200 there."""

    def ask() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=3)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ask


def _plane(name: str, addresses: Addresses, command: list[str], variables: Mapping[str, str]) -> Part:
    port = {"web": addresses.web_port, "device": addresses.device_port, "keys": addresses.key_port}[name]
    assert port is not None, f"{name} is not to run"
    return Part(
        name=name,
        command=[*command, "--host", addresses.bind, "--port", str(port)],
        environment=variables,
        working_folder=CHECKOUT,
        is_ready=answers(addresses.local, port),
    )


def _worker(name: str, queues: str, processes: int) -> list[str]:
    options = ["--queues", queues, "--concurrency", str(processes), "--hostname", f"{name}@%h"]
    return ["worker", *options, "--without-gossip", "--without-mingle", "--loglevel", "INFO"]


def _celery(name: str, arguments: list[str], variables: Mapping[str, str]) -> Part:
    return Part(name=name, command=[*_CELERY, *arguments], environment=variables, working_folder=CHECKOUT)


def _misleads(key: str, services: Mapping[str, str]) -> bool:
    """PGPORT and its like would send clients of the embedded server elsewhere."""
    return key == PUBLISHER_KEYS or (key.startswith("PG") and "DATABASE_URL" in services)
