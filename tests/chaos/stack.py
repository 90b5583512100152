"""All of Aerogram's programs as real processes in a folder of their own, each to be killed and started at will."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
import redis
from celery import Celery

from deploy.cli.client import ControlPlane
from deploy.dev import ports, programs, services
from deploy.dev.children import Child
from tests.processes import is_alive

APPLICATION, CHANNEL = "demo", "production"
# A killed process leaves its pages to the kernel, so what was committed stays; only a power cut needs the waiting.
POSTGRES = {"fsync": "off", "full_page_writes": "off"}
SERVERS = frozenset({"postgres", "broker", "events"})
CONVERSION = "registry.conversion.worker"
# Only what fails waits as long: the machine may be slow, and its disk may stand still for seconds.
PATIENCE_SECONDS = 180.0
HTTP_SECONDS = 60.0


def until(
    condition: Callable[[], object],
    what: str,
    patience_seconds: float = PATIENCE_SECONDS,
    every_seconds: float = 0.05,
) -> Any:
    """The condition's value once it is true. Slower than one would like to look: the programs need the processors."""
    deadline = time.monotonic() + patience_seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience_seconds:g} s for {what}"
        time.sleep(every_seconds)
    return value


def patient_redis(url: str) -> redis.Redis:
    """The package's own client gives up after 5 s, which a write to a slow disk may take."""
    return redis.Redis.from_url(url, socket_timeout=PATIENCE_SECONDS)


@dataclass
class Stack:
    """`children`: every program by its name, the servers among them. `http`: a client without any credentials."""

    folder: Path
    services: services.Services
    variables: dict[str, str]
    children: dict[str, Child]
    server: ControlPlane
    http: httpx.Client

    @property
    def web_url(self) -> str:
        return self.variables["AEROGRAM_WEB_URL"]

    @property
    def device_url(self) -> str:
        return self.variables["AEROGRAM_DEVICE_URL"]

    @property
    def app_url(self) -> str:
        return f"{self.device_url}/v1/apps/{APPLICATION}"

    @property
    def tree(self) -> Path:
        return self.services.layout.blobs / "tree" / APPLICATION

    # -- killing and starting

    def processes(self, name: str) -> list[psutil.Process]:
        """The program's main process first, then all its descendants; conversions must see to their own end."""
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.children[name].pid)
            return [main, *(process for process in main.children(recursive=True) if not is_conversion(process))]
        return []

    def pool(self, name: str) -> list[psutil.Process]:
        """The processes of a Celery worker that run its tasks."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.children[name].pid).children()
        return []

    def kill_main(self, name: str) -> None:
        """kill -9 of the one process that was started; its children are left to themselves."""
        self.children[name].kill()

    def kill(self, *names: str) -> None:
        """kill -9 of the programs with all their processes, as when a container or a machine goes."""
        for name in names:
            found = self.processes(name)
            kill_all(found)
            self.children[name].kill()
            until(lambda found=found: not any(is_alive(process) for process in found), f"the end of {name}")

    def start(self, *names: str) -> None:
        for name in names:
            assert not self.children[name].is_running(), f"{name} runs already"
            self.children[name].finish(grace_seconds=0)
            self._start_ready(self.children[name])

    def restart(self, *names: str) -> None:
        self.kill(*names)
        self.start(*names)

    def ensure_running(self) -> None:
        """Start whatever is down, servers first: what a supervisor does, and a test after one that failed."""
        for name, child in sorted(self.children.items(), key=lambda item: item[1].part.stage):
            if not child.is_running():
                self.start(name)

    def _start_ready(self, child: Child) -> None:
        def is_ready() -> bool:
            # A PostgreSQL that was killed refuses to start until the last of its sessions has noticed.
            if not child.is_running():
                child.start()
            return child.part.is_ready()

        until(is_ready, f"{child.part.name} to be ready")

    def conversions(self) -> list[psutil.Process]:
        """Conversion subprocesses of this stack, whoever their parent is now."""
        return conversions(self.folder)

    def manage(self, *arguments: str) -> None:
        """Run one of `manage.py`'s commands to its end."""
        part = programs.manage("manage", *arguments, variables=self.variables)
        _complete(Child(part, **_places(self.services)))

    # -- looking

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL past Django, on a connection of its own: the last one may have died with its server."""
        connection = psycopg2.connect(self.services.database_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(query, arguments)
                return cursor.fetchall()
        finally:
            connection.close()

    def event_stream(self) -> redis.Redis:
        """Seen past Aerogram, on a connection of its own."""
        return patient_redis(self.services.event_stream_url)

    def log(self, name: str) -> str:
        return self.children[name].log.read_text(errors="replace")

    def workers_answering(self) -> set[str]:
        """Names of the Celery workers that answer through the broker."""
        app = Celery(set_as_current=False, broker=self.services.redis_url)
        with app.connection_for_write() as connection:  # not a pooled one, which died with an earlier broker
            answers = app.control.ping(timeout=1.0, connection=connection)
        return {name.partition("@")[0] for answer in answers for name in answer}

    def revision(self) -> int:
        """What the device plane serves; 0 before the first."""
        health = self.http.get(f"{self.device_url}/healthz").json()
        return int(health["applications"].get(APPLICATION, {}).get("revision", 0))

    # -- the release manager's work

    def version(self, model: str, source: Path, recipes: list[str] | None = None) -> int:
        """Push and convert; the number of the version."""
        number = int(self.server.push(model=model, source=source, recipes=recipes)["number"])
        until(lambda: not self.open_jobs(model, number), f"conversions of {model}:{number}")
        return number

    def open_jobs(self, model: str, number: int) -> list[str]:
        jobs = self.server.version(model, number)["jobs"]
        return [job["recipe"] for job in jobs if job["state"] in {"waiting", "queued", "running"}]

    def publish(self, model: str, number: int) -> int:
        """Release and wait until devices get it; the revision."""
        release = self.server.publish(CHANNEL, model, number, "chaos")
        until(lambda: self.polled_version(model) == number, f"{model}:{number} at devices")
        live = self.server.wait_until_live(CHANNEL, release["id"], timeout_seconds=PATIENCE_SECONDS)
        return int(live["live_revision"])

    def poll(self, model: str) -> httpx.Response:
        query = {"os": "android", "os_version": "15", "runtime": "litert", "runtime_version": "2.3.0"}
        url = f"{self.app_url}/channels/{CHANNEL}/manifests/{model}"
        return self.http.get(url, params=query, headers={"Aerogram-Unit": "chaos-unit"})

    def polled_version(self, model: str) -> int | None:
        answer = self.poll(model)
        answer.raise_for_status()
        manifest = answer.json()["models"][model]["manifest"]
        return manifest["signed"]["model_version"] if manifest else None


@contextmanager
def running(folder: Path, settings: str = "tests.chaos.settings") -> Iterator[Stack]:
    """Start everything below `folder`, whose path must not change; stop it all at the end."""
    planned = services.Services.plan(folder, postgres_settings=POSTGRES)
    web_port, web_socket = ports.reserve()
    device_port, device_socket = ports.reserve()
    addresses = programs.Addresses(ports.LOOPBACK, web_port, device_port)
    children = planned.children
    try:
        planned.start(SERVERS)
        variables = _variables(planned, addresses, settings)
        for name, *arguments in (("migrate", "migrate", "--no-input"), ("first_run", "first_run")):
            _complete(Child(programs.manage(name, *arguments, variables=variables), **_places(planned)))
        for part in programs.programs(planned.layout, addresses, variables):
            children[part.name] = Child(part, **_places(planned))
            children[part.name].start()
        token = (planned.layout.secrets / "api-token").read_text().strip()
        server = ControlPlane(variables["AEROGRAM_WEB_URL"], token, APPLICATION)
        with server.http, httpx.Client(timeout=HTTP_SECONDS) as http:
            stack = Stack(folder, planned, variables, children, server, http)
            _wait_until_up(stack)
            yield stack
    finally:
        _stop(children)
        kill_all(conversions(folder))
        planned.stop()
        web_socket.close()
        device_socket.close()


def _variables(planned: services.Services, addresses: programs.Addresses, settings: str) -> dict[str, str]:
    """pytest's own plugin has put addresses of other servers into our environment; these come last and win."""
    layout = planned.layout
    temporary = layout.root / "tmp"
    temporary.mkdir()
    ours = {
        **planned.environment(),
        "DJANGO_SETTINGS_MODULE": settings,
        "AEROGRAM_VAR_DIR": str(layout.root),
        "AEROGRAM_ONLINE_KEYS_DIR": str(layout.online_keys),
        "AEROGRAM_WEB_URL": f"http://{addresses.local}:{addresses.web_port}",
        "AEROGRAM_DEVICE_URL": f"http://{addresses.local}:{addresses.device_port}",
        "BLOB_STORE_URL": layout.blobs.as_uri(),
        "TMPDIR": str(temporary),
    }
    return programs.environment(layout, addresses, ours)


def _places(planned: services.Services) -> dict[str, Path]:
    return {"run": planned.layout.run, "logs": planned.layout.logs}


def _complete(child: Child) -> None:
    child.start()
    until(lambda: not child.is_running(), f"the end of {child.part.name}")
    child.finish()
    assert child.exit_code() == 0, child.tail(40)


def _wait_until_up(stack: Stack) -> None:
    for name in ("web", "device"):
        stack.children[name].wait_until_ready(PATIENCE_SECONDS)
    for name in ("worker", "converter"):
        until(lambda name=name: re.search(r"celery@|@\S+ ready\.", stack.log(name)), f"{name} to be ready")
    until(lambda: stack.revision() > 0, "the first revision")


def _stop(children: dict[str, Child]) -> None:
    """Programs before servers; nothing of a test is worth a graceful end, but orphans are to be found."""
    for name in [name for name, child in children.items() if child.part.stage > 0]:
        child = children.pop(name)
        with suppress(psutil.NoSuchProcess):
            kill_all(psutil.Process(child.pid).children(recursive=True))
        child.finish(grace_seconds=0)


def conversions(folder: Path) -> list[psutil.Process]:
    """Those whose scratch lies below the folder: others may convert on this machine, too."""
    return [process for process in psutil.process_iter() if is_conversion(process, folder)]


def is_conversion(process: psutil.Process, folder: Path = Path("/")) -> bool:
    with suppress(psutil.Error, OSError):
        command = process.cmdline()
        return CONVERSION in command and Path(command[-1]).is_relative_to(folder) and is_alive(process)
    return False


def kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
